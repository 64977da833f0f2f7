"""The options of the algorithm that the option study trains, one at a time."""

from typing import Any


PRESET = "preset"
# Name -> settings that differ from the environment's preset.
OPTIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    PRESET: (),
    "Hessian of KL": (("fisher_product", "kl_hessian"),),
    "every fifth sample in Fisher products": (("fisher_every", 5),),
    "natural policy gradient": (("line_search", "none"),),
    "batched line search": (("line_search", "batched"),),
    "entropy bonus": (("entropy_coefficient", 0.01),),
    "warm-started CG": (("cg_warm_start", 0.9),),
    "diagonal preconditioner": (("preconditioner", "diagonal"),),
    "Kronecker preconditioner": (("preconditioner", "kronecker"),),
    "adaptive damping": (("adaptive_damping", True),),
    "falling radius": (("final_target_kl", 0.001),),
    "SGD": (("optimizer_type", "sgd"),),
    "falling learning rate": (("final_value_lr", 1e-5),),
    "whole batch": (("value_minibatch_size", 0),),
    "Huber loss": (("value_loss", "huber"),),
    "clipped value loss": (("value_clip", 0.2),),
    "Gauss-Newton critic": (("value_fit", "gauss_newton"),),
    "L-BFGS critic": (("value_fit", "lbfgs"), ("value_epochs", 25)),
}

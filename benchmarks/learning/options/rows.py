"""The options of the algorithm that the option study trains, one at a time."""

from typing import Any, NamedTuple


PRESET = "preset"
# Name -> settings that differ from the environment's preset.
OPTIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    PRESET: (),
    "Hessian of KL": (("fisher_product", "kl_hessian"),),
    "every fifth sample in Fisher products": (("fisher_every", 5),),
    "natural policy gradient": (("line_search", "none"),),
    "entropy bonus": (("entropy_coefficient", 0.01),),
    "falling radius": (("final_target_kl", 0.001),),
    "SGD": (("optimizer_type", "sgd"),),
    "falling learning rate": (("final_value_lr", 1e-5),),
    "whole batch": (("value_minibatch_size", 0),),
}


class LeftOut(NamedTuple):
    """An option that was taken out again.

    Attributes:
        did: what it was for.
        instead: what to do now.
    """

    did: str
    instead: str


_SMALLER = "`cg_damping` and `cg_iters` as they are"
# Name in the study -> what became of it.
LEFT_OUT = {
    "warm-started CG": LeftOut(
        "conjugate gradient begins with a share of the last solution (Martens 2010)",
        _SMALLER,
    ),
    "adaptive damping": LeftOut(
        "damping follows the agreement of predicted and actual improvement "
        "(Levenberg and Marquardt; Martens 2010)",
        _SMALLER,
    ),
    "diagonal preconditioner": LeftOut(
        "the scores' mean squares as preconditioner of conjugate gradient", _SMALLER
    ),
    "Kronecker preconditioner": LeftOut(
        "K-FAC's blocks as preconditioner (Martens and Grosse 2015)", _SMALLER
    ),
    "batched line search": LeftOut(
        "all candidates in one pass; it accepts the same one",
        '`line_search="sequential"`',
    ),
    "Huber loss": LeftOut(
        "a critic's loss that is linear far out (Huber 1964)", "scaled returns"
    ),
    "clipped value loss": LeftOut(
        "no gain beyond a clipped change of a value (PPO2)", "scaled returns"
    ),
    "Gauss-Newton critic": LeftOut(
        "damped Gauss-Newton steps in a trust region of values "
        "(Schulman et al. 2016, eq. 30)",
        "Adam, or a fit of your own: `examples/`",
    ),
    "L-BFGS critic": LeftOut(
        "L-BFGS on the whole batch (pytorch-trpo)",
        "Adam, or a fit of your own: `examples/`",
    ),
}

"""The options of the algorithm that the option study trains, one at a time."""

from typing import Any


PRESET = "preset"
# Name -> settings that differ from the environment's preset.
OPTIONS: dict[str, tuple[tuple[str, Any], ...]] = {
    PRESET: (),
    "Hessian of KL": (("fisher_product", "kl_hessian"),),
    "SGD": (("optimizer_type", "sgd"),),
}

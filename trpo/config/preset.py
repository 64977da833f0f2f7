"""Type of a preset, and settings that several presets share."""

from typing import Any, NamedTuple


class Setting(NamedTuple):
    """A value, and its reason or source."""

    value: Any
    reason: str


class Preset(NamedTuple):
    """A named starting configuration, the same in both backends.

    Attributes:
        name: what `--preset` calls it.
        summary: what it is for, in one line.
        settings: fields of `TrainConfig` and of its `TRPOConfig` (whose names do not
            overlap) that differ from, or repeat with a reason, the default.
    """

    name: str
    summary: str
    settings: dict[str, Setting]


def zoo_radius(action_dimensions: int) -> dict[str, Setting]:
    """The Zoo's radius and damping, in this project's units.

    sb3-contrib bounds the mean of KL over action dimensions, and damps the Fisher
    matrix of that mean; here both are of the joint distribution, as in TRPO, eq. 12.
    """
    each = f"the Zoo's, whose KL is a mean over {action_dimensions} action dimensions"
    return {
        "target_kl": Setting(round(0.01 * action_dimensions, 4), each),
        "cg_damping": Setting(round(0.1 * action_dimensions, 4), each),
    }

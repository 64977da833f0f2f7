"""Formats of the files on disk, and what makes the present one of an older.

A format has a new number once an older program would misread it, or a newer one an
older file. A field that is new and has a default is no new format.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from trpo.common.validation import shown


CONFIG, CHECKPOINT, AGENT = "config.json", "manifest.json", "agent"
# Kind of file -> format that is written.
PRESENT = {CONFIG: 2, CHECKPOINT: 1, AGENT: 1}
FIELD = "format_version"


class Removed(NamedTuple):
    """A setting of an agent that older files have.

    Attributes:
        default: the value with which nothing of it was done.
        reason: why it was taken out, in a few words.
    """

    default: Any
    reason: str


REMOVED: dict[str, Removed] = {
    "preconditioner": Removed("none", "no gain in return or time"),
    "cg_warm_start": Removed(0.0, "no gain in return"),
    "adaptive_damping": Removed(False, "better on one environment, worse on another"),
    "value_fit": Removed("gradient", "more time and no more return"),
    "value_loss": Removed("squared_error", "less return"),
    "value_clip": Removed(None, "less return"),
}
"""Settings of an agent that format 1 of `config.json` has, and format 2 has not."""
REMOVED_DETAILS = ("value_damping", "value_target_kl", "huber_delta")
"""Likewise, of settings that did nothing without one of `REMOVED`."""
OTHER_VALUES: dict[str, dict[Any, Any]] = {"line_search": {"batched": "sequential"}}
"""Values that format 1 has of a setting that is still there -> what does the same."""
REMOVED_STATE: tuple[str, ...] = ("policy_step.",)
"""Beginnings of names of arrays that older checkpoints have of removed settings."""
TRIED = "docs/tried-and-left-out.md"
"""The page that has their measured numbers."""


def without_removed(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration of format 1 without the settings that were removed."""
    agent = values.get("agent")
    if not isinstance(agent, dict):
        return values
    gone = {*REMOVED, *REMOVED_DETAILS}
    kept = {name: value for name, value in agent.items() if name not in gone}
    for name, others in OTHER_VALUES.items():
        if kept.get(name) in tuple(others):  # Not by hash: it may be a list.
            kept[name] = others[kept[name]]
    return {**values, "agent": kept}


# Kind of file and its format -> makes the content that the next one has.
TRANSLATIONS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {
    # Before there were numbers: the same fields.
    (CONFIG, 0): lambda values: values,
    (CONFIG, 1): without_removed,
}


def removed_settings(values: dict[str, Any]) -> list[str]:
    """What an older configuration asks for and no longer is there, a line each.

    Args:
        values: Content of a `config.json`, of any format.
    """
    agent, version = values.get("agent"), values.get(FIELD, 0)
    if not isinstance(agent, dict) or version not in (0, 1):
        return []
    return [
        f"`{name}`: expected {shown(removed.default)}, got {shown(agent[name])}; "
        f"taken out: {removed.reason}."
        for name, removed in REMOVED.items()
        if name in agent and agent[name] != removed.default
    ]


def numbered(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The content of a file, with the number of its format first."""
    return {FIELD: PRESENT[kind], **values}


def translated(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The content of a file in the present format, without its number.

    Raises:
        ValueError: the format is unknown, that of a later version for example.
    """
    content = dict(values)
    version = content.pop(FIELD, 0)
    known = [PRESENT[kind], *(number for name, number in TRANSLATIONS if name == kind)]
    if type(version) is not int or version not in known:
        raise ValueError(
            f"`{FIELD}`: expected one of {sorted(known)}, got {shown(version)}: an "
            "unknown format version; a later version of trpo may have written it."
        )
    for number in range(version, PRESENT[kind]):
        content = TRANSLATIONS[kind, number](content)
    return content

"""Formats of the files on disk, and what makes the present one of an older.

A format has a new number once an older program would misread it, or a newer one an
older file. A field that is new and has a default is no new format.
"""

from collections.abc import Callable
from typing import Any

from trpo.common.validation import shown


CONFIG, CHECKPOINT = "config.json", "manifest.json"
# Kind of file -> format that is written.
PRESENT = {CONFIG: 1, CHECKPOINT: 1}
# Kind of file and its format -> makes the content that the next one has.
TRANSLATIONS: dict[tuple[str, int], Callable[[dict], dict]] = {
    # Before there were numbers: the same fields.
    (CONFIG, 0): lambda values: values,
}
FIELD = "format_version"


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

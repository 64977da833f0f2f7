"""Pages and tables are what their files give, to the byte."""

from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.command import COMMITTED, REPOSITORY


PARTS = list(pages.parts())


@pytest.mark.parametrize("part", PARTS, ids=pages.name_of)
def test_a_page_is_what_its_files_give(part):
    assert part.written() == part.path.read_text(), (
        "python -m benchmarks.pages --publish writes it from its files"
    )


def test_every_table_of_results_is_written_from_files():
    """A page that is not, and is not checked number by number, is nobody's."""
    whole = {part.path for part in PARTS if not part.marker}
    marked = {part.path for part in PARTS if part.marker}
    found: set[Path] = set()
    for folder in ("benchmarks", "docs"):
        found |= set((REPOSITORY / folder).rglob("*.md"))
    assert whole | marked <= found


def test_every_committed_figure_can_be_drawn_anew():
    drawn = {path for path, _ in pages.figures()}
    assert all(path.exists() for path in drawn)
    # Beside throughput.png, by the same call; and what `make demo` draws of its runs.
    others = ("throughput/roofline", "throughput/split", "training/Pendulum-v1")
    rest = {COMMITTED / f"{name}.png" for name in others}
    assert set(COMMITTED.rglob("*.png")) - drawn == rest

"""Each number of a page can be looked up: a wrong one fails, wherever it is put."""

import json
import random
import re
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.cited_numbers import numbers
from benchmarks.command import REPOSITORY
from tests.support.number_check import blocks, numbers_of, problems, same, without_code


# Settings, versions, years, formulas: what was not measured, in the page's own words.
PHRASES = {
    "README.md": (
        "Python 3.11",
    ),
    "docs/compiled.md": (
        "tested over six updates to 1e-9",
        "with 1,000 steps an episode",
        "networks of up to 64 units and 8,192 samples",
        "JAX's 64-bit mode off",
        "reward and 200 steps",
        "Gymnasium 1.4",
    ),
    "docs/costs.md": (
        "stays below 20",
        "Achiam et al. 2017",
        "half of training",
    ),
    "docs/errors.md": (
        "got … (ID, step 3 of its episode)",
        "64-bit mode is off",
        "from environment 1 at the reset",
        "environment 1 failed",
        "killed by signal 9",
        "no answer within 60 s",
    ),
    "docs/install.md": (
        "CUDA 12 and CUDA 13 wheels",
    ),
    "docs/options.md": (
        "Schulman et al. 2015 and 2016",
        "| 0 | ACCEPTED",
        "| 1 | LINE_SEARCH",
        "| 2 | NON_POSITIVE",
        "| 3 | NON_FINITE",
        "| 4 | ZERO",
        "every 5th sample",
        "Schulman et al. 2015, appendix C",
        "Kakade 2001",
        "Williams and Peng 1991",
        "whose 95 % interval",
        "excludes 0",
    ),
    "docs/parity.md": (
        "of a 2-core CPU",
    ),
    "docs/parity_kit.md": (
        "An error above\n  1e-10", "condition number above 1e4",
        "an error of 1e-8", "where that is above 1", "factor of 1.01",
        "LayerNorm adds 1e-6", "1e-5.", "An optimiser: 30 steps",
    ),
    "docs/python.md": (
        "in JAX 64-bit mode",
    ),
    "docs/results.md": (
        "deterministic, 20 episodes a seed",
    ),
    "docs/scale.md": (
        "With 1 to 4 processes",
        "processes wait half an hour",
        "within 1e-11 (tested",
        "What an update costs on 1 to 1,024 devices",
    ),
    "docs/spaces.md": (
        "65,536 options at most",
        "an image, from 0 to 1",
        "At least 36 x 36 pixels",
        "Mnih et al. (2015)",
        "through 16 3 x 3 filters and 128 units",
        "0 where it can't be taken",
        "gradient exactly 0",
    ),
    "docs/training.md": (
        "The exit status is 128", "(130 for Ctrl-C)", "and 75 of a process",
    ),
    "docs/tried-and-left-out.md": (
        "three seeds", "the 95 % interval", "the rows of commit 8972740",
    ),
    "parity_tests/README.md": (
        "The exit status is 1", "Each stage is run twice", "pairwise within 1e-10",
        "exceeds 1e-10", "noise of 2^-40", "within 8 times", "re-run six times",
        "noise of 2^-24", "after every 64 rows", "is near 1 when",
        "Above 8 in any case", "Below 1/20", "is in [1/4, 4]",
        "5 % of all decisions", "noise of 2^-11",
        "half of float32's bound (4)", "up to 20 % ties", "60-digit", "adds 1e-8 in",
        "does 50 updates", "near 0 and 1", "KL is 1e-9", "(exp(d) - 1 - d)",
        "60 digits of", "log(1 - tanh(u)²)",
    ),
    "benchmarks/README.md": (
        "with 95 % intervals", "at 8,192 x 256-256", "2,048 to 131,072 samples x 64-64",
        "256-256", "400-300", "more than 15 s", "half the distance", "95 % bootstrap",
        "is measured twice", "tolerance is 0", "all 10 iterations", "ten times that",
        "about 1.", "s(l) s(l+1)", "2 N P", "2 N (2 P - s0 s1)", "4 N (2 P - s0 s1)",
        "4 N (s0", "4 N (s0 + 1)", "copy of 256 MiB", "an update with 20 CG iterations",
        "less one with 10, over 10", "for ten times",
    ),
    "benchmarks/results/training/tuning.md": (
        "seed of 100 or above", "reported seeds are 0 to 4", "over 20 episodes",
        "last 100 training episodes", '"16 x 64" is', "seed 0", "TRPO, eq. 12",
        "half of the run", "log std of -0.5", "20 steps of the critic", "at a tenth",
        "to a tenth", "On seed 101", "seeds 103, 104, 105, 108",
        "4 x 512, for the preset's 16 x 128", "Seeds 103 to 108",
        "The first 200,000 steps of such runs, seeds 100 to 111",
        "below 130 in training",
        "**4 x 512**", "Seeds 100 to 102", "95 % interval",
    ),
    "benchmarks/results/spaces/tuning.md": (
        "Every run is 100,000 steps on a seed of 100", "reported seeds are 0 to 2",
        "8 environments x 128 steps", "mean of 20 episodes",
        "100,000 steps and 200,000; 8 environments, critic's learning rate 1e-3",
    ),
    "benchmarks/results/spaces/small/README.md": (
        "20 episodes a seed; seeds 0, 1, 2", "more than 0 in", "GRU of seed 1",
        "after 30,720 steps", "after 61,440", "less than 1 is",
    ),
    "benchmarks/results/training/ablations/constant_radius/README.md": (
        "Seed 0 with", "1,000,000 steps, seed 0",
    ),
}  # fmt: skip
KNOWN = numbers()
PARTS = list(pages.parts())
WHOLE = {part.path for part in PARTS if not part.marker}


def test_every_page_of_the_benchmarks_is_checked_in_one_of_the_ways():
    found = {REPOSITORY / "README.md", REPOSITORY / "parity_tests" / "README.md"}
    for folder in ("benchmarks", "docs"):
        found |= set((REPOSITORY / folder).rglob("*.md"))
    by_number = {REPOSITORY / name for name in PHRASES}
    assert found - WHOLE == by_number


def test_the_published_certificate_is_of_a_commit():
    content = json.loads((pages.COMMITTED / "parity" / "parity.json").read_text())
    assert re.fullmatch("[0-9a-f]{7,40}", content["facts"]["commit"])
    assert content["mode"] == "full"
    assert content["passed"]


@pytest.mark.parametrize("name", PHRASES)
def test_each_number_has_a_source(name):
    text = (REPOSITORY / name).read_text()
    assert problems(text, KNOWN, PHRASES[name]) == []


def other(number: str) -> str:
    """A number that is not the one shown."""
    digits = [i for i, character in enumerate(number) if character.isdigit()]
    if not digits:
        return "seven times"
    at = digits[0]
    digit = str(int(number[at]) % 9 + 1)
    return number[:at] + digit + number[at + 1 :]


def planted(text: str) -> list[str]:
    """A page with one of its numbers wrong, each in turn."""
    words, found = without_code(text), []
    for start, block in blocks(words):
        for match in numbers_of(block):
            at = start + match.start()
            wrong = other(match[0])
            found.append(text[:at] + wrong + text[start + match.end() :])
    return found


@pytest.mark.parametrize("name", PHRASES)
def test_a_wrong_number_is_seen(name):
    pages_with_a_fault = planted((REPOSITORY / name).read_text())
    assert pages_with_a_fault or not PHRASES[name]
    unseen = [
        text for text in pages_with_a_fault if not problems(text, KNOWN, PHRASES[name])
    ]
    assert unseen == []


@pytest.mark.parametrize("part", PARTS, ids=pages.name_of)
def test_a_wrong_number_in_a_table_is_seen(part):
    """Ten of each: what is written from files is compared to the byte."""
    text, right, whole = part.path.read_text(), part.text(), part.written()
    assert right in text
    numbers = list(re.finditer(r"\d+", right))
    for match in random.Random(0).sample(numbers, min(10, len(numbers))):
        wrong = right[: match.start()] + other(match[0]) + right[match.end() :]
        assert wrong != right
        assert text.replace(right, wrong) != whole


def test_a_number_that_is_right_elsewhere_does_not_count():
    known = {"a.csv mean": 4983.03, "b.csv mean": 354.2}
    said = "Cheetah 4,983 and Swimmer 354"
    assert problems(f"{said} <!-- from: a.csv mean; b.csv mean -->", known, ()) == []
    for wrong in (
        said,
        f"{said} <!-- from: b.csv mean; a.csv mean -->",
        f"{said} <!-- from: a.csv mean -->",
        f"{said}\n\n<!-- from: a.csv mean; b.csv mean -->",
        f"{said} <!-- from: a.csv mean; c.csv mean -->",
        f"{said} and twice <!-- from: a.csv mean; b.csv mean -->",
        said.replace("4,983", "4,984") + " <!-- from: a.csv mean; b.csv mean -->",
    ):
        assert problems(wrong, known, ()) != [], wrong
    assert problems("in 10 steps", {}, ("in 10 steps",)) == []
    assert problems("in 11 steps", {}, ("in 10 steps",)) != []
    assert problems("in 10.5 steps", {}, ("in 10",)) != []


@pytest.mark.parametrize(
    ("shown", "value", "right"),
    [
        ("4,983", 4983.03, True), ("4,984", 4983.03, False), ("-162", -161.83, True),
        ("2.4e-15", 2.3819e-15, True), ("2.5e-15", 2.3819e-15, False),
        ("1e-10", 1e-10, True), ("0.22", 0.221, True), ("0.23", 0.221, False),
        ("72", 71.55, True), ("16", 16.0, True),
        ("1.0", 1.0, True), ("1.1", 1.0, False),
    ],
)  # fmt: skip
def test_numbers_are_compared_as_they_are_shown(shown, value, right):
    assert same(shown, value) is right


def test_files_that_are_named_exist():
    for key in KNOWN:
        name = key.partition(" ")[0]
        assert (Path(pages.COMMITTED) / name).is_file(), key

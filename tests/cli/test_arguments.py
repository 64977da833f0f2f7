"""A dataclass as a command line, and its help pages."""

import dataclasses
import importlib
from pathlib import Path
from typing import Literal

import pytest
import tyro

from benchmarks.command import REPOSITORY
from trpo.cli.arguments import parse
from trpo.cli.main import COMMANDS, main


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """A part."""

    rate: float = 0.1
    """How fast."""
    sizes: tuple[int, ...] = (1, 2)
    """Of what."""
    limit: float | None = None
    """At most."""
    kind: Literal["plain", "quick"] = "plain"
    """Which."""

    GROUPS = {"part": "rate"}  # noqa: RUF012

    def __post_init__(self):
        if self.rate == -1.0:
            raise ValueError(
                "`rate`: expected a long text, so that none would be broken where a "
                "box of tyro's ends, got -1.0."
            )


@dataclasses.dataclass
class Whole:
    """Do it.

    As told.
    """

    name: tyro.conf.Positional[str]
    """What to do it with."""
    inner: Inner = dataclasses.field(default_factory=Inner)
    """A part."""
    steps: int = 10
    """How often."""
    fast: bool = True
    """Whether to hurry."""
    out: Path | None = None
    """Where."""
    extra: dict[str, bool | int | float | str] = dataclasses.field(default_factory=dict)
    """More."""


EXTRA = {"x": 1, "y": True, "z": 1.5, "w": "t"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a", Whole("a")),
        ("a --steps 1000 --no-fast", Whole("a", steps=1000, fast=False)),
        ("--steps=1_000 a", Whole("a", steps=1000)),
        ("a --rate -0.5 --limit 3", Whole("a", Inner(rate=-0.5, limit=3.0))),
        ("a --limit None --kind quick", Whole("a", Inner(kind="quick"))),
        ("a --sizes 3 4 --out x/y", Whole("a", Inner(sizes=(3, 4)), out=Path("x/y"))),
        ("a --sizes", Whole("a", Inner(sizes=()))),
        ("a --steps 1 --steps 2", Whole("a", steps=2)),
        ("a --extra x 1 y True z 1.5 w t", Whole("a", extra=EXTRA)),
    ],
)
def test_a_line_says_an_object(line, expected):
    assert parse(Whole, line.split(), "do") == expected


def test_what_is_not_typed_is_as_the_given_object_has_it():
    start = Whole("b", Inner(rate=5.0, kind="quick"), steps=3)
    typed = parse(Whole, ["a", "--rate", "2", "--limit", "1"], "do", start)
    assert typed == Whole("a", Inner(rate=2.0, limit=1.0, kind="quick"), steps=3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "expected NAME: What to do it with. See `do --help`."),
        ("a b", "expected options such as --name, got 'b'. See `do --help`."),
        ("a --stepz 3", "`--stepz`: expected an option of `do`, and there is none"),
        ("a --stepz 3", "Did you mean '--steps'? See `do --help-all`."),
        ("a -s 3", "`-s`: expected an option"),
        ("a --steps", "`--steps`: expected a whole number, got nothing."),
        ("a --steps x", "`--steps`: expected a whole number, got x."),
        ("a --steps=1.5", "`--steps`: expected a whole number, got 1.5."),
        ("a --rate fast", "`--rate`: expected a number, got fast."),
        ("a --sizes 1 b", "`--sizes`: expected whole numbers, got 1 b."),
        ("a --kind plane", "expected one of plain, quick, got plane. Did you mean"),
        ("a --fast=yes", "yes"),
        ("a --extra x", "`--extra`: expected NAME VALUE NAME VALUE, got x."),
        ("a --rate -1", "`rate`: expected a long text, so that none would be"),
    ],
)
def test_a_mistake_is_one_line(line, said):
    with pytest.raises(ValueError, match="expected") as error:
        parse(Whole, line.split(), "do")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


SHORT = """\
usage: do NAME [OPTION ...]

Do it.

As told.

  NAME                        What to do it with.

options:
  -h, --help                  this page; --help-all explains all options
  --steps INT                 How often. (default: 10)
  --fast, --no-fast           Whether to hurry. (default: on)
  --out PATH                  Where.
  --extra NAME VALUE ...      More.

more options, which `do --help-all` explains:
  part: --rate --sizes --limit --kind
"""
WHOLE = """
part:
  --rate FLOAT                How fast. (default: 0.1)
  --sizes INT ...             Of what. (default: 1 2)
  --limit FLOAT               At most.
  --kind {plain,quick}        Which. (default: plain)
"""


def test_help_has_a_short_page_and_all(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for asked, page in (
        ("-h", SHORT),
        ("--help", SHORT),
        ("--help-all", SHORT.partition("\nmore")[0] + WHOLE),
    ):
        with pytest.raises(SystemExit) as ended:
            parse(Whole, ["a", asked], "do")
        assert ended.value.code == 0
        assert capsys.readouterr().out == page


def test_every_command_explains_every_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in COMMANDS:
        for asked in ("--help", "--help-all"):
            with pytest.raises(SystemExit) as ended:
                main([name, asked])
            assert ended.value.code == 0
            lines = capsys.readouterr().out.splitlines()
            assert lines[0].startswith(f"usage: trpo {name}")
            assert max(map(len, lines)) <= 80
            assert "None}" not in "".join(lines)
            if name == "train" and asked == "--help":
                assert len(lines) < 70


def test_choices_too_many_for_a_line_are_wrapped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_every_option_of_train_has_a_group_or_is_on_the_short_page(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    page = capsys.readouterr().out
    sections = page.split("\n\n")
    titled = {s.split("\n")[0]: s.count("\n  --") for s in sections if "\n  --" in s}
    assert list(titled)[:4] == ["options:", "policy:", "advantages:", "trust region:"]
    assert max(titled.values()) <= 16  # Before: 40 in one.


def benchmark_modules():
    return [
        path
        for path in sorted((REPOSITORY / "benchmarks").rglob("*.py"))
        if "\n    run_command(main, Arguments)" in path.read_text()
    ]


@pytest.mark.parametrize("path", benchmark_modules(), ids=lambda p: p.stem)
def test_every_benchmark_has_its_help(path, capsys):
    name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    arguments = importlib.import_module(name).Arguments
    with pytest.raises(SystemExit) as ended:
        parse(arguments, ["--help"], name)
    assert ended.value.code == 0
    assert f"usage: {name}" in capsys.readouterr().out

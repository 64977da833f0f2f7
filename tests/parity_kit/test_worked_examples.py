"""The worked examples of docs/parity_kit.md are proved, and the wrong one is not."""

import sys
from pathlib import Path

import pytest

from parity_kit import prove


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "pair", "first"),
    [
        ("parity_mlp", "pair", None),
        ("parity_transformer", "pair", None),
        ("parity_optimizer", "pair", None),
        ("parity_optimizer", "as_its_name_says", "optimizer"),
    ],
)
def test_a_worked_example(name, pair, first, processes, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    module = __import__(name)
    monkeypatch.setitem(sys.modules, name, module)
    chosen = getattr(module, pair)
    certificate = prove(chosen, seeds=1, faults=0, processes=processes)
    assert certificate.verdict == ("passed" if first is None else "failed")
    assert certificate.first_divergence == first

"""Pairs of many shapes through the whole proof, and what is said of wrong use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from parity_kit import Pair, command, compare, prove, record, references
from parity_kit.arrays import load
from tests.parity_kit import example_pairs


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", example_pairs.PAIRS)
def test_verdict_and_first_divergence(name, processes):
    pair, verdict, first = example_pairs.PAIRS[name]
    certificate = prove(pair, 2, processes=processes, precisions=(), faults=0)
    found = certificate.verdict, certificate.first_divergence
    assert found == (verdict, first), certificate.summary()
    assert (
        certificate.exit_status == {"passed": 0, "failed": 1, "undecided": 2}[verdict]
    )


def test_float32_is_judged_by_what_its_own_operations_round(processes):
    """An unstable formula is seen, though float64 hides it; planted faults are seen."""
    certificate = prove(
        example_pairs.ALL["by its inputs"], 3, processes=processes, faults=6
    )
    assert certificate.faults == {"planted": 6, "seen": 6, "unseen": []}
    assert certificate.verdict == "passed", certificate.summary()
    ratios = [row["value"] for row in certificate.rows if row["ring"] == "B"]
    assert len(ratios) > 8
    assert max(ratios) < 4.0
    assert {row["ring"] for row in certificate.rows} == {"A", "B", "C"}
    rounded = prove(example_pairs.ALL["rounded"], 3, processes=processes, faults=0)
    assert (rounded.verdict, rounded.first_divergence) == ("failed", "outputs")
    assert "torch float32" in rounded.reason
    assert "unstable" in rounded.reason


@pytest.mark.parametrize("name", example_pairs.WRONG)
def test_wrong_use_says_what_to_do(name, processes):
    pair, said = example_pairs.WRONG[name]
    with pytest.raises(ValueError, match=r"^") as raised:
        prove(pair, 1, processes=processes)
    assert said in str(raised.value)


def torch_local(x):
    return x


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"optimizer": (torch.optim.Adam, None)}, "needs a loss"),
        ({"steps": 0}, "`steps`"),
        ({"inputs": None}, "`inputs`"),
        ({"torch": 3}, "`torch`"),
        ({"loss": (torch_local,)}, "`loss`"),
        ({"weights": 7}, "`weights`"),
        ({"weights": {"a": np.ones(2), "b": "c"}}, "arrays and names"),
        ({"products": ("hessian",)}, "needs a loss"),
        ({"products": ("determinant",)}, "`products`"),
        ({"torch": None, "jax": None}, "two sides"),
    ],
)
def test_a_pair_is_checked_when_it_is_made(fields, said):
    with pytest.raises(ValueError, match=said):
        Pair(**{"torch": torch_local, "jax": torch_local, "inputs": abs} | fields)


def test_a_local_function_has_to_be_found():
    def local(x):
        return x

    pair = Pair(local, torch_local, example_pairs.rows)
    with pytest.raises(ValueError, match="global of a module in a file"):
        prove(pair)


def test_another_pair_under_the_same_name_is_refused():
    """A script's loop leaves a new process with the first of its pairs."""
    reference = references.of_pair(example_pairs.ALL["objects"])
    assert references.resolve_pair(reference) is example_pairs.ALL["objects"]
    module, number = reference["made"]
    with pytest.raises(ValueError, match="another pair under this name"):
        references.resolve_pair({**reference, "made": [module, number + 1]})


@pytest.mark.parametrize("seeds", [0, -1, True, "3", [], [0.5]])
def test_seeds_are_checked(seeds):
    with pytest.raises(ValueError, match="`seeds`"):
        prove(example_pairs.ALL["equal"], seeds)


def test_what_differs_can_be_run_again(processes, tmp_path):
    pair = example_pairs.ALL["network's slope"]
    certificate = prove(pair, [3], processes=processes, precisions=(), faults=0)
    certificate.write(tmp_path)
    found = load(tmp_path / "first_divergence.safetensors")
    torch_side = example_pairs.TorchNet().double()
    for name, array in found.items():
        if name.startswith("weight "):
            parameter = torch_side.get_parameter(name.removeprefix("weight "))
            parameter.data.copy_(torch.from_numpy(array))
    h = torch_side.table(torch.from_numpy(found["input 0"]))
    hidden = torch_side.norm(torch_side.first(h)).detach().numpy()
    np.testing.assert_allclose(hidden, found["torch probe/hidden"], rtol=1e-12)
    assert np.abs(hidden - found["jax probe/hidden"]).max() > 1e-4
    document = json.loads((tmp_path / "certificate.json").read_text())
    assert document["first_divergence"] == "hidden"


def test_the_fixture_proves_a_pair(parity, request):
    quick = {"seeds": 1, "precisions": (), "faults": 3}
    parity(example_pairs.ALL["weights"], **quick)
    properties = dict(request.node.user_properties)
    assert properties["parity_verdict"] == "passed"
    assert properties["parity_faults_seen"] == "4 of 4"
    with pytest.raises(pytest.fail.Exception, match="first divergence: linear"):
        parity(example_pairs.ALL["a probe"], **quick)


def test_the_certificate_is_written_in_every_form(parity, processes, tmp_path):
    pair = example_pairs.ALL["weights"]
    name = "<script>|x"
    certificate = parity(pair, 1, name=name, precisions=(), faults=0)
    certificate.write(tmp_path)
    forms = {path.suffix for path in tmp_path.iterdir()}
    assert forms == {".json", ".md", ".html", ".png"}
    page = (tmp_path / "certificate.html").read_text()
    assert "<script" not in page
    assert "optimizer/10/w" in page
    table = (tmp_path / "certificate.md").read_text()
    assert "| optimizer/10/w | " in table
    # A folder that is written into again keeps nothing of what was there.
    failed = prove(example_pairs.ALL["a probe"], 1, processes=processes)
    failed.write(tmp_path)
    assert (tmp_path / "first_divergence.safetensors").exists()
    certificate.write(tmp_path)
    assert not (tmp_path / "first_divergence.safetensors").exists()


def test_the_first_part_that_differs_is_named(processes):
    pair = example_pairs.ALL["network's last"]
    certificate = prove(pair, 1, processes=processes, precisions=(), faults=0)
    assert certificate.first_divergence == "outputs"
    assert "first part that differs: last (JAX's last)" in certificate.remarks


def test_stored_results_stand_in_for_a_framework(processes, tmp_path):
    for name, framework in (("weights", "torch"), ("network", "jax")):
        pair = example_pairs.ALL[name]
        record(pair, framework, tmp_path / name, 2, processes=processes)
        assert not list((tmp_path / name).glob("*.pkl"))
        same = compare(pair, tmp_path / name, precisions=(), processes=processes)
        assert (same.verdict, same.first_divergence) == ("passed", None)
    other = example_pairs.ALL["another epsilon"]
    found = compare(other, tmp_path / "weights", processes=processes)
    assert (found.verdict, found.first_divergence) == ("failed", "optimizer")
    with pytest.raises(ValueError, match="`record` wrote"):
        compare(pair, tmp_path)


SCRIPT = """
import numpy as np
import torch, jax.numpy as jnp
from parity_kit import Pair, prove

def inputs(seed):
    return (np.random.default_rng(seed).standard_normal(4),)

def torch_side(x):
    return torch.exp(x)

def jax_side(x):
    return jnp.exp(x)

pair = Pair(torch=torch_side, jax=jax_side, inputs=inputs)
"""
PROVED = """
certificate = prove(pair, seeds=1, precisions=(), faults=0)
print("verdict", certificate.verdict)
"""


def run(arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


BLOCKER = """
import os, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == os.environ["BLOCKED"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
ONE_SIDE = """
import numpy as np
from parity_kit import Pair, compare, prove, record

def inputs(seed):
    return (np.random.default_rng(seed).standard_normal(4),)

pair = Pair(torch="torch:exp", jax="jax.numpy:exp", inputs=inputs)
{proof}
"""
MISSING = """
for attempt in (prove, lambda pair: record(pair, "{missing}", "stored")):
    try:
        attempt(pair)
    except ValueError as error:
        print(str(error).partition(":")[0], "`record` the other side" in str(error))
"""


def test_a_missing_framework_is_named_and_the_other_side_can_be_stored(tmp_path):
    """Not importable in the parent, nor in the processes that it starts."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    for missing, works, said in (
        ("jax", 'record(pair, "torch", "stored", 1)', "stored"),
        ("torch", 'compare(pair, "stored", precisions=()).verdict', "passed"),
    ):
        proof = MISSING.format(missing=missing) + f"print({works})"
        (tmp_path / "port.py").write_text(ONE_SIDE.format(proof=proof))
        found = subprocess.run(
            [sys.executable, "port.py"], cwd=tmp_path, capture_output=True, text=True,
            timeout=300, check=False, env=os.environ | {
                "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "BLOCKED": missing,
            },
        )  # fmt: skip
        named = f"`{missing}` True\n"
        assert found.stdout == f"{named}{named}{said}\n", found.stderr


def test_a_script_without_a_guard_proves_once(tmp_path):
    (tmp_path / "port.py").write_text(SCRIPT + PROVED)
    found = run(["port.py"], tmp_path)
    assert found.stdout == "verdict passed\n", found.stderr


@pytest.fixture
def port(tmp_path, monkeypatch):
    """A folder with a package of pairs, and the command started in it."""
    package = tmp_path / "ported"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sides.py").write_text(SCRIPT)
    (package / "pairs.py").write_text(
        "from .sides import *\n"
        "def other(x): return jnp.exp(x) + 1e-9\n"
        "def both():\n    return [Pair(torch_side, jax_side, inputs), "
        "Pair(torch_side, other, inputs)]\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_of_several_pairs_the_worst_counts(port, processes, capsys):
    arguments = command.Arguments("ported.pairs:both", seeds=1, precisions=(), faults=0)
    assert command.run(arguments, processes) == 1
    printed = capsys.readouterr().out
    assert "PASSED" in printed
    assert "first divergence: outputs" in printed
    assert len(list((port / "parity").rglob("certificate.json"))) == 2


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("broken:pair", "broken.py, line 1"),
        ("nowhere:pair", "no such module"),
        ("ported", "module:name"),
        ("ported.sides:inputs", "expected a Pair"),
        ("ported.sides:nothing", "no such name"),
    ],
)
def test_misuse_is_one_line(port, capsys, pair, said):
    assert command.main([pair]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_neither_framework_is_imported_in_the_parent():
    code = (
        "import parity_kit, sys; from parity_kit import Pair, prove, probe, compare\n"
        "import parity_kit.command, parity_kit.certificate.writing\n"
        "print(sorted({'torch', 'jax', 'flax', 'trpo'} & set(sys.modules)))"
    )
    assert run(["-c", code], ROOT).stdout == "[]\n"

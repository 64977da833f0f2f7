"""The layers of the project: who imports whom, and that both backends look alike."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("trpo", "trpo_torch", "trpo_jax")


def files_of(package: str) -> set[str]:
    """Its files, by their paths below it."""
    folder = ROOT / package
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


# PyTorch's alone, whose derivatives are written by hand: there they are 1.4 to 2.3
# times as fast as automatic ones.
TORCH_ONLY = {f"fast/{name}.py" for name in ("__init__", "critic", "mlp", "policy")}
TORCH_ONLY |= {"fast/products.py", "policy_step/chunked.py"}
# Its sums over processes are written by hand too: JAX's are XLA's.
TORCH_ONLY |= {"devices/reduction.py"}
TORCH_ONLY_NAMES = {
    "Linearization", "linearize", "gradient_of",  # what `jax.linearize` and `grad` are
    "is_fast", "policy_function", "RecurrentPolicyFunction", "layers_of", "split",
    "StateDict",  # as `torch.nn.Module` has it
    "PurePolicy",  # where JAX has a function
}  # fmt: skip
SHARED_FILES = sorted(files_of("trpo_torch") - TORCH_ONLY)
FRAMEWORKS = {"trpo_torch": ("torch",), "trpo_jax": ("jax", "jaxlib", "flax", "optax")}
TRPO_MODULES = [
    f"trpo/{name}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for name in sorted(files_of("trpo"))
    if name != "__main__.py"  # Importing that one runs the command line.
]

LOADED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*{name.split(".")[0] for name in sys.modules})
"""

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import importlib
agent = importlib.import_module(sys.argv[1]).TRPOAgent(3, 2, -1, 1, "cpu", (4,), (4,))
import numpy as np
action, log_prob, value = agent.act(np.zeros((5, 3)))
ones = np.ones(5)
agent.update({"obs": np.zeros((5, 3)), "actions": action, "log_probs": log_prob,
              "returns": ones, "advantages": ones})
print("works")
"""


def run(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_shared_package_loads_no_framework():
    banned = {"torch", "jax", "jaxlib", "flax", "optax", "trpo_torch", "trpo_jax"}
    assert not banned & set(run(LOADED, *TRPO_MODULES).split())


def test_the_check_above_sees_a_framework():
    assert "optax" in run(LOADED, "trpo", "optax").split()


HEAVY = {"matplotlib", "tensorboard", "tyro", "rich", "moviepy", "wandb", "ray"}


@pytest.mark.parametrize(
    ("package", "frameworks"),
    [("trpo", ()), ("trpo_torch", ("torch",)), ("trpo_jax", ("jax", "flax.nnx"))],
)
def test_an_import_brings_nothing_but_its_framework(package, frameworks):
    # Flax itself imports rich.
    brought = set(run(LOADED, *frameworks).split()) if frameworks else set()
    more = set(run(LOADED, package).split()) - brought
    assert not more & {*HEAVY, "torch", "jax"}


@pytest.mark.parametrize("package", ["trpo", "parity_kit"])
def test_import_is_fast(package):
    # For it brings nothing: how fast that is, is the machine's affair.
    brought = (
        f"import sys; before = set(sys.modules); import {package}; "
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(names - sys.stdlib_module_names))"
    )
    assert run(brought) == f"{package}\n"


def test_the_proof_s_library_knows_no_trpo():
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "parity_kit").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in [
            *(alias.name for alias in getattr(node, "names", ())),
            str(getattr(node, "module", "")),
        ]
        if isinstance(node, ast.Import | ast.ImportFrom)
        and name.split(".")[0] in (*PACKAGES, "parity_tests")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("backend", "other"), [("trpo_torch", "trpo_jax"), ("trpo_jax", "trpo_torch")]
)
def test_each_backend_works_without_the_other(backend, other):
    assert run(BLOCKED, backend, other, *FRAMEWORKS[other]) == "works\n"


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_the_blocker_blocks(backend):
    with pytest.raises(AssertionError, match="is blocked"):
        run(BLOCKED, backend, FRAMEWORKS[backend][0])


def public_names(path: Path) -> list[str]:
    """Functions and classes of a module, in order, without private ones."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text()).body
    found = [node.name for node in body if isinstance(node, kinds)]
    return [name for name in found if not name.startswith("_")]


def test_both_backends_have_the_same_files():
    # JAX has a few more.
    assert set(SHARED_FILES) <= files_of("trpo_jax")
    assert len(SHARED_FILES) > 30


@pytest.mark.parametrize("name", SHARED_FILES)
def test_both_backends_have_the_same_public_names_in_the_same_order(name):
    torch_names = [
        public
        for public in public_names(ROOT / "trpo_torch" / name)
        if public not in TORCH_ONLY_NAMES
    ]
    jax_names = public_names(ROOT / "trpo_jax" / name)
    assert [name for name in jax_names if name in torch_names] == torch_names

"""The folder list is the architecture: a folder imports only folders before its own.

`python -m tests.project.test_folder_order` prints the README's picture of it.
"""

import ast
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
# A folder may import those before it in its package's list, never those after it.
ORDER = {
    "trpo": (
        "common", "distributed", "data", "spaces", "config", "environments", "agent",
        "rollout", "callbacks", "training", "runs", "sweeps", "cli",
    ),
    "trpo_jax": (
        "distributions", "devices", "networks", "solvers", "policy_step", "critic",
        "agent", "loop",
    ),
    "trpo_torch": (
        "distributions", "devices", "networks", "solvers", "policy_step", "critic",
        "fast", "agent",
    ),
    "parity_kit": ("weights", "noise", "faults", "certificate"),
    "parity_tests": (
        "common", "reference", "problems", "bridges", "rings",
        "oracles", "suite",
        "mutation", "certificate", "tests",
    ),
    "benchmarks": ("speed", "learning", "scale", "faults", "audit"),
}  # fmt: skip
# Files that stay flat until their folder is made, or until they go; and what stands on
# top of a package, and may import all of it.
FLAT = {
    "trpo": set(),
    "trpo_jax": set(),
    "trpo_torch": set(),
    "parity_kit": {
        "arrays", "defaults", "jax_side", "measures", "pair", "precision", "probes",
        "processes", "references", "results", "rings", "rounding", "sides",
        "tolerances", "torch_side", "worker",
    },
    "parity_tests": set(),
    "benchmarks": set(),
}  # fmt: skip
TOP = {
    "trpo": {"__init__", "__main__"},
    "trpo_jax": {"__init__"},
    "trpo_torch": {"__init__"},
    "parity_kit": {"__init__", "__main__", "command", "judging", "plan", "proof",
        "pytest_plugin",
    },
    "parity_tests": {"__init__", "__main__", "conftest", "fingerprint"},
    "benchmarks": {
        "__init__", "cited_numbers", "command", "csv_files", "demo", "environments",
        "gpu", "gpu_report", "machine", "pages", "versions",
    },
}  # fmt: skip


PACKAGES = {
    "trpo": "neither framework: settings, data, environments, rollouts, loop, runs",
    "trpo_jax": "JAX/Flax backend",
    "trpo_torch": "PyTorch backend, the reference: the same folders and files",
    "parity_kit": "any function in PyTorch proved equal to one in JAX; knows no TRPO",
    "parity_tests": "the two compared, as a pytest suite and as `trpo parity`",
    "benchmarks": "speed, learning, scale, faults, audits",
}


def picture() -> str:
    """Packages and their folders in the order of import, each with its first line."""
    lines = ["```"]
    for package, text in PACKAGES.items():
        lines.append(f"{package + '/':17}{text}")
        if package == "trpo_torch":
            continue
        for folder in ORDER[package]:
            module = ast.parse((ROOT / package / folder / "__init__.py").read_text())
            first = (ast.get_docstring(module) or "").splitlines()[0].rstrip(".")
            lines.append(f"  {folder + '/':15}{first[0].lower()}{first[1:]}")
    lines += [
        f"{'tests/':17}tests of one package at a time, in folders like its own",
        f"{'examples/':17}networks, callbacks, environments; tests run them",
        "```",
    ]
    return "\n".join(lines)


def imported(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """Line and module of each import from the package, deferred ones included."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            lines += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names = [f"{package}.{alias.name}" for alias in node.names]
            lines += [(node.lineno, name) for name in names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            lines.append((node.lineno, node.module))
    return [(line, name) for line, name in lines if name.startswith(f"{package}.")]


def upward(text: str, package: str, folder: str) -> list[str]:
    """Imports of a file in `folder` that reach a folder after it."""
    order = ORDER[package]
    lines = []
    for line, name in imported(ast.parse(text), package):
        other = name.split(".")[1]
        if other in order and order.index(other) > order.index(folder):
            lines.append(f"line {line}: {name}")
    return lines


@pytest.mark.parametrize("package", ORDER)
def test_no_import_goes_upward(package):
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in ORDER[package]
        for path in sorted((ROOT / package / folder).rglob("*.py"))
        if (lines := upward(path.read_text(), package, folder))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "from trpo.agent.base import AgentBase",
        "import trpo.agent.base",
        "def f():\n    from trpo import agent",
        "if TYPE_CHECKING:\n    from trpo.cli import main",
    ],
)
def test_an_import_upward_is_seen(text):
    assert upward(text, "trpo", "config") != []
    assert upward(text, "trpo", "cli") == []


@pytest.mark.parametrize("package", ORDER)
def test_every_file_has_its_place(package):
    folder = ROOT / package
    assert {path.stem for path in folder.glob("*.py")} == FLAT[package] | TOP[package]
    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert folders == set(ORDER[package])


def test_a_folder_can_be_held_in_mind():
    for package in ORDER:
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            if folder != ROOT / package:
                assert len(list(folder.glob("*.py"))) <= 18, folder
    most = {"trpo": 13, "trpo_jax": 9, "trpo_torch": 9, "parity_tests": 11}
    for package, number in most.items():
        assert len(ORDER[package]) <= number


def test_the_readme_s_picture_is_of_these_folders():
    text = (ROOT / "README.md").read_text()
    assert picture() in text


def test_no_private_name_of_another_module_is_used():
    # The original agent's helpers keep the names that they had there.
    original = {f"{package}.agent.original_helpers" for package in ORDER}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{alias.name}"
        for package in ("trpo", "trpo_jax", "trpo_torch")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and str(node.module).partition(".")[0] in ORDER
        and node.module not in original
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert found == []


if __name__ == "__main__":
    print(picture())  # noqa: T201

"""The audit's tables: what they say holds in their files, and what they name exists."""

import ast
import json

import pytest

from benchmarks.audit.other_trpos.report import FINDINGS
from benchmarks.audit.pairs.table import DIFFERENT, EQUAL, ROWS
from benchmarks.command import COMMITTED, REPOSITORY


AUDIT = REPOSITORY / "benchmarks" / "audit"


def assigned(path):
    """Names that a module assigns or defines, without importing it."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def test_the_table_has_sixty_pairs_that_exist():
    assert (len(EQUAL), len(DIFFERENT)) == (30, 30)
    assert len({row.pair for row in ROWS}) == 60
    for row in ROWS:
        module, name = row.pair.split(":")
        assert name in assigned(AUDIT / "pairs" / f"{module}.py"), row.pair
        assert "https://" in row.source


def test_the_pairs_differ_in_every_kind_of_stage():
    stages = {row.first for row in DIFFERENT}
    assert stages > {"defaults", "outputs", "loss", "gradient", "optimizer", "state"}


def test_the_proof_s_verdicts_on_the_pairs():
    results = json.loads((COMMITTED / "audit" / "pairs.json").read_text())["pairs"]
    assert [r["pair"] for r in results] == [row.pair for row in ROWS]
    assert [r["truth"] for r in results] == [row.truth for row in ROWS]
    right = sum(
        r["verdict"] == ("passed" if row.truth == "equal" else "failed")
        for r, row in zip(results, ROWS, strict=True)
    )
    firsts = sum(
        r["found first"] == row.first
        for r, row in zip(results, ROWS, strict=True)
        if row.first
    )
    assert right >= 59
    assert firsts >= 27


def test_each_script_of_a_finding_exists():
    scripts = {finding.script for finding in FINDINGS} - {""}
    assert scripts <= assigned(AUDIT / "other_trpos" / "findings.py")


@pytest.mark.parametrize("backend", ["trpo_torch", "trpo_jax"])
def test_our_own_update_is_the_paper_s(backend):
    results = json.loads(
        (COMMITTED / "audit" / "other_trpos" / "ours.json").read_text()
    )
    for stages in results["scenarios"].values():
        assert max(stages[backend].values()) < 1e-12

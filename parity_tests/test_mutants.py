"""The planted faults are still plantable; `parity_tests.mutation` runs them."""

import ast
import importlib.util
import pathlib

import pytest

from parity_tests import mutation
from parity_tests.mutants import MUTANTS


def source(mutant):
    package, _, rest = mutant.file.partition("/")
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    return (pathlib.Path(folder) / rest).read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_has_its_place_and_is_still_python(mutant):
    text = source(mutant)
    assert text.count(mutant.old) == 1
    planted = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text))


def test_there_are_at_least_forty():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40


def test_the_table_names_survivors_and_what_a_ring_alone_sees():
    verdicts = [
        mutation.Verdict("torch: one", "x.py", {"D": ["index"]}, 1.0),
        mutation.Verdict("jax: two", "x.py", {"A": ["a"], "B": ["b"]}, 1.0),
        mutation.Verdict("jax: three", "x.py", {}, 1.0),
    ]
    assert mutation.only_seen_by(verdicts)["D"] == ["torch: one"]
    table = mutation.table(verdicts)
    assert "2 of 3 caught" in table
    assert "**survived**" in table


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_some_faults_are_of_few_groups_and_others_with_another_seed(seed):
    some = mutation.some_of(list(MUTANTS), 10, seed)
    assert len(set(some)) == 10
    assert len({mutant.group for mutant in some}) <= 3
    assert some == mutation.some_of(list(MUTANTS), 10, seed)
    assert some != mutation.some_of(list(MUTANTS), 10, seed + seed)


def test_any_fault_may_be_drawn():
    draws = (mutation.some_of(list(MUTANTS), 10, str(seed)) for seed in range(400))
    assert {mutant for some in draws for mutant in some} == set(MUTANTS)

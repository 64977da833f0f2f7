"""The planted faults are still plantable; `parity_tests.mutation` runs them."""

import ast
import importlib.util
import pathlib

import pytest

from parity_tests.mutation import run as mutation
from parity_tests.mutation.mutant import Mutant
from parity_tests.mutation.mutants import MUTANTS


def source(mutant):
    (folder,) = importlib.util.find_spec(mutant.package).submodule_search_locations
    return mutant.file(pathlib.Path(folder).parent).read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_has_its_place_and_is_still_python(mutant):
    text = source(mutant)
    planted = mutant.planted(text)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text))


FUNCTIONS = """
class Solver:
    def first(self, x):
        return x + 1

    def second(self, x):
        # A name's é takes two bytes.
        return (
            x +
            1
        )
"""


def fault(place, old, new="x - 1"):
    return Mutant("test", "package", place, old, new)


def test_a_fault_is_found_by_its_function_however_it_is_written():
    planted = fault("solver:Solver.second", "x + 1").planted(FUNCTIONS)
    assert planted.count("x - 1") == 1
    assert "return x + 1" in planted
    assert "x - 1" in ast.unparse(ast.parse(planted).body[0].body[1])


def test_a_place_that_is_not_there_or_not_alone_is_an_error():
    with pytest.raises(ValueError, match=r"expected one Solver\.third"):
        fault("solver:Solver.third", "x + 1").planted(FUNCTIONS)
    with pytest.raises(ValueError, match="expected its place once"):
        fault("solver:", "x + 1").planted(FUNCTIONS)
    with pytest.raises(ValueError, match="expected its place once"):
        fault("solver:Solver.first", "x + 2").planted(FUNCTIONS)


def test_a_file_is_found_in_whatever_folder_it_is(tmp_path):
    for path in ("package/loop/state.py", "package/agent/state.py", "package/fit.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert fault("fit:", "").file(tmp_path) == tmp_path / "package/fit.py"
    path = fault("loop/state:", "").file(tmp_path)
    assert path == tmp_path / "package/loop/state.py"
    for place in ("state:", "it:"):
        with pytest.raises(ValueError, match="expected one"):
            fault(place, "").file(tmp_path)


def test_there_are_at_least_forty():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40


def test_the_table_names_survivors_and_what_a_ring_alone_sees():
    where = ("abc", "PDP-11")
    verdicts = [
        mutation.Verdict("torch: one", "x.py", {"D": ["index"]}, 1.0, *where),
        mutation.Verdict("jax: two", "x.py", {"A": ["a"], "B": ["b"]}, 1.0, *where),
        mutation.Verdict("jax: three", "x.py", {}, 1.0, *where),
    ]
    assert mutation.only_seen_by(verdicts)["D"] == ["torch: one"]
    table = mutation.table(verdicts)
    assert "2 of 3 caught, at commit abc on PDP-11." in table
    assert "**survived**" in table


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_some_faults_are_of_few_groups_and_others_with_another_seed(seed):
    some = mutation.sample_mutants(list(MUTANTS), 10, seed)
    assert len(set(some)) == 10
    assert len({mutant.group for mutant in some}) <= 3
    assert some == mutation.sample_mutants(list(MUTANTS), 10, seed)
    assert some != mutation.sample_mutants(list(MUTANTS), 10, seed + seed)


def test_any_fault_may_be_drawn():
    draws = (
        mutation.sample_mutants(list(MUTANTS), 10, str(seed)) for seed in range(400)
    )
    assert {mutant for some in draws for mutant in some} == set(MUTANTS)

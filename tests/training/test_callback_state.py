"""What a callback remembers comes back as it was, or is refused before training."""

import collections
import dataclasses
import enum
import functools
import json
import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from tests.support.callback_runs import small
from trpo.callbacks.base import Callback, Callbacks, Run
from trpo.callbacks.builtin import SaveBest, Video
from trpo.callbacks.state import CallbackStateError, decoded_state, encoded_state
from trpo.callbacks.wandb import WandbWriter
from trpo.runs.directory import RunDirectory
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


class Rank(enum.IntEnum):
    """A number with a name."""

    FIRST = 1


Point = collections.namedtuple("Point", "x y")
NUMPYS = [
    *(kind(3) for kind in (np.int8, np.uint16, np.int64, np.uint64, np.float16)),
    *(np.float32(0.1), np.float64(-math.inf), np.bool_(True), np.str_("x")),
    *(np.array(2.5), np.array(-(2**63))),
]
SAVED = {
    "best": -math.inf,
    "worst": math.inf,
    "mean": np.float32(0.1),
    "better": np.bool_(True),
    "count": np.int64(2**62),
    "pair": (1, (2.0, [None, ()])),
    "by step": {64: 1.5, (1, 2): "x", "$float": "nan", -math.inf: {}},
    "point": Point(1, Rank.FIRST),
    "text": "\ud800 ± \x1b[31m",
}
NOT_SAVED = {
    "array": np.zeros(3),
    "set": {1},
    "bytes": b"x",
    "complex": 1j,
    "fraction": Fraction(1, 3),
    "path": Path("x"),
    "function": print,
    "huge": 10**5000,
    "date": np.datetime64("2026-01-01"),
    "object": object(),
}


def written_and_read(state):
    return decoded_state(json.loads(json.dumps(encoded_state("X", state))))


def alike(left, right):
    """Equal, where NaN is NaN, with tuples where there were tuples."""
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, list | tuple):
        kind = list if isinstance(left, list) else tuple
        same = type(right) is kind and len(left) == len(right)
        return same and all(map(alike, left, right))
    if isinstance(left, dict):
        # A manifest's keys are sorted.
        values = ([d[key] for key in sorted(d, key=str)] for d in (left, right))
        return {*map(str, left)} == {*map(str, right)} and all(map(alike, *values))
    return type(right) in (type(None), bool, int, float, str) and left == right


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.sampled_from(NUMPYS), st.sampled_from(["$tuple", "$dict", "$float", Rank.FIRST]),
)  # fmt: skip
keys = st.one_of(st.text(), st.integers(), st.sampled_from(["$float", "$dict", "$x"]))
states = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda parts: st.one_of(
            st.lists(parts), st.lists(parts).map(tuple), st.dictionaries(keys, parts)
        ),
        max_leaves=8,
    ),
)


@given(states)
def test_every_state_comes_back_from_json_as_it_was(state):
    assert alike(state, written_and_read(state))


def test_a_state_that_json_knows_is_written_as_it_is():
    state = {"best": -1.5, "seen": [1, {"a": None}], "on": True}
    assert encoded_state("X", state) == state
    # And one of before is read as it is, whatever its keys are.
    old = {"$other": 1, "$float": 2, "x": 3}
    assert decoded_state(old) == old


@pytest.mark.parametrize("name", NOT_SAVED)
def test_what_would_not_come_back_is_refused_with_its_place(name):
    for state, place in (
        ({"a": [0, {"b": NOT_SAVED[name]}]}, r"Notes.get_state\(\)\['a'\]\[1\]\['b'\]"),
        ({"a": (NOT_SAVED[name],)}, r"\['a'\]\[0\]"),
    ):
        with pytest.raises(CallbackStateError, match=place):
            encoded_state("Notes", state)
    deep: list = []
    deep.append(deep)
    with pytest.raises(CallbackStateError, match="levels"):
        encoded_state("Notes", {"deep": deep})


@pytest.mark.parametrize("state", [[1], 3, "x", np.zeros(2), True])
def test_a_state_is_a_dictionary(state):
    with pytest.raises(CallbackStateError, match=r"dictionary from Notes\.get_state"):
        Callbacks(Notes(state)).start(Run(None))
    Callbacks(Notes(None)).start(Run(None))


class Notes(Callback):
    """Has the state that it is given; from some update on, another."""

    def __init__(self, state=None, later=None, update=10**9):
        self.state, self.later, self.update = state, later, update
        self.loaded = None

    def on_update(self, progress):
        if progress.update == self.update:
            self.state = self.later

    def get_state(self):
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def set_state(self, state):
        self.loaded = state


def test_a_run_saves_them_and_a_resumed_one_gets_them_back(tmp_path):
    config = small(eval_interval=0, total_steps=2 * 64)
    longer = dataclasses.replace(config, total_steps=3 * 64)
    train_run(config, tmp_path / "run", callbacks=[Notes(SAVED)])
    resumed = Notes({"nothing": math.nan})
    train_run(longer, tmp_path / "run", callbacks=[resumed], resume=True)
    assert alike(SAVED, resumed.loaded)


@pytest.mark.parametrize("later", [{"x": print}, RuntimeError("lost")], ids=str)
def test_one_that_can_t_be_saved_any_more_loses_nothing_that_was_learned(
    tmp_path, later
):
    config = small(save_best=True)
    notes = Notes({"x": 1}, later, update=3)
    with pytest.warns(UserWarning, match=r"state of Notes was not saved"):
        train_run(config, tmp_path / "run", callbacks=[notes])
    checkpoint = RunDirectory(tmp_path / "run").load()[0]
    assert checkpoint.step == 6 * 64
    assert checkpoint.metadata["callbacks"]["Notes"] == {"x": 1}
    assert RunDirectory(tmp_path / "run" / "best").load()[0].step > 0


def test_names_are_text():
    odd = type("Odd", (Callback,), {"name": 3})
    with pytest.raises(ValueError, match="names that are text"):
        Callbacks(odd())


@pytest.mark.parametrize(
    "states",
    [
        [],
        None,
        *({"SaveBest": state} for state in ({}, [], None)),
        *({"SaveBest": {"best": best}} for best in (
          "x", None, {"$float": "nan"}, {"$float": []}, {"$dict": 3})),
        {"SaveBest": {"$dict": [[[1], 2]]}},
        {"WandbWriter": {"id": "../../x"}},
        {"WandbWriter": {"id": 3}},
        {"Video": {"evaluations": -1}},
        {"Video": {"evaluations": 1.5}},
        {"Video": {"evaluations": 2**62}},
    ],
    ids=str,
)  # fmt: skip
def test_a_state_that_is_not_its_callback_s_is_refused_by_name(states):
    parts = [SaveBest(), Video.__new__(Video), WandbWriter.__new__(WandbWriter)]
    with pytest.raises(CallbackStateError, match="`callbacks`: expected a"):
        Callbacks(parts).set_state(states)
    assert parts[0].best is None


def test_no_warning_where_all_can_be_saved(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Callbacks(Notes(SAVED)).start(Run(None))


def test_one_that_no_reader_would_take_is_refused():
    with pytest.raises(CallbackStateError, match="at most"):
        encoded_state("Notes", {"seen": [0.1] * 400_000})


@pytest.mark.parametrize("state", [{"x": print}, {"x": "y" * 3_000_000}], ids=len)
def test_a_run_that_could_not_be_saved_does_not_start(tmp_path, state):
    run = tmp_path / "run"
    with pytest.raises(CallbackStateError, match=r"Notes\.get_state"):
        train_run(small(), run, callbacks=[Notes(state)])
    # Nothing is in the next one's way.
    assert not run.exists()
    train_run(small(eval_interval=0, total_steps=64), run, callbacks=[Notes({"x": 1})])


class Spare(torch.nn.Linear):
    """Has a weight that nothing depends on, and that is no number."""

    def __init__(self):
        super().__init__(4, 2)
        self.spare = torch.nn.Parameter(torch.tensor([math.nan]))


@pytest.mark.filterwarnings("ignore:.*not used, as a network of your own")
def test_weights_that_could_not_be_saved_are_refused_before_the_first_rollout(
    tmp_path,
):
    make, notes = functools.partial(Trainer, policy_network=Spare()), Notes({})
    notes.on_rollout = lambda _: pytest.fail("it has begun")
    with pytest.raises(ValueError, match=r"policy\.network\.spare"):
        train_run(small(), tmp_path / "run", make_trainer=make, callbacks=[notes])
    assert not (tmp_path / "run").exists()

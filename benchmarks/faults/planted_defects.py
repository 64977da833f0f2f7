"""Planted defects: what protects is taken away, and a row has to say that it is."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import trpo.agent.base
import trpo.agent.state
import trpo.common.files
import trpo.common.tensors
import trpo.config.agent
import trpo.training.trainer
from benchmarks.faults import (
    accepted_configurations as taken,
    checkpoints,
    power_cut,
    runs,
    updates,
)
from benchmarks.faults.row import Row


class Defect(NamedTuple):
    """A defect.

    Attributes:
        plant: takes the protection away, for as long as it is entered.
        run: the row that has to lose something.
        tries: of it.
    """

    plant: Callable[[], contextlib.AbstractContextManager]
    run: Callable[[Row], None]
    tries: int


COPY = """
import os, shutil, time
def copied(old, new, src_dir_fd, dst_dir_fd):
    old, new = (f"/proc/self/fd/{src_dir_fd}/{name}" for name in (old, new))
    shutil.copytree(old, new, copy_function=slowly)
    shutil.rmtree(old)
def slowly(old, new):
    time.sleep(0.01)  # A disk of another day.
    shutil.copy2(old, new)
os.rename = copied
"""


def _nothing(*_: object, **__: object) -> None:
    return None


DEFECTS = {
    "fsync removed": Defect(
        lambda: mock.patch.object(trpo.common.files, "_sync", _nothing),
        power_cut.cut, 100,
    ),
    "rename replaced by a copy": Defect(
        contextlib.nullcontext, lambda row: checkpoints.killed(row, COPY), 60
    ),
    "restore removed": Defect(
        lambda: mock.patch.object(trpo.agent.state.AgentState, "restore", _nothing),
        updates.at_each_line("torch"), 30,
    ),
    "validation of batches removed": Defect(
        lambda: mock.patch.object(trpo.agent.base, "require_finite", _nothing),
        updates.poisoned, 20,
    ),
    "validation of checkpoints removed": Defect(
        lambda: mock.patch.object(
            trpo.common.tensors, "hashlib",
            mock.Mock(**{"sha256.return_value.hexdigest.return_value": "0" * 64}),
        ),
        checkpoints.damaged, 40,
    ),
    "validation of configurations removed": Defect(
        lambda: mock.patch.object(trpo.config.agent, "require_count", _nothing),
        taken.trained, 20,
    ),
    "return to the last update removed": Defect(
        lambda: mock.patch.object(trpo.training.trainer.Trainer, "restore", _nothing),
        runs.stops_saved, 2,
    ),
}  # fmt: skip


def losses(name: str) -> Row:
    """The row under a planted defect; it has to have lost something."""
    defect = DEFECTS[name]
    # A fault that counts its cases first takes a hundredth of them.
    row = Row(defect.tries, fraction=0.01)
    with defect.plant():
        defect.run(row)
    return row

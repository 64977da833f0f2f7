"""Updates of many ranks and devices: the update of one, and equal bytes on all."""

import json
import os
import subprocess
import sys

import pytest

from parity_tests.rings import sharded
from trpo_torch.devices import reduction


@pytest.mark.parametrize(
    ("size", "dtype"), [*((n, "float32") for n in sharded.SIZES), (3, "float64")]
)
def test_ranks_of_torch(size, dtype):
    judged = sharded.judge("torch", dtype, size, seeds=(0, 1, 2))
    assert judged.ok, judged


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_of_torch_in_parts(size):
    case = sharded.IN_PARTS
    judged = sharded.judge("torch", "float64", size, seeds=(0, 1), case=case)
    assert judged.ok, judged


def test_devices_of_jax():
    # In a process of its own: JAX counts its devices once.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "parity_tests.rings.sharded",
            "jax",
            "float32",
            "2",
            "3",
            f"3:{sharded.IN_PARTS}",
        ],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row[0] for row in rows] == [2, 3, 3]
    assert all(row[-1] for row in rows), rows


def mean_of_means(values):
    """The field's usual fault: each rank's own mean, averaged."""
    return values.mean() / 3


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("share", mean_of_means),
        ("weighted", lambda tangent: type(tangent)(*(f / 3 for f in tangent))),
        ("row_weight", lambda rows: 1.0 / rows / 3),
        ("total", lambda part: part),
    ],
)
def test_a_mean_of_means_is_seen(monkeypatch, name, fault):
    monkeypatch.setattr(reduction, name, fault)
    judged = sharded.judge("torch", "float64", 3, seeds=(0,))
    assert max(judged.worst.values()) > 1e3


def test_one_rank_that_decides_alone_is_seen(monkeypatch):
    exact = sharded._all_reduce

    def rounded(tensor):
        exact(tensor)
        # What a reduction in another order on each rank would do.
        tensor *= 1.0 + 1e-15 * sharded.ThreadRanks.local.ranks.rank

    monkeypatch.setattr(sharded, "_all_reduce", rounded)
    assert not sharded.judge("torch", "float64", 2, seeds=(0,)).equal

"""An update on 1 to 4 ranks or devices, judged as the update on one is.

`python -m parity_tests.rings.sharded BACKEND DTYPE SIZE[:CASE] …` prints a line of
JSON: the error of each quantity, over its bound. JAX's devices are virtual ones of a
CPU, as many as JAX_NUM_CPU_DEVICES says, PyTorch's ranks threads of this process;
shards are uneven.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from parity_kit.tolerances import UNSTABLE, relative_error
from parity_tests import bridges
from parity_tests.common.tolerances import BOUNDS
from parity_tests.problems import cases
from parity_tests.reference import all_stages
from parity_tests.reference.all_stages import EXACT
from parity_tests.reference.networks import Noise
from parity_tests.reference.problem import Problem
from parity_tests.reference.update import Stages
from parity_tests.rings import evidence, rings
from parity_tests.rings.rank_threads import ThreadRanks, run_ranks


SIZES = (1, 2, 3, 4)
CASE = "trained"
# With Fisher products over every third sample, and few rows at a time.
IN_PARTS = "step_options"
OPTIONS = {CASE: {}, IN_PARTS: {"batch_chunk_size": 7}}


class Judged(NamedTuple):
    """An update of many against the reference.

    Attributes:
        size: ranks or devices.
        worst: quantity -> error over its bound; more than 1 is too much.
        decisions: whether all were the reference's.
        equal: whether all ranks had the same bytes of weights and optimiser after it.
    """

    size: int
    worst: dict[str, float]
    decisions: bool
    equal: bool

    @property
    def ok(self) -> bool:
        """Whether the update is that of one."""
        return max(self.worst.values()) <= 1.0 and self.decisions and self.equal


def judge(
    framework: str, dtype: str, size: int, seeds: Sequence[int], case: str = CASE
) -> Judged:
    """Ring A's bounds for float64, ring B's for float32, over these problems."""
    ratios: dict[str, list[float]] = {}
    decisions = equal = True
    for seed in seeds:
        item = _evidence_of(case, seed)
        problem = _problem(case, seed)
        stages, digests = update(framework, problem, dtype, size)
        equal &= len(set(digests)) == 1
        got = item._replace(results={(framework, dtype): stages})
        decisions &= all(
            stages.decisions[name] == item.reference.decisions[name]
            for name in stages.decisions
        )
        for name in stages.values:
            ratios.setdefault(name, []).append(_over_bound(got, framework, dtype, name))
    worst = {n: float(np.sqrt(np.mean(np.square(r)))) for n, r in ratios.items()}
    return Judged(size, worst, bool(decisions), equal)


def _problem(case: str, seed: int) -> Problem:
    problem = cases.build(case, seed)
    config = dataclasses.replace(problem.config, **OPTIONS[case])
    return problem._replace(config=config)


@functools.lru_cache
def _evidence_of(case: str, seed: int) -> evidence.Evidence:
    """The reference for one problem, and how far rounding may be from it."""
    problem, teacher = cases.build(case, seed), bridges.teacher_of(case, seed)

    def rerun(noise: Noise, decisions: dict[str, int] | None) -> Stages:
        return all_stages.run(problem, teacher, noise, decisions)

    return evidence.collect(case, seed, rerun, {}, problem.config)


def _over_bound(
    item: evidence.Evidence, framework: str, dtype: str, quantity: str
) -> float:
    got, want = item.results[framework, dtype].values, item.reference.values
    if quantity in EXACT:
        same = np.array_equal(got[quantity], want[quantity].astype(dtype))
        return 0.0 if same else np.inf
    if dtype == "float32":
        ratio = rings.precision_ratio(item, framework, quantity)
        return 0.0 if ratio is None else ratio / UNSTABLE
    scale = item.reference.scales.get(quantity, 0.0)
    error = relative_error(got[quantity], want[quantity], scale)
    return error / BOUNDS[quantity, dtype].value


def update(
    framework: str, problem: Problem, dtype: str, size: int
) -> tuple[Stages, list[bytes]]:
    """A sharded update's results, and what each rank has learned, as bytes."""
    if framework == "jax":
        return _on_devices(problem, dtype, size)
    with mock.patch("trpo_torch.devices.reduction.distributed.all_reduce", _all_reduce):
        updates = run_ranks(size, lambda ranks: _of_rank(problem, dtype, ranks))
    return updates[0][0], [digest for _, digest in updates]


def _on_devices(problem: Problem, dtype: str, size: int) -> tuple[Stages, list[bytes]]:
    import jax

    from trpo_jax.agent import agent as jax_agent

    devices = jax.local_devices()[:size]
    if len(devices) < size:
        raise RuntimeError(
            f"expected {size} devices, found {len(devices)}: set the environment "
            f"variable JAX_NUM_CPU_DEVICES={size} before JAX starts."
        )
    agent, digests = bridges.make_agent("jax", problem, dtype), []
    agent.shard(devices=devices)
    own_copy = jax_agent.own_copy

    def note_all(tree: Any) -> Any:
        # Every device's copy: the agent goes on with the first's.
        leaves = jax.tree.leaves(tree)
        for index in range(size):
            shards = [leaf.addressable_shards[index].data for leaf in leaves]
            digests.append(b"".join(np.asarray(shard).tobytes() for shard in shards))
        return own_copy(tree)

    with mock.patch.object(jax_agent, "own_copy", note_all):
        stages = bridges.run_update(agent, problem)
    return stages, digests


def _of_rank(problem: Problem, dtype: str, ranks: ThreadRanks) -> tuple[Stages, bytes]:
    ranks.local.ranks = ranks
    agent = bridges.make_agent("torch", problem, dtype)
    agent.shard(ranks)
    part = part_of(len(problem.batch["obs"]), ranks.rank, ranks.size)
    batch = {name: array[part] for name, array in problem.batch.items()}
    stages = bridges.run_update(agent, problem._replace(batch=batch))
    return stages, agent.digest().tobytes()


def _all_reduce(tensor: Any) -> None:
    ThreadRanks.local.ranks.all_reduce(tensor)


def part_of(count: int, rank: int, size: int) -> slice:
    """Uneven: of `count` samples, the second rank has three times the first's, …"""
    edges = np.round(count * (np.arange(size + 1) / size) ** 2).astype(int)
    return slice(int(edges[rank]), int(edges[rank + 1]))


def main() -> None:
    """Judge an update on each number of ranks or devices."""
    framework, dtype, *sizes = sys.argv[1:]
    judged = []
    for text in sizes:
        size, _, case = text.partition(":")
        judged.append(judge(framework, dtype, int(size), (0,), case or CASE))
    print(json.dumps([(*one, one.ok) for one in judged]))


if __name__ == "__main__":
    main()

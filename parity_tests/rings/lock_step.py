"""The two backends trained side by side on a real environment, update by update.

Lock step: before each iteration the JAX run takes over the torch run's whole state, so
that every difference was made in that one iteration. Closed loop: both start from one
seed and are left alone, which shows how soon rounding errors become different runs.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.training.trainer import Trainer


DECISIONS = (
    "policy/status",
    "policy/line_search_accepted",
    "policy/line_search_frac",
    "cg/iterations",
)
# Relative difference of parameters above which two runs have diverged.
DIVERGED = 1e-3


class Comparison(NamedTuple):
    """Difference between the two backends after one iteration.

    Attributes:
        update: number of the update, from 1.
        parameters: largest relative difference (Euclidean norm) of any weight array.
        optimizer: the same of the critic's optimiser state.
        observations: largest absolute difference of any observation of the rollout.
        decisions: names of the discrete decisions that differ.
    """

    update: int
    parameters: float
    optimizer: float
    observations: float
    decisions: tuple[str, ...]


def relative_difference(
    left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], prefixes: tuple
) -> float:
    """Largest norm-wise relative difference over arrays of these name prefixes.

    Raises:
        AssertionError: the two do not hold the same names.
    """
    names = sorted(name for name in left if name.startswith(prefixes))
    assert names == sorted(name for name in right if name.startswith(prefixes))
    worst = 0.0
    for name in names:
        difference = np.linalg.norm(np.asarray(left[name] - right[name]))
        worst = max(worst, difference / max(np.linalg.norm(left[name]), 1e-300))
    return float(worst)


def default_config(dtype: str = "float64", **overrides: object) -> TrainConfig:
    """Pendulum-v1 with its preset, but the original agent's critic fit.

    The preset's longer and faster fit is chaotic in some updates: there Adam amplifies
    a change of the returns by one part in 1e16 to one of 1e-8 in the critic, in one
    backend alone (`critic_sensitivity`), so that nothing finer could be compared.
    """
    critic = {"value_lr": 3e-4, "value_epochs": 10}
    return preset_config("Pendulum-v1", dtype=dtype, seed=0, **critic | overrides)


def critic_sensitivity(config: TrainConfig, update: int) -> float:
    """Relative change of PyTorch's critic when the returns change by 1e-16 relative.

    Two backends' critics may differ by as much after that update.
    """
    trainer = Trainer(dataclasses.replace(config, backend="torch"))
    try:
        trainer.run(num_updates=update - 1)
        rollout = trainer.collector.collect(trainer.agent, config.rollout_steps)
        batch, _ = trainer.prepare_batch(rollout)
        state = trainer.agent.get_state()
        noise = np.random.default_rng(0).standard_normal(batch.returns.shape)
        critics = []
        for returns in (batch.returns, batch.returns * (1.0 + 1e-16 * noise)):
            trainer.agent.set_state(state)
            trainer.agent.update(batch._replace(returns=returns))
            critics.append(trainer.agent.get_state())
    finally:
        trainer.close()
    return relative_difference(*critics, ("value.",))


def _pair(config: TrainConfig) -> tuple[Trainer, Trainer]:
    torch_trainer = Trainer(dataclasses.replace(config, backend="torch"))
    return torch_trainer, Trainer(dataclasses.replace(config, backend="jax"))


def _iterate(update: int, torch_trainer: Trainer, jax_trainer: Trainer) -> Comparison:
    torch_metrics = torch_trainer.train_once().metrics
    jax_metrics = jax_trainer.train_once().metrics
    left, right = torch_trainer.get_state(), jax_trainer.get_state()
    return Comparison(
        update=update,
        parameters=relative_difference(left, right, ("policy.", "value.")),
        optimizer=relative_difference(left, right, ("value_optimizer.",)),
        observations=float(
            np.abs(torch_trainer.collector.obs - jax_trainer.collector.obs).max()
        ),
        decisions=tuple(
            # The fraction is one of a table's entries, rounded once in each dtype.
            name
            for name in DECISIONS
            if not np.isclose(
                torch_metrics[name], jax_metrics[name], rtol=1e-6, atol=0.0
            )
        ),
    )


def lock_step(config: TrainConfig, iterations: int) -> Iterator[Comparison]:
    """Differences after each iteration, both backends starting it from one state."""
    torch_trainer, jax_trainer = _pair(config)
    try:
        for update in range(1, iterations + 1):
            lost = jax_trainer.set_state(torch_trainer.get_state())
            assert lost == (), f"environments {lost} did not replay"
            yield _iterate(update, torch_trainer, jax_trainer)
    finally:
        torch_trainer.close()
        jax_trainer.close()


def closed_loop(config: TrainConfig, iterations: int) -> Iterator[Comparison]:
    """Differences after each iteration of two runs that share only their seed."""
    torch_trainer, jax_trainer = _pair(config)
    try:
        for update in range(1, iterations + 1):
            yield _iterate(update, torch_trainer, jax_trainer)
    finally:
        torch_trainer.close()
        jax_trainer.close()


def explain_divergence(comparisons: list[Comparison]) -> str:
    """A sentence on when two runs first differ by more than 1e-3, and why."""
    diverged = next((c for c in comparisons if c.parameters > DIVERGED), None)
    if diverged is None:
        last = comparisons[-1]
        return (
            f"the closed loops have not parted: after {last.update} updates the "
            f"parameters differ by {last.parameters:.1e} (relative), the present "
            f"observations by {last.observations:.1e}"
        )
    first_difference = next((c for c in comparisons if c.decisions), None)
    if first_difference is not None and first_difference.update <= diverged.update:
        differing = ", ".join(first_difference.decisions)
        cause = (
            f"update {first_difference.update} decided differently ({differing}) "
            "because rounding put the two on different sides of a threshold"
        )
    else:
        cause = (
            "no decision differed: rounding errors grew through the environment, whose "
            "dynamics and actions amplify them from update to update"
        )
    growth = ", ".join(
        f"{c.update}: {c.parameters:.0e}" for c in comparisons[: diverged.update]
    )
    return (
        f"the closed loops part by more than {DIVERGED:g} at update {diverged.update}; "
        f"{cause}. Relative parameter difference by update: {growth}"
    )


def report(lock_steps: list[Comparison], closed_loops: list[Comparison]) -> str:
    """The comparison as a short table in plain text."""
    rows = [
        (
            "policy and critic weights, relative",
            f"{_worst(lock_steps, 1):.1e}",
            "1e-09",
        ),
        ("critic's optimiser state, relative", f"{_worst(lock_steps, 2):.1e}", "1e-09"),
        ("observations after the rollout", f"{_worst(lock_steps, 3):.1e}", "-"),
        ("decisions that differ", str(sum(len(c.decisions) for c in lock_steps)), "0"),
    ]
    lines = [
        f"Parity in float64 on Pendulum-v1: lock step over {len(lock_steps)} updates",
        f"  {'quantity':<40} {'worst difference':>16} {'bound':>8}",
        *(f"  {name:<40} {value:>16} {bound:>8}" for name, value, bound in rows),
        f"  two runs from one seed, in float64 too: {explain_divergence(closed_loops)}",
    ]
    return "\n".join(lines)


def _worst(comparisons: list[Comparison], field: int) -> float:
    return max(comparison[field] for comparison in comparisons)


def main() -> int:
    """Print the table; exit status 1 when a bound is broken."""
    lock_steps = list(lock_step(default_config(), iterations=10))
    closed_loops = list(closed_loop(default_config(), iterations=10))
    print(report(lock_steps, closed_loops))
    sound = max(_worst(lock_steps, 1), _worst(lock_steps, 2)) <= 1e-9
    return 0 if sound and not any(c.decisions for c in lock_steps) else 1


if __name__ == "__main__":
    sys.exit(main())

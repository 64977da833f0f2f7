"""Lock-step shadow training: all implementations take each update of a real run.

Training curves of two backends can't be compared: rounding of 1e-7 becomes another
line-search index within a few updates, and then another trajectory. So one run trains,
and at each of its updates both backends, in both precisions, and the third
implementation are put into its state and given its batch. Then the rings judge that one
update like any problem of the grid.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from parity_kit.tolerances import relative_error
from parity_tests import bridges
from parity_tests.common.canonical import round32
from parity_tests.reference import all_stages
from parity_tests.reference.problem import Case, Problem
from parity_tests.rings import rings
from parity_tests.rings.evidence import Evidence, collect
from trpo.common.random_streams import Purpose, RandomStream, minibatch_orders
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.spaces.action_heads import Head
from trpo.training.trainer import Trainer


STEPS, ENVS = 64, 4
LAYERS = (32, 24)
LEADER = ("torch", "float64")
AGENTS = (LEADER, ("torch", "float32"), ("jax", "float64"), ("jax", "float32"))
LEARNED = ("policy.", "value.", "value_optimizer.")


class ShadowUpdate(NamedTuple):
    """One update in lock step.

    Attributes:
        step_64: relative error of JAX float64's step against torch float64's.
        critic_64: likewise, the critic.
        step_torch_32: torch float32's step against torch float64's.
        step_jax_32: JAX float32's step.
        ratio_torch_32: torch float32's error over its predicted spread, the worse of
            new policy and new critic; NaN where a decision was a tie.
        ratio_jax_32: likewise, JAX.
        decisions_64: whether both float64 backends took the same decisions.
        decisions_32: likewise the float32 backends, against float64.
        kl: mean KL of the leader's step.
    """

    step_64: float
    critic_64: float
    step_torch_32: float
    step_jax_32: float
    ratio_torch_32: float
    ratio_jax_32: float
    decisions_64: bool
    decisions_32: bool
    kl: float


def run(env_id: str, updates: int) -> list[Evidence]:
    """Evidence on each of the first updates of a run on `env_id`."""
    return list(_train(env_id, updates))


def judge(evidence: list[Evidence]) -> list[rings.Row]:
    """Rings A, B and D on the updates of one run."""
    rows = [row for item in evidence for row in rings.identity(item)]
    rows += rings.precision(evidence)
    return rows + [row for item in evidence for row in rings.decisions(item)]


def history(evidence: list[Evidence]) -> list[ShadowUpdate]:
    """A summary of each update."""
    return [_summary(item) for item in evidence]


def _train(env_id: str, updates: int) -> Iterator[Evidence]:
    config = TRPOConfig(
        policy_layer_sizes=LAYERS, critic_layer_sizes=LAYERS, dtype="float64",
        value_epochs=2,
    )  # fmt: skip
    trainer = Trainer(
        TrainConfig(
            env_id=env_id, backend="torch", num_envs=ENVS, rollout_steps=STEPS,
            agent=config,
        )
    )  # fmt: skip
    try:
        for update in range(updates):
            rollout = trainer.collector.collect(trainer.agent, STEPS)
            batch = trainer.prepare_batch(rollout).batch._asdict()
            normalizer = trainer.agent.observation_normalizer
            if normalizer is not None:
                batch["obs"] = normalizer.normalize(batch["obs"], np.dtype("float64"))
            state = trainer.agent.get_state()
            problem = _problem(env_id, update, config, trainer.agent.head, state, batch)
            results, after = _update_all(problem)
            yield collect(
                env_id,
                update,
                lambda noise, decisions, problem=problem: all_stages.run_update(
                    problem, noise, decisions
                ),
                results,
                config,
            )
            trainer.agent.set_state(state | after)
            trainer.agent.observe(rollout.obs[rollout.valid])
    finally:
        trainer.close()


def _problem(
    env_id: str, update: int, config: TRPOConfig, head: Head, state: dict, batch: dict
) -> Problem:
    """One update of the run as a problem; numbers are rounded to float32 first."""
    size, obs_dim = batch["obs"].shape
    case = Case(
        name=env_id, why="a real rollout", batch=size, obs_dim=obs_dim,
        act_dim=head.act_dim, distribution=head.distribution,
        action_sizes=head.action_sizes, layers=LAYERS,
    )  # fmt: skip
    learned = {
        name: array if array.dtype.kind == "i" else round32(array)
        for name, array in state.items()
        if name.startswith(LEARNED)
    }
    columns = {
        name: round32(array.reshape(size, -1))
        for name, array in batch.items()
        if array is not None
    }
    # The orders that a new agent with this seed draws first.
    orders = minibatch_orders(
        RandomStream(update, Purpose.MINIBATCH).at(0),
        epochs=config.value_epochs,
        size=size,
    ).copy()
    return Problem(
        case=case, seed=update, config=config, state=learned, batch=columns,
        orders=orders, nearby={}, probe=np.zeros(0), rollout={},
    )  # fmt: skip


def _update_all(problem: Problem) -> tuple[dict, dict[str, np.ndarray]]:
    """Every agent's results on the problem, and the leader's state after it."""
    results, after = {}, {}
    for framework, dtype in AGENTS:
        agent = bridges.make_agent(framework, problem, dtype)
        results[framework, dtype] = bridges.run_update(agent, problem)
        if (framework, dtype) == LEADER:
            state = agent.get_state()
            after = {n: a for n, a in state.items() if n.startswith(LEARNED)}
    return results, after


def _summary(item: Evidence) -> ShadowUpdate:
    lead = item.results[LEADER]
    step_norm = float(
        lead.values["metric/policy/step_norm"]
        * lead.values["metric/policy/line_search_frac"]
    )

    def step_error(framework: str, dtype: str) -> float:
        got = item.results[framework, dtype].values["update/policy"]
        error = float(np.linalg.norm(got - lead.values["update/policy"]))
        return error / step_norm if step_norm > 0 else error

    def ratio(framework: str) -> float:
        if not item.comparable("update/policy", item.results[framework, "float32"]):
            return math.nan
        return max(
            rings.precision_ratio(item, framework, quantity) or 0.0
            for quantity in ("update/policy", "update/critic")
        )

    return ShadowUpdate(
        step_64=step_error("jax", "float64"),
        critic_64=relative_error(
            item.results["jax", "float64"].values["update/critic"],
            lead.values["update/critic"],
        ),
        step_torch_32=step_error("torch", "float32"),
        step_jax_32=step_error("jax", "float32"),
        ratio_torch_32=ratio("torch"),
        ratio_jax_32=ratio("jax"),
        decisions_64=item.results["jax", "float64"].decisions == lead.decisions,
        decisions_32=item.results["jax", "float32"].decisions
        == item.results["torch", "float32"].decisions
        == lead.decisions,
        kl=float(lead.values["metric/policy/kl"]),
    )

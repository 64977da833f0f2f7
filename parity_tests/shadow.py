"""Lock-step shadow training: at each update of a real run, all from one state.

Training curves of two backends can't be compared: rounding of 1e-7 becomes another
line-search index within a few updates, and then another trajectory. So the torch
backend trains in float64, and at each update the other backends and precisions are put
into its state, given its batch, and compared after that one update.
"""

from typing import NamedTuple

import numpy as np

from parity_tests.canonical import flatten
from parity_tests.tolerances import relative_error
from trpo.backends import make_agent
from trpo.config import TrainConfig, TRPOConfig
from trpo.training import Trainer


STEPS = 64


class ShadowUpdate(NamedTuple):
    """One update in lock step; errors are relative to the leader's result.

    Attributes:
        step_64: JAX float64's step against torch float64's.
        critic_64: likewise, the critic.
        step_torch_32: torch float32's step.
        step_jax_32: JAX float32's step.
        decisions_64: whether both float64 backends took the same decisions.
        decisions_32: likewise the float32 backends, against float64.
        kl: mean KL of the leader's step.
    """

    step_64: float
    critic_64: float
    step_torch_32: float
    step_jax_32: float
    decisions_64: bool
    decisions_32: bool
    kl: float


DECISIONS = (
    "policy/status",
    "policy/line_search_accepted",
    "policy/line_search_frac",
    "cg/iterations",
)


def run(env_id: str, updates: int) -> list[ShadowUpdate]:
    """Train torch in float64 on `env_id` and compare at each update."""
    trainer = Trainer(_config(env_id, "torch", "float64"))
    spec = trainer.collector.spec
    agents = {("torch", "float64"): trainer.agent}
    for key in (("torch", "float32"), ("jax", "float64"), ("jax", "float32")):
        config = _config(env_id, *key)
        agents[key] = make_agent(config, spec)
    history = []
    try:
        for _ in range(updates):
            rollout = trainer.collector.collect(trainer.agent, STEPS)
            batch = trainer.prepare_batch(rollout)._asdict()
            history.append(_lock_step(agents, batch))
            trainer.agent.observe(rollout.obs[rollout.valid])
    finally:
        trainer.close()
    return history


def _config(env_id: str, framework: str, dtype: str) -> TrainConfig:
    agent = TRPOConfig(
        policy_layer_sizes=(32, 24), critic_layer_sizes=(32, 24), dtype=dtype,
        value_epochs=2,
    )  # fmt: skip
    return TrainConfig(
        env_id=env_id, backend=framework, num_envs=4, rollout_steps=STEPS, agent=agent
    )


def _lock_step(agents: dict, batch: dict[str, np.ndarray]) -> ShadowUpdate:
    state = agents["torch", "float64"].get_state()
    # Exact in float32, so that all four agents start from the same numbers.
    state = {
        n: a if a.dtype.kind == "i" or n.startswith("observation")
        else a.astype(np.float32).astype(np.float64)
        for n, a in state.items()
    }  # fmt: skip
    batch = {n: a.astype(np.float32) for n, a in batch.items()}
    before = flatten(state, "policy.")
    steps, critics, decisions, kl = {}, {}, {}, 0.0
    for (framework, dtype), agent in agents.items():
        own = {
            n: a if n.startswith(("observation", "random")) or a.dtype.kind == "i"
            else a.astype(dtype)
            for n, a in state.items()
        }  # fmt: skip
        agent.set_state(own)
        metrics = agent.update(batch)
        after = agent.get_state()
        key = (framework, dtype)
        steps[key] = flatten(after, "policy.").astype(np.float64) - before
        critics[key] = flatten(after, "value.")
        decisions[key] = [round(metrics[name], 6) for name in DECISIONS]
        if key == ("torch", "float64"):
            kl = metrics["policy/kl"]
    lead = ("torch", "float64")
    return ShadowUpdate(
        step_64=relative_error(steps["jax", "float64"], steps[lead]),
        critic_64=relative_error(critics["jax", "float64"], critics[lead]),
        step_torch_32=relative_error(steps["torch", "float32"], steps[lead]),
        step_jax_32=relative_error(steps["jax", "float32"], steps[lead]),
        decisions_64=decisions["jax", "float64"] == decisions[lead],
        decisions_32=decisions["jax", "float32"]
        == decisions["torch", "float32"]
        == decisions[lead],
        kl=kl,
    )


# A step's bound in lock step: ring A's, and for float32 what ring B found at most.
STEP_64, STEP_32 = 1e-10, 1e-3


def passed(history: list[ShadowUpdate]) -> bool:
    """Whether every update kept to the bounds, float64 decisions included."""
    return all(
        update.step_64 <= STEP_64
        and update.critic_64 <= STEP_64
        and update.decisions_64
        and (
            not update.decisions_32
            or max(update.step_torch_32, update.step_jax_32) <= STEP_32
        )
        for update in history
    )

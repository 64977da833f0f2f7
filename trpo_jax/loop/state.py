"""Canonical NumPy state <-> the state of compiled training."""

from collections.abc import Mapping

import jax
import numpy as np

from trpo.agent.state import (
    check_entry,
    check_state,
    count_entry,
    entry_like,
    require_mapping,
)
from trpo.common.validation import LARGEST_COUNT
from trpo.training.state import (
    COMPILED,
    RECENT_EPISODES,
    Layout,
    agent_state,
    check_training_state,
)
from trpo_jax.agent.agent import TRPOAgent
from trpo_jax.loop.iteration import LoopState
from trpo_jax.loop.statistics import Moments


def training_state(
    agent: TRPOAgent, host: LoopState, action_draws: int
) -> dict[str, np.ndarray]:
    """A run's state as `trpo.training.trainer.Trainer.get_state` names it.

    The agent's part is what `TRPOAgent.get_state` returns, of either backend. The
    host's loop can go on from it too, but starts new episodes.

    Args:
        agent: Of the run; takes over what was learned.
        host: The state, of NumPy arrays.
        action_draws: Steps of each environment so far.
    """
    learned, moments = jax.device_put(host.learner, agent.device), None
    if agent.observation_normalizer is not None:
        count, *others = _named(host.observation_moments).values()
        moments = (float(count), *others)
    draws = {"minibatch_draws": int(host.update), "action_draws": action_draws}
    before = agent.snapshot()
    agent.restore(before._replace(learned=learned, moments=moments, **draws))
    known = min(int(host.episodes), RECENT_EPISODES)
    environments = host.environments
    size = len(environments.steps)
    returns, lengths = environments.episode_return, environments.steps
    state = agent.get_state() | {
        "training.update": np.array(host.update, dtype=np.int64),
        "training.episodes": np.array(host.episodes, dtype=np.int64),
        "training.recent_episodes": np.array(
            host.recent[RECENT_EPISODES - known :], dtype=np.float64
        ),
        # To the host's loop these are episodes that it can't restore.
        "environment.episode": np.full(size, int(host.episodes), dtype=np.int64),
        "environment.episode_return": np.array(returns, dtype=np.float64),
        "environment.episode_length": np.array(lengths, dtype=np.int64),
        "environment.replayable": np.zeros(size, dtype=bool),
        "environment.obs": np.array(environments.obs),
    }
    scaler = _named(host.return_moments)
    scaler["discounted"] = np.array(host.discounted, dtype=np.float64)
    state |= {f"return_scaler.{name}": array for name, array in scaler.items()}
    for i, leaf in enumerate(jax.tree.leaves(environments)):
        state[f"{COMPILED}{i}"] = np.array(leaf)
    return state


def check_loop_state(
    layout: Layout, template: LoopState, state: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Copies of the arrays of a member's state, as `training_state` named them.

    Args:
        layout: Of its run.
        template: A state of the same shapes.
        state: Under canonical names.

    Raises:
        ValueError: it is of another configuration, or the host loop's; names the entry.
    """
    require_mapping(state)
    for name in ("training.update", "training.episodes"):
        # 32-bit numbers on the device.
        check_entry(state, name, count_entry(LARGEST_COUNT))
    leaves = jax.tree.leaves(template.environments)
    entries = {f"{COMPILED}{i}": entry_like(leaf) for i, leaf in enumerate(leaves)}
    mine = [n for n in state if str(n).startswith(COMPILED)]
    compiled = check_state({n: state[n] for n in mine}, entries)
    rest = {n: state[n] for n in state if n not in mine}
    checked = check_training_state(rest, layout) | compiled
    same = ("obs", "episode_length", "episode_return")
    for i, name in enumerate(same, len(leaves) - len(same)):
        if (compiled[f"{COMPILED}{i}"] != checked[f"environment.{name}"]).any():
            raise ValueError(
                f"`state['{COMPILED}{i}']`: expected what 'environment.{name}' is, got "
                "another."
            )
    return checked


def loop_state(
    agent: TRPOAgent, template: LoopState, state: Mapping[str, np.ndarray]
) -> LoopState:
    """The loop's state from arrays that `check_loop_state` has accepted.

    Args:
        agent: Of the run; takes over what was learned.
        template: A state of the same shapes.
        state: Under canonical names.
    """
    agent.set_state(agent_state(state))
    leaves, structure = jax.tree.flatten(template.environments)
    environment_leaves = [state[f"{COMPILED}{i}"] for i in range(len(leaves))]
    real = template.discounted.dtype
    observation_moments = template.observation_moments
    if agent.observation_normalizer is not None:
        moments = agent.observation_normalizer.moments.get_state()
        observation_moments = _moments(moments, real)
    saved = state["training.recent_episodes"]
    recent = np.zeros((RECENT_EPISODES, 2), real)
    recent[RECENT_EPISODES - len(saved) :] = saved
    scaler = {name: state[f"return_scaler.{name}"] for name in Moments._fields}
    return LoopState(
        learner=jax.device_get(agent.backend.state),
        observation_moments=observation_moments,
        return_moments=_moments(scaler, real),
        discounted=state["return_scaler.discounted"].astype(real),
        environments=jax.tree.unflatten(structure, environment_leaves),
        recent=recent,
        update=np.array(state["training.update"], np.int32),
        episodes=np.array(state["training.episodes"], np.int32),
    )


def _named(moments: Moments) -> dict[str, np.ndarray]:
    """Moments in float64, named as by `trpo.data.normalization.RunningMoments`."""
    return {k: np.array(v, dtype=np.float64) for k, v in moments._asdict().items()}


def _moments(state: Mapping[str, np.ndarray], dtype: np.dtype) -> Moments:
    return Moments(**{name: np.asarray(a, dtype) for name, a in state.items()})

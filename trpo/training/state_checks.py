"""Checks that the state of a training fits before any of it is used.

What a run has counted bounds all else: an environment has made as many steps as there
were rollouts' steps, an episode has at least one, an open one that can be replayed has
its actions. A state that a stranger has made up is refused by the name of its entry,
or is one that a run could have.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from trpo.agent.state import (
    Entry,
    agent_entries,
    check_entry,
    check_state,
    count_entry,
    moments_entries,
    require_mapping,
    require_moments,
)
from trpo.config.choices import LARGEST_STEP
from trpo.config.run import TrainConfig
from trpo.rollout.collector import MAX_BAD_RESETS
from trpo.rollout.open_episodes import MAX_REPLAY_STEPS
from trpo.rollout.transitions import Limits
from trpo.spaces.architecture import CELLS, NONE
from trpo.spaces.observations import ONE_HOT
from trpo.spaces.spaces import PolicySpec
from trpo.training.state import RECENT_EPISODES


# Each resume may begin an episode anew in each environment.
MOST_RESUMES = 10**6
# Rounding makes the largest larger.
SLACK = 1.0 + 1e-3
COMPILED = "environment.compiled."
"""Prefix of what compiled training has of its environments, which no other reads."""
Arrays = Mapping[str, np.ndarray]


class Layout(NamedTuple):
    """Configuration and sizes that the state of a run has to fit.

    Attributes:
        config: of the run.
        spec: of its environments' spaces.
        obs: dtype of its observations, by name.
        agent: a state of its agent.
    """

    config: TrainConfig
    spec: PolicySpec
    obs: str
    agent: Arrays

    @property
    def limits(self) -> Limits:
        """Largest absolute values of what environments return."""
        return Limits.of(self.config.agent.dtype, self.config.normalize_observations)


class _Counts(NamedTuple):
    """Numbers of steps and episodes, which bound all else in a state.

    Attributes:
        steps: of all environments.
        per_environment: of each of them.
        episodes: that have ended.
    """

    steps: int
    per_environment: int
    episodes: int


def check_training_state(state: Arrays, layout: Layout) -> dict[str, np.ndarray]:
    """Copies of the arrays of a whole run's state.

    That of a compiled run is one too, in which no open episode can be restored.

    Raises:
        ValueError: it does not fit; names the entry.
    """
    require_mapping(state)
    state = _with_host_obs(state, layout.obs)
    checked = check_state(state, training_entries(state, layout))
    for name in ("return_scaler.", "observation_normalizer.", "costs."):
        if f"{name}mean" in checked:
            require_moments(checked, name)
    begun, ended = checked["environment.episode"].sum(), checked["training.episodes"]
    if begun < ended:
        raise ValueError(
            f"`state['environment.episode']`: expected {ended} at least in sum, as "
            f"that many episodes have ended, got {begun}."
        )
    if layout.spec.structure is not None:
        for name in (n for n in checked if n.startswith("environment.actions.")):
            layout.spec.head.check_actions(f"state[{name!r}]", checked[name])
    return checked


def _with_host_obs(state: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """The state as the host's loop has it, with observations of this dtype.

    Compiled training rounds them; older checkpoints have the 0 and 1 of choices in
    larger numbers.
    """
    compiled = f"{COMPILED}0" in state
    state = {n: a for n, a in state.items() if not str(n).startswith(COMPILED)}
    obs = np.asarray(state.get("environment.obs"))
    rounded = compiled and obs.dtype.kind == "f" and np.isfinite(obs).all()
    choices = dtype == ONE_HOT.name and obs.dtype.kind == "i" and np.isin(obs, (0, 1))
    if rounded or np.all(choices):
        state["environment.obs"] = obs.astype(dtype)
    return state


def training_entries(state: Arrays, layout: Layout) -> dict[str, Entry]:
    """The entries that a state with these counts has."""
    counts = _counts(state, layout.config)
    limits, config = layout.limits, layout.config
    entries = agent_entries(layout.agent)
    entries["random.seed"] = count_entry(config.seed, config.seed)
    draws = entries["random.action_draws"]
    entries["random.action_draws"] = draws._replace(low=counts.per_environment)
    largest_sum = limits.rewards * max(counts.per_environment, 1) * SLACK
    known = min(counts.episodes, RECENT_EPISODES)
    entries |= {
        "training.update": count_entry(LARGEST_STEP),
        "training.episodes": count_entry(counts.steps),
        "training.recent_episodes": Entry(
            "float64",
            (known, 2),
            [-largest_sum, 1],
            [largest_sum, counts.per_environment],
            whole=[False, True],
        ),
    }
    if (name := "training.recent_successes") in state:
        told = min(np.asarray(state[name]).size, known)
        entries[name] = Entry("float64", (told,), 0, 1, whole=True)
    # Twice: compiled training counts in float32, and rounds.
    scaled = 2 * counts.steps if config.scale_returns else 0
    parts = {"return_scaler": _scaler(config, scaled, largest_sum)}
    parts["environment"] = _environment(state, layout, counts, largest_sum)
    if config.agent.cost_limit is not None:
        sums = Entry("float64", (known,), -largest_sum, largest_sum)
        low, high = (
            [-largest_sum, 1, 0],
            [largest_sum, counts.per_environment, largest_sum],
        )
        ended = 3 if counts.episodes else 0
        parts["costs"] = _scaler(config, scaled, largest_sum) | {
            "recent_episodes": sums,
            "ended": Entry("float64", (ended,), low[:ended], high[:ended]),
        }
    return entries | {
        f"{part}.{name}": entry
        for part, part_entries in parts.items()
        for name, entry in part_entries.items()
    }


def _counts(state: Arrays, config: TrainConfig) -> _Counts:
    per_update = config.num_envs * config.rollout_steps
    most = count_entry(LARGEST_STEP // per_update)
    updates = int(check_entry(state, "training.update", most))
    steps, per_environment = updates * per_update, updates * config.rollout_steps
    episodes = int(check_entry(state, "training.episodes", count_entry(steps)))
    return _Counts(steps, per_environment, episodes)


def _scaler(config: TrainConfig, vectors: int, largest: float) -> dict[str, Entry]:
    moments = moments_entries(1, largest, vectors)
    discounted = Entry("float64", (config.num_envs,), -largest, largest)
    return moments | {"discounted": discounted}


def _environment(
    state: Arrays, layout: Layout, counts: _Counts, largest_sum: float
) -> dict[str, Entry]:
    """Open episodes, and what a recurrent agent remembers of them."""
    size, agent = layout.config.num_envs, layout.config.agent
    most_begun = (MAX_BAD_RESETS + 1) * (counts.steps + 1) + MOST_RESUMES
    sums = Entry("float64", (size,), -largest_sum, largest_sum)
    largest = layout.limits.obs
    entries = {
        "episode": Entry("int64", (size,), 0, most_begun),
        "episode_return": sums,
        "episode_length": Entry("int64", (size,), 0, counts.per_environment),
        "replayable": Entry("bool", (size,)),
        "obs": Entry(layout.obs, (size, layout.spec.obs_dim), -largest, largest),
    }
    if agent.cost_limit is not None:
        entries["episode_cost"] = sums
    if agent.recurrent != NONE and counts.per_environment:
        # What a cell puts out is within 1; the rest of an LSTM's state gains 1 a step.
        units = CELLS[agent.recurrent].states * agent.recurrent_size
        most = np.full(units, counts.per_environment * SLACK)
        most[: agent.recurrent_size] = SLACK
        for name in ("policy_memory", "critic_memory"):
            entries[name] = Entry(agent.dtype, (size, units), -most, most)
    lengths, replayable = (
        check_entry(state, f"environment.{name}", entries[name])
        for name in ("episode_length", "replayable")
    )
    return entries | _histories(np.where(replayable, lengths, 0), layout.spec)


def _histories(lengths: np.ndarray, spec: PolicySpec) -> dict[str, Entry]:
    """The actions to replay, of `lengths` [B] steps, as the environment takes them."""
    if (lengths > MAX_REPLAY_STEPS).any():
        raise ValueError(
            f"`state['environment.episode_length']`: expected {MAX_REPLAY_STEPS} at "
            f"most of an episode that can be replayed, got {lengths.max()}."
        )
    bounds: list = [None, None]
    if spec.structure is None:  # Else as sampled, and clipped when they are sent.
        bounds = [
            np.reshape(bound.astype(spec.action_dtype), spec.action_shape)
            for bound in (spec.action_low, spec.action_high)
        ]
    dtype, shape = spec.action_dtype.name, spec.action_shape
    return {
        f"actions.{i}": Entry(dtype, (int(lengths[i]), *shape), *bounds)
        for i in np.flatnonzero(lengths)
    }

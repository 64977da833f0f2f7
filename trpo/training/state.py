"""The state of a training: its parts by name, and checks that a saved one fits.

What a run has counted bounds all else: an environment has made as many steps as there
were rollouts' steps, an episode has at least one, an open one that can be replayed has
its actions. A state that a stranger has made up is refused by the name of its entry,
or is one that a run could have.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

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
from trpo.data.rollout import Episode
from trpo.rollout.collector import MAX_BAD_RESETS
from trpo.rollout.open_episodes import MAX_REPLAY_STEPS
from trpo.rollout.transitions import Limits
from trpo.spaces.architecture import CELLS, NONE
from trpo.spaces.observations import ONE_HOT
from trpo.spaces.spaces import PolicySpec


# Episodes that `rollout/episode_return_mean` averages over, as in Stable-Baselines3.
RECENT_EPISODES = 100
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
        largest_sum: of rewards or costs of one environment.
    """

    steps: int
    per_environment: int
    episodes: int
    largest_sum: float


class Counters:
    """Updates and episodes of a training, and what the newest were.

    Returns and lengths, and, of those that told, whether they were successes.
    """

    def __init__(self) -> None:
        self.updates = self.episodes = 0
        self.recent, self.successes = np.zeros((0, 2)), np.zeros(0)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Count an update, and the episodes that ended in its rollout."""
        ended = np.array([episode[:2] for episode in episodes]).reshape(-1, 2)
        self.updates += 1
        self.episodes += len(ended)
        self.recent = np.concatenate([self.recent, ended])[-RECENT_EPISODES:]
        told = [one.success for one in episodes if one.success is not None]
        self.successes = np.append(self.successes, told)[-RECENT_EPISODES:]

    def means(self) -> tuple[float, float] | None:
        """Mean return and mean length of the newest; None before one has ended."""
        if not len(self.recent):
            return None
        returns, lengths = self.recent.T
        return float(returns.mean()), float(lengths.mean())

    def success_rate(self) -> float | None:
        """Of the newest that told; None before one has."""
        return float(self.successes.mean()) if len(self.successes) else None

    def snapshot(self) -> tuple[Any, ...]:
        """The state as it is now, for `restore`."""
        return self.updates, self.episodes, self.recent, self.successes

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Make `get_state` what it was."""
        self.updates, self.episodes, self.recent, self.successes = snapshot

    def get_state(self) -> dict[str, np.ndarray]:
        """State to be saved, under the names of a checkpoint.

        Successes are left out where no environment tells of any.
        """
        told = {"recent_successes": self.successes.copy()}
        return (told if len(self.successes) else {}) | {
            "update": np.array(self.updates, dtype=np.int64),
            "episodes": np.array(self.episodes, dtype=np.int64),
            "recent_episodes": self.recent.copy(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `get_state` returned."""
        self.updates, self.episodes = int(state["update"]), int(state["episodes"])
        self.recent = np.array(state["recent_episodes"], dtype=np.float64)
        self.successes = np.array(state.get("recent_successes", ()), dtype=np.float64)


def agent_state(state: Arrays) -> dict[str, np.ndarray]:
    """The agent's part of a training state."""
    others = tuple(f"{part}." for part in PARTS)
    return {name: array for name, array in state.items() if not name.startswith(others)}


def part_of(state: Arrays, part: str) -> dict[str, Any]:
    """A part of a training state, without its name; "" for the agent's."""
    if not part:
        return agent_state(state)
    names = [name for name in state if name.startswith(f"{part}.")]
    return {name.removeprefix(f"{part}."): state[name] for name in names}


def unrecorded(state: Arrays) -> list[int]:
    """Environments that can't be restored in the middle of their episode."""
    environment = part_of(state, "environment")
    lost = ~environment["replayable"] & (environment["episode_length"] > 0)
    return [int(i) for i in np.flatnonzero(lost)]


def check_training_state(state: Arrays, layout: Layout) -> dict[str, np.ndarray]:
    """Copies of the arrays of a whole run's state.

    That of a compiled run is one too, in which no open episode can be restored.

    Raises:
        ValueError: it does not fit; names the entry.
    """
    require_mapping(state)
    state = _with_host_obs(state, layout.obs)
    checked = check_state(state, training_entries(state, layout))
    for name in [n for n in checked if n.endswith(".squared_deviations")]:
        require_moments(checked, name.removesuffix("squared_deviations"))
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
    counts = _counts(state, layout)
    entries = agent_entries(layout.agent)
    entries["random.seed"] = count_entry(layout.config.seed, layout.config.seed)
    draws = entries["random.action_draws"]
    entries["random.action_draws"] = draws._replace(low=counts.per_environment)
    return entries | {
        f"{part}.{name}": entry
        for part, (_, part_entries) in PARTS.items()
        for name, entry in part_entries(state, layout, counts).items()
    }


def _counts(state: Arrays, layout: Layout) -> _Counts:
    config = layout.config
    per_update = config.num_envs * config.rollout_steps
    most = count_entry(LARGEST_STEP // per_update)
    updates = int(check_entry(state, "training.update", most))
    steps, per_environment = updates * per_update, updates * config.rollout_steps
    episodes = int(check_entry(state, "training.episodes", count_entry(steps)))
    largest_sum = layout.limits.rewards * max(per_environment, 1) * SLACK
    return _Counts(steps, per_environment, episodes, largest_sum)


def _counters(state: Arrays, layout: Layout, counts: _Counts) -> dict[str, Entry]:
    largest, longest = counts.largest_sum, counts.per_environment
    known, told = min(counts.episodes, RECENT_EPISODES), {}
    if (successes := state.get("training.recent_successes")) is not None:
        most = min(np.asarray(successes).size, known)
        told["recent_successes"] = Entry("float64", (most,), 0, 1, whole=True)
    return told | {
        "update": count_entry(LARGEST_STEP),
        "episodes": count_entry(counts.steps),
        "recent_episodes": Entry(
            "float64",
            (known, 2),
            [-largest, 1],
            [largest, longest],
            whole=[False, True],
        ),
    }


def _scaler(_: Arrays, layout: Layout, counts: _Counts) -> dict[str, Entry]:
    # Twice: compiled training counts in float32, and rounds.
    vectors = 2 * counts.steps if layout.config.scale_returns else 0
    return moments_entries(1, counts.largest_sum, vectors) | {
        "discounted": _sums(layout, counts)
    }


def _costs(state: Arrays, layout: Layout, counts: _Counts) -> dict[str, Entry]:
    if layout.config.agent.cost_limit is None:
        return {}
    largest, known = counts.largest_sum, min(counts.episodes, RECENT_EPISODES)
    width = 3 if counts.episodes else 0
    low, high = [-largest, 1, 0], [largest, counts.per_environment, largest]
    return _scaler(state, layout, counts) | {
        "recent_episodes": Entry("float64", (known,), -largest, largest),
        "ended": Entry("float64", (width,), low[:width], high[:width]),
    }


def _sums(layout: Layout, counts: _Counts) -> Entry:
    """A sum of rewards or costs of each environment."""
    largest = counts.largest_sum
    return Entry("float64", (layout.config.num_envs,), -largest, largest)


def _environment(state: Arrays, layout: Layout, counts: _Counts) -> dict[str, Entry]:
    """Open episodes, and what a recurrent agent remembers of them."""
    size, agent = layout.config.num_envs, layout.config.agent
    most_begun = (MAX_BAD_RESETS + 1) * (counts.steps + 1) + MOST_RESUMES
    sums, largest = _sums(layout, counts), layout.limits.obs
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


class Part(NamedTuple):
    """A part of a training that has a state.

    It has `get_state`, `set_state` and, to come back to in memory, `snapshot` and
    `restore`.

    Attributes:
        attribute: of the trainer; None there if the run has no such part.
        entries: names and values that its state may have.
    """

    attribute: str
    entries: Callable[[Arrays, Layout, _Counts], dict[str, Entry]]


# By the first word of their entries' names; the agent's have other ones.
PARTS = {
    # First: they are the ones that may fail as their state is set.
    "environment": Part("collector", _environment),
    "return_scaler": Part("return_scaler", _scaler),
    "costs": Part("costs", _costs),
    "training": Part("counters", _counters),
}

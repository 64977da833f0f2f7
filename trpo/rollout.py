"""Collects transitions from a vector environment with an agent."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from trpo.action_masks import ActionMasks
from trpo.environments import RESTORE, autoreset_mode, final_observations
from trpo.heads import GAUSSIAN
from trpo.players import player_of
from trpo.sequences import Memory
from trpo.spaces import PolicySpec, policy_spec
from trpo.types import Agent, Episode, Rollout


# An open episode longer than this is not recorded, and restarts after a resume.
MAX_REPLAY_STEPS = 10_000


class NonFiniteTransitionError(ValueError):
    """The environment returned a NaN or an infinity; nothing was learned from it."""


class Transition(NamedTuple):
    """What one step of the environment left; rows are environments.

    Attributes:
        obs: [B, obs_dim] observation to act on next.
        final_obs: [B, obs_dim] observation that the step led to; differs from `obs`
            where the environment has already started the next episode.
        rewards: [B] raw rewards.
        terminated: [B] the step led to a terminal state.
        truncated: [B] the episode was cut off after the step.
        valid: [B] False where the step was a reset (autoreset mode NEXT_STEP).
    """

    obs: np.ndarray
    final_obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray


class RolloutCollector:
    """Steps a vector environment, in any of Gymnasium's autoreset modes.

    Observations are passed to the agent as the environment gave them, flattened;
    actions become the environment's (`PolicySpec.to_environment`) on their way.

    Args:
        env: Vector environment; reset here.
        policy_distribution: Over Box actions, see `trpo.config.TRPOConfig`.

    Raises:
        UnsupportedSpaceError: an observation or action space is not supported.
        ActionMaskError: an `info["action_mask"]` does not fit, or forbids everything.
    """

    def __init__(self, env: VectorEnv, policy_distribution: str = GAUSSIAN) -> None:
        self.env = env
        self.spec = policy_spec(
            env.single_observation_space, env.single_action_space, policy_distribution
        )
        self._mode = autoreset_mode(env)
        self.memory: Memory | None = None
        self._restart()
        self._start(*env.reset())

    def _restart(self) -> None:
        size = self.env.num_envs
        self._resetting = np.zeros(size, dtype=bool)
        self._returns = np.zeros(size)
        self._lengths = np.zeros(size, dtype=np.int64)
        self._episode_numbers = np.zeros(size, dtype=np.int64)
        self._actions: list[np.ndarray] = []
        self._ended: list[Episode] = []
        self._replayable = np.ones(size, dtype=bool)

    def _start(self, obs: np.ndarray, infos: dict[str, Any]) -> None:
        """Act from here on, after a reset of all environments."""
        self.obs = self._flatten(obs)
        self._masks = ActionMasks(self.spec.head, infos, self.env.num_envs)

    @property
    def action_mask(self) -> np.ndarray | None:
        """[B, options] what can be done at `obs`; None where nothing is forbidden."""
        return self._masks.current

    @property
    def starts(self) -> np.ndarray:
        """[B] whether `obs` is the first of an episode, with nothing to remember.

        Also the last of one that has ended, where the next step only resets it.
        """
        return self._lengths == 0

    def _flatten(self, obs: np.ndarray) -> np.ndarray:
        return obs.reshape(self.env.num_envs, self.spec.obs_dim)

    def collect(self, agent: Agent, num_steps: int) -> Rollout:
        """`num_steps` steps of every environment, sampled from the agent's policy.

        Raises:
            NonFiniteTransitionError: an observation or reward is not finite; names
                the environment and the step.
            ActionMaskError: see the class.
        """
        columns: list[tuple[np.ndarray, ...]] = []
        masks: list[np.ndarray] = []
        self._ended = []
        player = player_of(agent, self.env.num_envs, self.memory)
        memory = player.memory
        for _ in range(num_steps):
            obs, starts, mask = self.obs, self.starts, self.action_mask
            actions, log_probs, values = player.act(obs, starts, mask)
            masks += [] if mask is None else [mask]
            step = self.advance(actions)
            next_values = np.zeros(len(obs))
            if (step.truncated > step.terminated).any():  # Cut off, not ended.
                # All rows, not those cut alone: a compiled critic has one shape.
                next_values = player.value(step.final_obs)[:, 0]
            columns.append(
                (
                    obs,
                    actions,
                    log_probs[:, 0],
                    values[:, 0],
                    next_values,
                    step.rewards,
                    step.terminated,
                    step.truncated,
                    step.valid,
                    starts,
                )
            )
        *fields, starts = [np.stack(column) for column in zip(*columns, strict=True)]
        rollout = Rollout(
            *fields,
            episodes=tuple(self._ended),
            action_masks=np.stack(masks) if masks else None,
            starts=starts,
            memory=memory,
        )
        self._forget_finished()
        self.memory = player.memory
        last_values = player.value(self.obs)[:, 0]
        return rollout._replace(next_values=_next_values(rollout, last_values))

    def advance(self, actions: np.ndarray) -> Transition:
        """Send actions [B, act_dim] as the environment takes them; follow episodes.

        Raises:
            NonFiniteTransitionError: an observation or reward is not finite.
            ActionMaskError: see the class.
        """
        if self.spec.structure is not None:
            # As they are recorded: a replay has to send the same.
            actions = actions.astype(np.float64)
        sent = self.spec.to_environment(actions)
        obs, rewards, terminated, truncated, infos = self.env.step(sent)
        done = terminated | truncated
        # Copies throughout: environments may reuse their buffers, and some write the
        # next observation over the last.
        obs = final_obs = obs.copy()
        same_step = self._mode == AutoresetMode.SAME_STEP
        self._masks.follow(infos, ~done | same_step)
        if done.any():
            if same_step:
                final_obs = final_observations(obs, done, infos)
            elif self._mode == AutoresetMode.DISABLED:
                obs, infos = self.env.reset(options={"reset_mask": done})
                obs = obs.copy()
                self._masks.follow(infos, done)
            else:
                self._masks.release(done)
        self._actions.append(sent if self.spec.structure is None else actions)
        step = Transition(
            self._flatten(obs),
            self._flatten(final_obs),
            np.array(rewards, dtype=np.float64),
            np.array(terminated),
            np.array(truncated),
            ~self._resetting,
        )
        _require_finite(step, self._lengths)
        self._count(step)
        self.obs = step.obs
        return step

    def _count(self, step: Transition) -> None:
        """Update the open episodes' sums and note those that ended."""
        done = step.terminated | step.truncated
        self._returns += step.rewards
        self._lengths += step.valid
        self._resetting = np.zeros_like(done)
        if not done.any():
            return
        self._ended += [
            Episode(float(self._returns[i]), int(self._lengths[i]))
            for i in np.flatnonzero(done)
        ]
        self._returns[done] = 0.0
        self._lengths[done] = 0
        self._episode_numbers += done
        self._replayable |= done
        if self._mode == AutoresetMode.NEXT_STEP:
            self._resetting = done

    def _forget_finished(self) -> None:
        """Keep the actions of open episodes only."""
        self._replayable &= self._lengths <= MAX_REPLAY_STEPS
        keep = int(np.max(self._lengths * self._replayable, initial=0))
        self._actions = self._actions[len(self._actions) - keep :]

    def get_state(self) -> dict[str, np.ndarray]:
        """Open episodes: their numbers, sums, last observation and actions so far."""
        state = {
            "episode": self._episode_numbers.copy(),
            "episode_return": self._returns.copy(),
            "episode_length": self._lengths.copy(),
            "replayable": self._replayable.copy(),
            "obs": self.obs.copy(),
        }
        for i in np.flatnonzero(self._replayable & (self._lengths > 0)):
            recent = self._actions[len(self._actions) - int(self._lengths[i]) :]
            state[f"actions.{i}"] = np.stack([actions[i] for actions in recent])
        if self.memory is not None:
            state |= self.memory.get_state()
        return state

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """Restore open episodes by replaying them from their seeds.

        Only for environments made by `trpo.environments.make_vector_environment`.

        Returns:
            Indices of environments that did not come back to the saved observation
            (too long, or random beyond their seed), and so started a new episode.
        """
        size = self.env.num_envs
        numbers = np.array(state["episode"], dtype=np.int64)
        actions = [state.get(f"actions.{i}", ()) for i in range(size)]
        replay = {i: (int(numbers[i]), self._sent(actions[i])) for i in range(size)}
        obs, infos = self.env.reset(options={RESTORE: replay})
        lost = ~np.asarray(state["replayable"])
        lost |= np.any(self._flatten(obs) != state["obs"], axis=1)
        if lost.any():
            numbers[lost] += 1
            for i in map(int, np.flatnonzero(lost)):
                replay[i] = (int(numbers[i]), ())
                actions[i] = ()
            obs, infos = self.env.reset(options={RESTORE: replay})
        self._restart()
        self._start(obs, infos)
        self._episode_numbers = numbers
        self._returns = np.where(lost, 0.0, state["episode_return"])
        self._lengths = np.where(lost, 0, state["episode_length"])
        self._actions = _align(actions, self.spec)
        # An episode that was lost starts anew, with nothing to remember.
        self.memory = Memory.from_state(state)
        return tuple(int(i) for i in np.flatnonzero(lost))

    def _sent(self, history: Any) -> Any:
        """Recorded actions as one environment takes them."""
        if self.spec.structure is None:
            return history
        return [self.spec.one_to_environment(action) for action in history]


def _align(histories: list[Any], spec: PolicySpec) -> list[np.ndarray]:
    """Action histories of unequal length as one list of steps, aligned at the end."""
    longest = max(map(len, histories), default=0)
    shape = (longest, len(histories), *spec.action_shape)
    steps = np.zeros(shape, dtype=spec.action_dtype)
    for i, history in enumerate(histories):
        if len(history):
            steps[longest - len(history) :, i] = history
    return list(steps)


def _next_values(rollout: Rollout, last_values: np.ndarray) -> np.ndarray:
    """V(s_{t+1}): the next row's value, or the final observation's where one ended."""
    following = np.concatenate([rollout.values[1:], last_values[None]])
    ended = rollout.terminated | rollout.truncated
    return np.where(ended, rollout.next_values, following)


def _require_finite(step: Transition, lengths: np.ndarray) -> None:
    for name in ("obs", "final_obs", "rewards"):
        array = getattr(step, name)
        if not np.isfinite(array).all():
            index = int(np.argwhere(~np.isfinite(array))[0][0])
            raise NonFiniteTransitionError(
                f"`{name}`: expected finite numbers, got {array[index]} from "
                f"environment {index} at step {lengths[index]} of its episode. Look "
                "for a division by zero or an unstable simulation there."
            )

"""Collects transitions from a vector environment with an agent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from trpo.agent.base import AgentBase
from trpo.config.choices import STOP
from trpo.data.hidden_state import Memory
from trpo.data.rollout import Rollout
from trpo.environments.action_masks import ActionMasks
from trpo.environments.environment_worker import UNRESTORED
from trpo.environments.make import autoreset_mode, final_observations
from trpo.environments.seeded import RESTORE
from trpo.environments.step_costs import step_costs
from trpo.environments.worker_vector import RESTARTED
from trpo.rollout.acting import actor_of
from trpo.rollout.cost_recorder import CostRecorder, without_bad_segments_of_costs
from trpo.rollout.open_episodes import OpenEpisodes
from trpo.rollout.repair import following_values
from trpo.rollout.transitions import (
    Limits,
    Transition,
    refusal,
    reset_refusal,
    unusable,
    unusable_rows,
)
from trpo.spaces.action_heads import GAUSSIAN
from trpo.spaces.spaces import policy_spec


# Episodes in a row that may begin with numbers that can't be used and are left out.
MAX_BAD_RESETS = 10
DEFAULT_LIMITS = Limits.of("float32", normalized=True)


class RolloutCollector:
    """Steps a vector environment, in any of Gymnasium's autoreset modes.

    Observations are passed to the agent as the environment gave them, flattened;
    actions become the environment's (`PolicySpec.to_environment`) on their way.

    Args:
        env: Vector environment; reset here.
        policy_distribution: Over Box actions, see `trpo.config.run.TRPOConfig`.
        on_bad_data: "stop" at an observation or reward that is not finite or too
            large; or "drop" what the rollout holds of that episode, and start the next.
        costs: Whether to read `info["cost"]`, which each step must then have.
        limits: What is too large.

    Raises:
        UnsupportedSpaceError: an observation or action space is not supported.
        ActionMaskError: an `info["action_mask"]` does not fit, or forbids everything.
        NonFiniteTransitionError: the first observation can't be used.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy_distribution: str = GAUSSIAN,
        on_bad_data: str = STOP,
        costs: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.env, self.limits = env, limits
        self.spec = policy_spec(
            env.single_observation_space, env.single_action_space, policy_distribution
        )
        self._mode = autoreset_mode(env)
        self._stops = on_bad_data == STOP
        self.reads_costs = costs
        self.memory: Memory | None = None
        self.replayed: list[dict[str, str] | None] = []
        """Lasting values of the first environments after the last `set_state`, before
        those that were lost began anew."""
        self._restart(OpenEpisodes.of(env.num_envs, costs))
        self._start(*env.reset())

    def _restart(self, episodes: OpenEpisodes) -> None:
        self._resetting = np.zeros(self.env.num_envs, dtype=bool)
        self._open = episodes

    def _start(self, obs: np.ndarray, infos: dict[str, Any]) -> None:
        """Act from here on, after a reset of all environments.

        Raises:
            NonFiniteTransitionError: an observation can't be used.
        """
        self.obs = self._flatten(obs)
        self._masks = ActionMasks(self.spec.head, infos, self.env.num_envs)
        bad = unusable_rows(self.obs, self.limits.obs)
        if not bad.any():
            return
        if self._stops:
            raise reset_refusal(self.obs, int(bad.argmax()), self.limits)
        self._open.numbers[...] += bad
        self.obs = self._reset_again(self.obs, bad)

    def _reset_again(self, obs: np.ndarray, bad: np.ndarray) -> np.ndarray:
        """`obs` [B, obs_dim] with new episodes' first ones where `bad` [B].

        Raises:
            NonFiniteTransitionError: new episodes, `MAX_BAD_RESETS` in a row, are no
                better.
        """
        for _ in range(MAX_BAD_RESETS):
            fresh, infos = self.env.reset(options={"reset_mask": bad})
            self._masks.follow(infos, bad)
            obs = np.where(bad[:, None], self._flatten(fresh), obs)
            bad = unusable_rows(obs, self.limits.obs)
            if not bad.any():
                return obs
            self._open.numbers[...] += bad
        raise reset_refusal(obs, int(bad.argmax()), self.limits)

    @property
    def action_mask(self) -> np.ndarray | None:
        """[B, options] what can be done at `obs`; None where nothing is forbidden."""
        return self._masks.current

    @property
    def starts(self) -> np.ndarray:
        """[B] whether `obs` is the first of an episode, with nothing to remember.

        Also the last of one that has ended, where the next step only resets it.
        """
        return self._open.lengths == 0

    @property
    def episode_numbers(self) -> np.ndarray:
        """[B] of each environment's open episode, from 0; those dropped count too."""
        return self._open.numbers.copy()

    def _flatten(self, obs: np.ndarray) -> np.ndarray:
        return obs.reshape(self.env.num_envs, self.spec.obs_dim)

    def snapshot(self) -> tuple:
        """The state as it is now, for `restore`; cheap."""
        masks = self._masks.current
        return self.obs, masks, self._resetting, self._open.copy(), self.memory

    def restore(self, snapshot: tuple) -> None:
        """Make `get_state` what it was; environments stay where they are."""
        self.obs, self._masks.current, self._resetting, self._open, self.memory = (
            snapshot
        )

    def collect(self, agent: AgentBase, num_steps: int) -> Rollout:
        """`num_steps` steps of every environment, sampled from the agent's policy.

        Raises:
            NonFiniteTransitionError: an observation or reward can't be used; names
                the environment and the step.
            EnvironmentWorkerError: an environment failed.
            ActionMaskError: see the class.
        """
        columns: list[tuple[np.ndarray, ...]] = []
        masks: list[np.ndarray] = []
        self._open.ended.clear()
        recorder = CostRecorder(agent) if self.reads_costs else None
        actor = actor_of(agent, self.env.num_envs, self.memory)
        memory = actor.memory
        ended_at: list[int] = []
        for t in range(num_steps):
            obs, starts, mask = self.obs, self.starts, self.action_mask
            actions, log_probs, values = actor.act(obs, starts, mask)
            masks += [] if mask is None else [mask]
            step = self.advance(actions)
            if recorder is not None:
                recorder.add(step)
            ended_at += [t] * (len(self._open.ended) - len(ended_at))
            next_values = np.zeros(len(obs))
            if (step.truncated > step.terminated).any():  # Cut off, not ended.
                # All rows, not those cut alone: a compiled critic has one shape.
                next_values = actor.value(step.final_obs)[:, 0]
            row = (
                obs, actions, log_probs[:, 0], values[:, 0], next_values, step.rewards,
                step.terminated, step.truncated, step.valid, starts, step.dropped,
                step.restarted,
            )  # fmt: skip
            columns.append(row)
        stacked = [np.stack(column) for column in zip(*columns, strict=True)]
        *fields, starts, dropped, restarted = stacked
        rollout = Rollout(
            *fields,
            episodes=tuple(self._open.ended),
            action_masks=np.stack(masks) if masks else None,
            starts=starts,
            memory=memory,
            episode_steps=tuple(ended_at),
        )
        self._open.forget_finished()
        self.memory = actor.memory
        last_values = actor.value(self.obs)[:, 0]
        rollout = rollout._replace(next_values=following_values(rollout, last_values))
        costs = (
            None if recorder is None else recorder.finish(rollout, self.obs, self._open)
        )
        return without_bad_segments_of_costs(
            rollout._replace(costs=costs), dropped, restarted
        )

    def advance(self, actions: np.ndarray) -> Transition:
        """Send actions [B, act_dim] as the environment takes them; follow episodes.

        Raises:
            NonFiniteTransitionError: an observation or reward can't be used.
            EnvironmentWorkerError: an environment failed.
            ActionMaskError: see the class.
            CostError: costs are read, and a step has none.
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
        none = np.zeros_like(done)
        restarted = np.array(infos.get(RESTARTED, none), dtype=bool)
        valid = ~self._resetting & ~restarted
        costs = None
        if self.reads_costs:
            costs = step_costs(infos, done & same_step, valid)
        if done.any():
            if same_step:
                final_obs = final_observations(obs, done, infos)
            elif self._mode == AutoresetMode.DISABLED:
                obs, infos = self.env.reset(options={"reset_mask": done})
                obs = obs.copy()
                self._masks.follow(infos, done)
            else:
                self._masks.release(done)
        self._open.actions.append(sent if self.spec.structure is None else actions)
        step = Transition(
            self._flatten(obs),
            self._flatten(final_obs),
            np.array(rewards, dtype=np.float64),
            np.array(terminated),
            np.array(truncated),
            valid,
            none,
            restarted,
            costs,
        )
        step = self._usable(step)
        self._open.count(step)
        self._resetting = none
        if self._mode == AutoresetMode.NEXT_STEP:
            self._resetting = done & ~step.dropped
        self.obs = step.obs
        return step

    def _usable(self, step: Transition) -> Transition:
        """`step`, where it can be used; with new episodes where it can't.

        Raises:
            NonFiniteTransitionError: that is not wanted, or new ones are no better.
        """
        bad = unusable(step, self.limits)
        if not bad.any():
            return step
        if self._stops:
            raise refusal(step, self.limits, self._open.lengths)
        ended = bad & (step.terminated | step.truncated)
        if self._mode == AutoresetMode.SAME_STEP:
            # They have begun another already, which nothing is known to be wrong with
            # but which is one less to account for.
            self._open.numbers[...] += ended
        obs = self._reset_again(step.obs, bad)
        return step._replace(
            obs=obs,
            final_obs=np.where(bad[:, None], obs, step.final_obs),
            rewards=np.where(bad, 0.0, step.rewards),
            costs=None if step.costs is None else np.where(bad, 0.0, step.costs),
            terminated=step.terminated & ~bad,
            truncated=step.truncated | bad,
            valid=step.valid & ~bad,
            dropped=bad,
        )

    def lasting(self, changed: bool) -> list[dict[str, str] | None]:
        """Lasting values of the first environments; [] where unknown."""
        ask = getattr(self.env, "lasting", None)
        return [] if ask is None else ask(changed)

    def forget(self) -> None:
        """Keep no actions and no episodes that have ended: nobody asks for them."""
        self._open.actions.clear()
        self._open.ended.clear()

    def get_state(self) -> dict[str, np.ndarray]:
        """Open episodes: their numbers, sums, last observation and actions so far."""
        state = self._open.get_state() | {"obs": self.obs.copy()}
        return state if self.memory is None else state | self.memory.get_state()

    def set_state(self, state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """Restore open episodes by replaying them from their seeds.

        Only for environments made by `trpo.environments.make.make_vector_environment`.

        Returns:
            Indices of environments that did not come back to the saved observation
            (too long, or random beyond their seed), and so started a new episode.
        """
        size = self.env.num_envs
        numbers = np.array(state["episode"], dtype=np.int64)
        actions = [state.get(f"actions.{i}", ()) for i in range(size)]
        replay = {i: (int(numbers[i]), self._sent(actions[i])) for i in range(size)}
        obs, infos = self.env.reset(options={RESTORE: replay})
        unreplayed = np.array(infos.get(UNRESTORED, np.zeros(size)), dtype=bool)
        unreplayed |= ~np.asarray(state["replayable"])
        self.replayed = [
            None if unreplayed[i] else values
            for i, values in enumerate(self.lasting(changed=False))
        ]
        lost = unreplayed | np.any(self._flatten(obs) != state["obs"], axis=1)
        if lost.any():
            numbers[lost] += 1
            for i in map(int, np.flatnonzero(lost)):
                replay[i] = (int(numbers[i]), ())
                actions[i] = ()
            obs, infos = self.env.reset(options={RESTORE: replay})
        self._restart(
            OpenEpisodes.from_state(
                state, numbers=numbers, lost=lost, histories=actions,
                spec=self.spec, costs=self.reads_costs,
            )
        )  # fmt: skip
        self._start(obs, infos)
        # An episode that was lost starts anew, with nothing to remember.
        self.memory = Memory.from_state(state)
        return tuple(int(i) for i in np.flatnonzero(lost))

    def _sent(self, history: Any) -> Any:
        """Recorded actions as one environment takes them."""
        if self.spec.structure is None:
            return history
        return [self.spec.one_to_environment(action) for action in history]

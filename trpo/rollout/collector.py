"""Collects transitions from a vector environment with an agent."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from trpo.agent.base import AgentBase
from trpo.agent.batch_checks import require_finite
from trpo.config.choices import STOP
from trpo.data.hidden_state import Memory
from trpo.data.rollout import Rollout
from trpo.environments.action_masks import ActionMasks
from trpo.environments.checked_vector import CheckedVector, autoreset_mode
from trpo.environments.contract import FINAL_INFO, SUCCESS, UNRESTORED, flag, info_of
from trpo.environments.seeded import RESTORE
from trpo.environments.step_costs import step_costs
from trpo.environments.worker_vector import RESTARTED
from trpo.rollout.acting import Actor, actor_of
from trpo.rollout.columns import Columns
from trpo.rollout.cost_recorder import CostRecorder
from trpo.rollout.open_episodes import OpenEpisodes
from trpo.rollout.repair import following_values, without_bad_segments
from trpo.rollout.transitions import (
    FINITE,
    Limits,
    Transition,
    are_within,
    is_usable,
    refusal,
    reset_refusal,
    unusable,
    unusable_rows,
)
from trpo.spaces.action_heads import GAUSSIAN
from trpo.spaces.spaces import PolicySpec, policy_spec


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

    env: "VectorEnv[Any, Any, Any]"
    limits: Limits
    obs: np.ndarray
    spec: PolicySpec

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
        self._vector = CheckedVector(env, self._mode)
        self._stops = on_bad_data == STOP
        self.reads_costs = costs
        self.memory: Memory | None = None
        self.on_step: Callable[[int], None] | None = None
        """Told of each step of a rollout, with the environment steps in it so far."""
        self.lost: dict[int, str] = {}
        """Why environments began anew at the last `set_state`, by index."""
        self.replayed: list[dict[str, str] | None] = []
        """Lasting values of the first environments after the last `set_state`, before
        those that were lost began anew."""
        self._none = np.zeros(env.num_envs, dtype=bool)
        """Flags of a step in which nothing happened; never written to."""
        self._all = ~self._none
        """Likewise, of one that each environment took."""
        self._restart(OpenEpisodes.of(env.num_envs, costs))
        self._start(*self._vector.reset(self._open.lengths))

    def _restart(self, episodes: OpenEpisodes) -> None:
        self._resetting = self._none
        self._open = episodes

    def _start(self, obs: np.ndarray, infos: dict[str, Any]) -> None:
        """Act from here on, after a reset of all environments.

        Raises:
            NonFiniteTransitionError: an observation can't be used.
        """
        self.obs = obs
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
            fresh, _ = self._reset(bad)
            obs = np.where(bad[:, None], fresh, obs)
            bad = unusable_rows(obs, self.limits.obs)
            if not bad.any():
                return obs
            self._open.numbers[...] += bad
        raise reset_refusal(obs, int(bad.argmax()), self.limits)

    def _reset(self, chosen: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Observations after a reset of the environments `chosen` [B], and infos."""
        lengths = self._open.lengths
        obs, infos = self._vector.reset(lengths, {"reset_mask": chosen})
        self._masks.follow(infos, chosen, lengths)
        return obs, infos

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

    def snapshot(self) -> tuple[Any, ...]:
        """The state as it is now, for `restore`; cheap."""
        masks = self._masks.current
        return self.obs, masks, self._resetting, self._open.copy(), self.memory

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Make `get_state` what it was; environments stay where they are."""
        self.obs, self._masks.current, self._resetting, self._open, self.memory = (
            snapshot
        )

    def collect(self, agent: AgentBase, num_steps: int) -> Rollout:
        """`num_steps` steps of every environment, sampled from the agent's policy.

        Raises:
            ValueError: an action is not finite.
            NonFiniteTransitionError: an observation or reward can't be used; names
                the environment and the step.
            EnvironmentWorkerError: an environment failed.
            ActionMaskError: see the class.
        """
        columns = Columns(num_steps, self.env.num_envs)
        self._open.ended.clear()
        recorder = CostRecorder(agent) if self.reads_costs else None
        actor = actor_of(agent, self.env.num_envs, self.memory, num_steps)
        memory = actor.memory
        for t in range(num_steps):
            self._collect_step(t, columns, actor, recorder)
            if self.on_step is not None:
                self.on_step((t + 1) * self.env.num_envs)
        obs, actions, masks = (columns[n] for n in ("obs", "actions", "action_masks"))
        rollout = Rollout(
            obs,
            actions,
            *actor.evaluated(obs, actions, masks),
            columns.next_values,
            columns["rewards"],
            columns.flags["terminated"],
            columns.flags["truncated"],
            columns.valid,
            episodes=tuple(self._open.ended),
            action_masks=masks,
            starts=columns["starts"],
            memory=memory,
            episode_steps=tuple(columns.ended_at),
        )
        self._open.forget_finished()
        self.memory = actor.memory
        last_values = actor.value(self.obs)[:, 0]
        rollout = rollout._replace(next_values=following_values(rollout, last_values))
        if recorder is not None:
            costs = recorder.finish(rollout, columns["costs"], self.obs, self._open)
            rollout = rollout._replace(costs=costs)
        dropped, restarted = columns.flags["dropped"], columns.flags["restarted"]
        if dropped.any() or restarted.any():
            rollout = without_bad_segments(rollout, dropped, restarted)
        return rollout

    def _collect_step(
        self, t: int, columns: Columns, actor: Actor, recorder: CostRecorder | None
    ) -> None:
        """Step t of a rollout."""
        obs, starts, mask = self.obs, self.starts, self.action_mask
        actions = actor.act(obs, starts, mask)
        step = self.advance(actions)
        columns.write(
            t,
            {
                "obs": obs, "actions": actions, "starts": starts,
                "action_masks": mask, "rewards": step.rewards, "costs": step.costs,
            },
        )  # fmt: skip
        if step.plain:
            return
        columns.write_flags(t, step, len(self._open.ended))
        if (step.truncated > step.terminated).any():  # Cut off, not ended.
            # All rows, not those cut alone: a compiled critic has one shape.
            columns.next_values[t] = actor.value(step.final_obs)[:, 0]
            if recorder is not None:
                recorder.cut_off(t, step.final_obs)

    def advance(self, actions: np.ndarray) -> Transition:
        """Send actions [B, act_dim] as the environment takes them; follow episodes.

        Raises:
            ValueError: an action is not finite; no environment has seen any.
            NonFiniteTransitionError: an observation or reward can't be used.
            EnvironmentWorkerError: an environment failed.
            ActionMaskError: see the class.
            CostError: costs are read, and a step has none.
        """
        recorded, sent = self._converted(actions)
        lengths, none = self._open.lengths, self._none
        obs, final_obs, rewards, terminated, truncated, done, infos = self._vector.step(
            sent, lengths
        )
        ended, same_step = np.count_nonzero(done), self._mode == AutoresetMode.SAME_STEP
        if infos or self.action_mask is not None:
            self._masks.follow(infos, ~done | same_step, lengths)
        # A worker that failed has ended an episode, too.
        plain = not ended and self._resetting is none
        restarted, valid, costs, successes = none, self._all, None, {}
        if not plain:
            restarted = np.array(infos.get(RESTARTED, none), dtype=bool)
            valid = ~self._resetting & ~restarted
            successes = _successes(infos, done, same_step)
        if self.reads_costs:
            costs = step_costs(infos, done & same_step, valid, lengths)
        if ended and not same_step:
            obs = self._begun(obs, done)
        self._open.actions.append(recorded)
        step = Transition(
            obs, final_obs, rewards, terminated, truncated, valid, none, restarted,
            costs, successes, plain,
        )  # fmt: skip
        if not is_usable(step, self.limits):
            step = self._replaced(step)
        self._open.count(step)
        self._resetting = none
        if ended and self._mode == AutoresetMode.NEXT_STEP:
            self._resetting = done & ~step.dropped
        self.obs = step.obs
        return step

    def _converted(self, actions: np.ndarray) -> tuple[np.ndarray, Any]:
        """Actions as they are recorded, and as the environments take them.

        Raises:
            ValueError: one is not finite.
        """
        if not are_within(actions, FINITE):
            require_finite("actions", actions)
        if self.spec.structure is None:
            sent = self.spec.to_environment(actions)
            return sent, sent
        # As they are recorded: a replay has to send the same.
        actions = actions.astype(np.float64)
        return actions, self.spec.to_environment(actions)

    def _begun(self, obs: np.ndarray, done: np.ndarray) -> np.ndarray:
        """`obs` after the ends of episodes `done` [B], which no vector has seen to."""
        if self._mode == AutoresetMode.DISABLED:
            return self._reset(done)[0]
        self._masks.release(done)
        return obs

    def _replaced(self, step: Transition) -> Transition:
        """An unusable step, with new episodes where it can't be used.

        Raises:
            NonFiniteTransitionError: that is not wanted, or new ones are no better.
        """
        bad = unusable(step, self.limits)
        if self._stops:
            raise refusal(step, self.limits, self._open.lengths)
        again, obs = bad, step.obs
        if self._mode == AutoresetMode.SAME_STEP:
            # They have begun another already, which may be good.
            begun = bad & (step.terminated | step.truncated)
            again = bad & ~(begun & ~unusable_rows(obs, self.limits.obs))
            self._open.numbers[...] += begun & again
        if again.any():
            obs = self._reset_again(obs, again)
        return step._replace(
            obs=obs,
            final_obs=np.where(bad[:, None], obs, step.final_obs),
            rewards=np.where(bad, 0.0, step.rewards),
            costs=None if step.costs is None else np.where(bad, 0.0, step.costs),
            terminated=step.terminated & ~bad,
            truncated=step.truncated | bad,
            valid=step.valid & ~bad,
            dropped=bad,
            plain=False,
        )

    def abandon(self, chosen: np.ndarray) -> None:
        """Begin new episodes in the environments `chosen` [B]; theirs are no more."""
        self._open.drop(chosen)
        self.obs = self._reset_again(self.obs, chosen)

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
        lengths = np.zeros(size, dtype=np.int64)
        obs, infos = self._vector.reset(lengths, {RESTORE: replay})
        failed = np.array(infos.get(UNRESTORED, np.zeros(size)), dtype=bool)
        unrecorded = ~np.asarray(state["replayable"])
        self.replayed = [
            None if failed[i] or unrecorded[i] else values
            for i, values in enumerate(self.lasting(changed=False))
        ]
        differs = np.any(obs != state["obs"], axis=1)
        self.lost = {
            i: reason
            for reason, chosen in (
                ("with the same actions it came to another observation", differs),
                ("with the same actions it ended or failed", failed),
                ("it was too long to be recorded", unrecorded),
            )
            for i in map(int, np.flatnonzero(chosen))
        }
        lost = failed | unrecorded | differs
        if lost.any():
            numbers[lost] += 1
            for i in map(int, np.flatnonzero(lost)):
                replay[i] = (int(numbers[i]), ())
            obs, infos = self._vector.reset(lengths, {RESTORE: replay})
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


def _successes(
    infos: dict[str, Any], done: np.ndarray, same_step: bool
) -> dict[int, float]:
    """Whether episodes that end are successes, by environment, where it says so."""
    source = infos.get(FINAL_INFO) if same_step else infos
    successes: dict[int, float] = {}
    if isinstance(source, Mapping) and SUCCESS in source:
        for i in map(int, np.flatnonzero(done)):
            # What is no flag is a word of the environment's own.
            with contextlib.suppress(LookupError, ValueError):
                successes[i] = float(flag(SUCCESS, info_of(source, SUCCESS, i)))
    return successes

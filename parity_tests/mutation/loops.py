# ruff: noqa: E501 - a fault shows the line that it changes, whole.
"""Planted faults of what surrounds an update, in branches that are seldom taken.

Looked for by test files (`TESTS`), not by rings: of rows that are no transitions,
costs, runs of many devices or members, resumes, evaluations, environments and files.
"""

from parity_tests.mutation.acting import ACTING
from parity_tests.mutation.mutant import (
    in_group,
    jax as _jax,
    shared as _shared,
    torch as _torch,
)


SUITE = "parity_tests/tests"
PAIRWISE, EDGE = f"{SUITE}/loops/test_pairwise.py", f"{SUITE}/loops/test_loop_edges.py"
LOOPED = f"{SUITE}/loops/test_metamorphic_loops.py"
# Group of faults -> the tests that look for them, of one suite each.
TESTS = {
    "rows": (
        f"{PAIRWISE}::test_updates_are_given_what_the_environments_have_seen",
        f"{PAIRWISE}::test_statistics_are_of_what_was_learned_from",
        f"{EDGE}::test_episodes_that_begin_badly_have_numbers_of_their_own",
    ),
    "statistics": ("tests/data/test_normalization.py",),
    "resumes": (
        f"{EDGE}::test_an_episode_that_is_lost_is_the_only_one_that_begins_anew",
        f"{EDGE}::test_an_episode_too_long_to_be_recorded_is_lost_once",
        f"{PAIRWISE}::test_a_run_that_is_resumed_twice_ends_in_the_same_bits",
    ),
    "costs": (
        f"{LOOPED}::test_rates_of_an_update_are_those_of_an_agent_that_has_them",
        f"{PAIRWISE}::test_updates_are_given_what_the_environments_have_seen",
        f"{PAIRWISE}::test_the_other_backend_learns_the_same",
    ),
    "divided": (
        f"{SUITE}/test_sharded.py::test_devices_of_jax",
        f"{SUITE}/test_sharded.py::test_ranks_of_torch_in_parts",
        f"{EDGE}::test_ranks_name_a_lost_environment_by_its_number_in_the_run",
        f"{EDGE}::test_before_an_episode_has_ended_costs_under_way_are_of_all_ranks",
        f"{PAIRWISE}::test_many_ranks_train_as_one",
    ),
    "compiled": (f"{SUITE}/loops/test_metamorphic_compiled.py",),
    "recurrent_fits": (
        f"{EDGE}::test_an_environment_without_a_sample_is_none",
        f"{PAIRWISE}::test_the_other_backend_learns_the_same",
    ),
    "edges": (
        "tests/backends/test_line_searches.py",
        "tests/agent/test_action_masks.py::test_the_ends_of_the_noise_choose_what_is_allowed",
        "tests/agent/test_agent_state.py::test_overflow_leaves_every_byte_as_it_was",
    ),
    "evaluations": (
        f"{EDGE}::test_an_evaluation_is_of_its_episodes_alone",
        f"{EDGE}::test_evaluate_takes_a_seed_and_a_limit_of_0_for_what_they_are",
    ),
    "acting": (
        "tests/agent/test_sampled_actions.py", "tests/environments/test_rollout.py", "tests/environments/test_costs.py",
        "tests/training/test_bad_numbers.py::test_episodes_with_them_can_be_left_out",
        "tests/training/test_bad_numbers.py::test_in_every_autoreset_mode",
        "tests/agent/test_action_masks.py::test_each_observation_comes_with_its_own_mask",
        "tests/agent/test_recurrent.py::test_a_player_forgets_what_the_last_episode_showed",
        "tests/agent/test_recurrent.py::test_the_ratio_starts_at_one_in_the_middle_of_episodes",
    ),
    "contract": ("tests/environments/test_contract.py",),
    "files": (
        "tests/runs/test_checkpoint_crash.py::test_each_name_is_on_the_disk_before_what_relies_on_it",
        "tests/agent/test_copies.py::test_spaces_are_in_the_file",
    ),
}  # fmt: skip


ROWS = in_group(
    "rows",
    # Steps that are none: resets, dropped episodes, environments that were replaced.
    _shared("a reset counted as a step", "open_episodes:OpenEpisodes.count",
            "np.add(self.lengths, step.valid, out=self.lengths)", "self.lengths[...] += 1"),
    _shared("dropped episodes scored", "open_episodes:OpenEpisodes.count",
            "whole = done & ~step.dropped & ~step.restarted", "whole = done & ~step.restarted"),
    _shared("a lost environment's episode scored", "open_episodes:OpenEpisodes.count",
            "whole = done & ~step.dropped & ~step.restarted", "whole = done & ~step.dropped"),
    _shared("observations of all rows in the statistics", "trainer:Trainer._iterate",
            "valid_rows(rollout.valid, rollout.obs)", "rollout.obs.reshape(-1, rollout.obs.shape[-1])"),
    _shared("all rewards in the scale", "trainer:Trainer.prepare_batch",
            "self.return_scaler.update(rewards, done, rollout.valid, self.ranks)",
            "self.return_scaler.update(rewards, done, np.ones_like(rollout.valid), self.ranks)"),
    _shared("deviation of all rows' advantages", "trainer:Trainer.prepare_batch",
            "deviation = standard_deviation(samples, self.ranks)",
            "deviation = standard_deviation(advantages, self.ranks)"),
    _shared("masks of the first rows", "data/batch:batch_of", "rows(masks)",
            "masks.reshape(-1, masks.shape[-1])[: len(samples)]"),
    _shared("recurrent advantages in the first rows", "data/batch:batch_of",
            "advantages[valid] = samples", "advantages.reshape(-1)[: len(samples)] = samples"),
    _shared("cut where the environment failed, not before", "rollout/repair:without_bad_segments",
            "truncated[t - 1, i] = True", "truncated[t, i] = True"),
    _shared("all episodes before a bad one dropped", "rollout/repair:_without_segments",
            "begins[-1] if begins.size", "begins[0] if begins.size"),
    _shared("the bad step not counted", "rollout/repair:without_bad_segments",
            "int((rollout.valid & ~valid).sum() + dropped.sum())", "int((rollout.valid & ~valid).sum())"),
    _shared("an episode that began badly has no number", "collector:RolloutCollector._replaced",
            "self._open.numbers[...] += begun & again", "self._open.numbers[...] += 0 * begun"),
    _shared("a bad cost kept in its row", "collector:RolloutCollector._replaced",
            "np.where(bad, 0.0, step.costs)", "step.costs"),
    _shared("a dropped episode reset once more", "collector:RolloutCollector.advance",
            "self._resetting = done & ~step.dropped", "self._resetting = done.copy()"),
    _shared("a failed step taken for one", "collector:RolloutCollector.advance",
            "valid = ~self._resetting & ~restarted", "valid = ~self._resetting"),
    _shared("mask of the last episode", "collector:RolloutCollector.advance",
            "self._masks.follow(infos, ~done | same_step, lengths)", "self._masks.follow(infos, ~done, lengths)"),
    _shared("mask of before a reset", "collector:RolloutCollector._reset",
            "self._masks.follow(infos, chosen, lengths)", "chosen.any()"),
    _shared("masked where nothing is chosen", "action_masks:ActionMasks.release",
            "self.current = self.current | ended[:, None]", "self.current = self.current.copy()"),
)  # fmt: skip

STATISTICS = in_group(
    "statistics",
    # No rollout has a step of an episode on both sides of a row that is none.
    _shared("discounted return goes on past a row that is none", "normalization:ReturnScaler.update",
            "np.where(done[t] | ~valid[t], 0.0, self.discounted)", "np.where(done[t], 0.0, self.discounted)"),
)  # fmt: skip

RESUMES = in_group(
    "resumes",
    _shared("all episodes anew where one is lost", "collector:RolloutCollector.set_state",
            "numbers[lost] += 1", "numbers += 1"),
    _shared("a lost episode's return kept", "open_episodes:OpenEpisodes.from_state",
            'np.where(lost, 0.0, state["episode_return"])', 'np.array(state["episode_return"])'),
    _shared("a lost episode's cost kept", "open_episodes:OpenEpisodes.from_state",
            'np.where(lost, 0.0, state["episode_cost"])', 'np.array(state["episode_cost"])'),
    _shared("lost once, lost again", "open_episodes:OpenEpisodes.from_state",
            "np.ones(len(numbers), dtype=bool)", 'np.array(state["replayable"])'),
    _shared("the next episode not recorded either", "open_episodes:OpenEpisodes.drop",
            "self.replayable[...] |= chosen", "self.replayable[...] |= False"),
    _shared("an endless episode recorded", "open_episodes:OpenEpisodes.forget_finished",
            "self.replayable[...] &= self.lengths <= MAX_REPLAY_STEPS",
            "self.replayable[...] |= self.lengths <= MAX_REPLAY_STEPS"),
    _shared("histories aligned at their beginnings", "open_episodes:_align",
            "steps[longest - len(history) :, i] = history", "steps[: len(history), i] = history"),
    _shared("unrecorded but not lost", "collector:RolloutCollector.set_state",
            "lost = failed | unrecorded | differs", "lost = failed | differs"),
    _shared("costs of before a restore", "costs:CostTraining.set_state", "self.recent.clear()", "self.ended = None"),
    _shared("successes forgotten", "training/state:Counters.set_state",
            'np.array(state.get("recent_successes", ()), dtype=np.float64)', "np.zeros(0)"),
)  # fmt: skip

COSTS = in_group(
    "costs",
    _shared("all costs in the scale", "training/costs:CostTraining.batch",
            "self.scaler.update(costs, done, rollout.valid, self._ranks)",
            "self.scaler.update(costs, done, np.ones_like(rollout.valid), self._ranks)"),
    _shared("costs discounted as rewards", "training/costs:CostTraining.batch",
            "gamma=agent.cost_gamma", "gamma=agent.gamma"),
    _shared("costs' trace as the rewards'", "training/costs:CostTraining.batch",
            "gae_lambda=agent.cost_lambda", "gae_lambda=agent.gae_lambda"),
    _shared("costs scaled by the rewards' discount", "training/costs:CostTraining.__init__",
            "ReturnScaler(num_envs, agent.cost_gamma)", "ReturnScaler(num_envs, agent.gamma)"),
    _shared("centred by all rows' costs", "training/costs:CostTraining.batch",
            "centred = chosen - self._ranks.mean(chosen)", "centred = chosen - self._ranks.mean(advantages)"),
    _shared("an update's own learning rate ignored", "agent/base:AgentBase.update",
            "step_numbers(target_kl, value_lr,", "step_numbers(target_kl, None,"),
    _torch("the cost critic's learning rate stays", "agent/agent:TRPOBackend.update",
           "for _, optimizer in self._critics():", "for _, optimizer in self._critics()[:1]:"),
    _torch("constrained step of a constant radius", "policy_step/constrained:constrained_step",
           "_plan(reward, cost, costs.excess, numbers.target_kl)", "_plan(reward, cost, costs.excess, 0.01)"),
    _jax("constrained step of a constant radius", "policy_step/constrained:constrained_step",
         "_plan(reward, cost, costs.excess, numbers.target_kl)", "_plan(reward, cost, costs.excess, 0.01)"),
)  # fmt: skip

DIVIDED = in_group(
    "divided",
    # Of many ranks, devices, chunks.
    _shared("noise of the other ranks' environments", "agent/base:AgentBase.draw_noise",
            "self.state.draw_noise(count)[share]", "self.state.draw_noise(count)[: share.stop - share.start]"),
    _torch("chunks weighed as if they were all", "policy_step/chunked:ChunkedPolicy.total",
           "weights = weights if shard is None else shard.weights", "weights = weights"),
    _torch("chunked products not summed over ranks", "policy_step/chunked:_product.product",
           "return reduction.total(f_v) + damping * v", "return f_v + damping * v"),
    _torch("each rank's own k-th samples", "agent/agent:TRPOBackend.update_sharded",
           "np.flatnonzero(shards.numbers % every == 0)", "np.arange(0, len(shards.numbers), every)"),
    _shared("the last minibatch as large as the others", "agent/sharding:_counts",
            "np.minimum(minibatch_size, total - starts)", "np.full(steps, minibatch_size)"),
    _shared("rows numbered with those that are no samples", "training/ranks:rows_of",
            "np.cumsum(everywhere.reshape(-1)) - 1", "np.arange(everywhere.size)"),
    _shared("episodes in the order of ranks", "training/ranks:together",
            'np.argsort(steps, kind="stable")', "np.arange(len(steps))"),
    _shared("every rank the first one's histories", "training/ranks:part_of_state",
            "_renumbered(state, -environments.start)", "_renumbered(state, 0)"),
    _shared("lost environments by their ranks' numbers", "training/ranks:every_rank",
            "np.array(indices, dtype=np.int64) + first", "np.array(indices, dtype=np.int64)"),
    _shared("costs under way of one rank alone", "training/costs:CostTraining._episode",
            "if self._ranks.size > 1:", "if self._ranks.size > 2:"),
)  # fmt: skip

COMPILED = in_group(
    "compiled",
    _shared("seeds from 0", "runs/members:members_of",
            "range(config.seed, config.seed + num_seeds)", "range(num_seeds)"),
    _jax("the schedule begins with each chunk", "loop/trainer:CompiledTrainer._numbers",
         "self._numbers_at(c, self.update_count + i)", "self._numbers_at(c, i)"),
    _jax("the next update's radius reported", "loop/trainer:CompiledTrainer._progress",
         "self._numbers_at(self.configs[index], update - 1, spread)", "self._numbers_at(self.configs[index], update, spread)"),
    _jax("evaluated on the episodes of seed 0", "loop/trainer:_member",
         "RandomStream(config.seed, Purpose.EVALUATION_RESET)", "RandomStream(0, Purpose.EVALUATION_RESET)"),
    _jax("the noise of seed 0", "loop/trainer:_member", "device_key(config.seed)", "device_key(0)"),
    _jax("all members begin as the first", "loop/trainer:CompiledTrainer.__init__",
         "device_key(config.seed, 1, (config.num_envs,))", "device_key(first.seed, 1, (config.num_envs,))"),
    _jax("compiled actions counted from 0", "networks/pure_policy:to_environment",
         "actions = actions.astype(int) + spec.action_start[None]", "actions = actions.astype(int)"),
    _jax("the newest episodes saved first", "loop/state:training_state",
         "host.recent[RECENT_EPISODES - known :]", "host.recent[:known]"),
    _jax("resumed episodes at the wrong end", "loop/state:loop_state",
         "recent[RECENT_EPISODES - len(saved) :] = saved", "recent[: len(saved)] = saved"),
    _jax("lengths of the episodes after those scored", "loop/rollout:play",
         "jnp.where(playing, transition.episode_length, lengths)", "transition.episode_length"),
)  # fmt: skip

RECURRENT_FITS = in_group(
    "recurrent_fits",
    _torch("minibatches rounded up", "critic/fit_sequences:sequence_regression",
           "max(1, size // steps)", "max(1, -(-size // steps))"),
    _torch("a minibatch without a sample", "critic/fit_sequences:_minibatches", "if total > 0:", "if total >= 0:"),
    _torch("mean over steps that are no samples", "critic/fit:Samples.mean",
           "return terms.sum() / self.valid.sum()", "return terms.mean()"),
    _jax("minibatches rounded up", "critic/fit_sequences:sequence_regression",
         "(options.value_minibatch_size or steps * count) // steps",
         "-(-(options.value_minibatch_size or steps * count) // steps)"),
    _jax("a step without a sample", "critic/fit:descend.step",
         "some, none = (samples.valid > 0).any(), jnp.zeros((), samples.returns.dtype)",
         "some, none = (samples.valid >= 0).any(), jnp.zeros((), samples.returns.dtype)"),
    _jax("mean over steps that are no samples", "critic/fit:Samples.mean",
         "return terms.sum() / jnp.maximum(self.valid.sum(), 1.0)", "return terms.mean()"),
)  # fmt: skip

EDGES = in_group(
    "edges",
    _shared("weights of the snapshot, and its draws", "agent/state:AgentState.snapshot",
            "draws = self.action_draws, self.minibatch_draws", "draws = (self.action_draws, self.minibatch_draws) if before is None else before[2:4]"),
    # Noise of exactly 0, and trouble without a line search.
    _torch("an impossible option at noise 0", "distributions/categorical:Categorical.sample",
           "cumulative <= threshold", "cumulative < threshold"),
    _torch("a switch that must be off at noise 0", "distributions/bernoulli:Bernoulli.sample",
           "below_one(noise) < torch.sigmoid", "below_one(noise) <= torch.sigmoid"),
    _torch("trouble accepted without a search", "solvers/line_search:take_full_step",
           "if backtrack_iters:", "if backtrack_iters >= 0:"),
    _torch("a KL that overflows taken without a search", "solvers/line_search:take_full_step",
           "if torch.isfinite(improvement) and torch.isfinite(kl):", "if torch.isfinite(improvement):"),
    _jax("an impossible option at noise 0", "distributions/categorical:Categorical.sample",
         "cumulative <= threshold", "cumulative < threshold"),
    _jax("a switch that must be off at noise 0", "distributions/bernoulli:Bernoulli.sample",
         "below_one(noise) < jax.nn.sigmoid", "below_one(noise) <= jax.nn.sigmoid"),
    _jax("trouble accepted without a search", "solvers/line_search:take_full_step",
         "accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)",
         "accepted = jnp.isfinite(improvement) & jnp.isfinite(kl)"),
    _jax("a KL that overflows taken without a search", "solvers/line_search:take_full_step",
         "accepted = enabled & jnp.isfinite(improvement) & jnp.isfinite(kl)",
         "accepted = enabled & jnp.isfinite(improvement)"),
)  # fmt: skip

EVALUATIONS = in_group(
    "evaluations",
    _shared("evaluate's seed 0 is the run's", "runs/evaluate:evaluate_run",
            "seed = config.seed if seed is None else seed", "seed = seed or config.seed"),
    _shared("evaluate's limit 0 is the run's", "runs/evaluate:evaluate_run",
            "most = config.eval_max_steps if max_steps is None else max_steps",
            "most = max_steps or config.eval_max_steps"),
    _shared("costs of the first environments", "evaluation:_Episodes.add",
            "step.costs[playing]", "step.costs[: len(rows)]"),
    _shared("drops of the first environments", "evaluation:_Episodes.add",
            "step.dropped[playing]", "step.dropped[: len(rows)]"),
    _shared("costs of dropped episodes too", "evaluation:EvaluationResult.only",
            "self.costs[chosen]", "self.costs"),
)  # fmt: skip

CONTRACT = in_group(
    "contract",
    _shared("the first of many rewards", "contract:number", "array.size == 1 and", "array.size >= 1 and"),
    _shared("infos of those that gave none", "contract:info_of",
            "if present is not None and not present[index]:", "if present is not None and not present.any():"),
    _shared("actions that the environment writes to", "contract:copied",
            "return np.array(action) if isinstance(action, np.ndarray) else action", "return action"),
    _shared("a cut episode's observation overwritten", "seeded:SeededEpisodes.step",
            "if terminated or truncated:", "if terminated:"),
    _shared("1 for True in one flag alone", "seeded:SeededEpisodes.step",
            "if type(terminated) is not bool or type(truncated) is not bool:", "if type(terminated) is not bool:"),
    _shared("rewards of a vector in its own dtype", "checked_vector:CheckedVector._each", "values.astype(dtype)", "values.copy()"),
    _shared("a vector's rewards not copied", "checked_vector:CheckedVector._each",
            "return values.astype(dtype)", "return values.astype(dtype, copy=False)"),
)  # fmt: skip

FILES = in_group(
    "files",
    _shared("a checkpoint's folder not on the disk", "runs/checkpoint:save_checkpoint", "new.sync()", "new.names()"),
    _shared("a checkpoint's name not on the disk", "runs/checkpoint:save_checkpoint",
            "folder.sync()", "folder.names()"),
    _shared("a new folder's name not on the disk", "common/files:Folder.folder", "self.sync()", "self.names()"),
    _shared("a file's name not on the disk", "common/files:Folder.write", "self.sync()", "self.names()"),
    _shared("an agent's file without its clip", "agent/saved:Copies.load",
            "observation_clip=saved.observation_clip, policy_network", "policy_network"),
    _shared("an agent's file without its start", "spaces/space_fields:spec_of",
            "spec = PolicySpec(**read, **{n: _value(value) for n, value in fields.items()})",
            "spec = PolicySpec(**read, **{n: _value(value) for n, value in fields.items()})._replace(action_start=None)"),
)  # fmt: skip

LOOPS = (
    *(
        ROWS
        + STATISTICS
        + RESUMES
        + COSTS
        + DIVIDED
        + COMPILED
        + RECURRENT_FITS
        + EDGES
    ),
    *(EVALUATIONS + CONTRACT + FILES + ACTING),
)

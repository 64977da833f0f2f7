"""Many processes: shards and minibatches, the same run as one, lost ranks, resuming."""

import signal

import numpy as np
import pytest

from benchmarks.scale.processes import start
from parity_tests.rings.rank_threads import ThreadGroup, ThreadRanks, run_ranks
from tests.support.agents import BACKENDS
from tests.support.device_agents import Kind, make
from tests.support.waiting import PATIENCE, until
from trpo.agent.sharding import Sharding, Shards
from trpo.cli.main import main
from trpo.config.run import TrainConfig, TRPOConfig
from trpo.data.hidden_state import Memory
from trpo.distributed.ranks import Ranks, share_of
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.training.ranks import part_of_state
from trpo.training.trainer import Trainer
from trpo_torch.devices import reduction


# Its 3 environments don't divide by 2 processes.
CONFIG = TrainConfig(
    env_id="Pendulum-v1",
    backend="torch",
    num_envs=3,
    rollout_steps=15,
    seed=6,
    agent=TRPOConfig(
        policy_layer_sizes=(5,),
        critic_layer_sizes=(4,),
        value_epochs=2,
        gamma=0.9,
        gae_lambda=0.8,
    ),
)


@pytest.mark.parametrize(("total", "size"), [(10, 4), (7, 100), (12, 3), (9, 0)])
@pytest.mark.parametrize("ranks", [1, 3])
def test_minibatches_are_those_of_one_process(total, size, ranks):
    orders = np.stack([np.random.default_rng(i).permutation(total) for i in range(2)])
    parts = np.array_split(np.arange(total)[::-1], ranks)

    def of_rank(rank):
        sharding = Sharding(rank)
        numbers = parts[rank.rank]
        shards = sharding.divide(len(numbers), numbers)
        return sharding.minibatches(shards, orders, size)

    own = run_ranks(ranks, of_rank)
    members = min(size or total, total)
    for epoch, order in enumerate(orders):
        for step, expected in enumerate(
            np.split(order, range(members, total, members))
        ):
            chosen = []
            for numbers, part in zip(parts, own, strict=True):
                weights = part.weights[epoch, step, :, 0]
                chosen += numbers[part.indices[epoch, step][weights > 0]].tolist()
                assert set(weights) <= {0.0, 1.0 / len(expected)}
            assert sorted(chosen) == sorted(expected)


@pytest.mark.parametrize("minibatch", [8, 20, 0])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrent_update_of_many_processes_is_that_of_one(
    monkeypatch, cell, minibatch
):
    """Of 5 environments, of which some have fewer samples, and one has none."""
    kind = Kind(cell, {"recurrent": cell, "recurrent_size": 3})
    options = {
        "dtype": "float64", "value_minibatch_size": minibatch,
        "normalize_advantages": False,
    }  # fmt: skip
    alone = make(kind, "torch", "cpu", **options)
    batch = sequences_of(alone, steps=6, envs=5)
    expected, state = alone.update(batch), alone.get_state()

    def of_rank(ranks):
        ranks.local.ranks = ranks
        agent = make(kind, "torch", "cpu", **options)
        agent.shard(ranks)
        own = share_of(5, ranks.rank, ranks.size)
        part = {n: a[:, own] for n, a in batch.items() if n != "memory"}
        memory = Memory(*(states[own] for states in batch["memory"]))
        report = agent.update(part | {"memory": memory})
        return report, agent.get_state(), agent.digest().tobytes()

    def all_reduce(tensor):
        ThreadRanks.local.ranks.all_reduce(tensor)

    monkeypatch.setattr(reduction.distributed, "all_reduce", all_reduce)
    for size in (2, 3):
        results = run_ranks(size, of_rank)
        assert len({digest for *_, digest in results}) == 1
        report, found, _ = results[-1]
        assert report == pytest.approx(expected, rel=1e-9, abs=1e-12)
        # Its noise was drawn by the one that acted.
        for name in (name for name in state if not name.startswith("random.action")):
            close = {"rtol": 1e-9, "atol": 1e-11, "err_msg": name}
            np.testing.assert_allclose(found[name], state[name], **close)


def sequences_of(agent, steps, envs):
    generator = np.random.default_rng(3)

    def draw(*shape):
        return generator.standard_normal((steps, envs, *shape))

    valid = np.ones((steps, envs), bool)
    valid[2:, 1] = valid[:, 3] = False
    obs, starts = draw(agent.obs_dim), generator.random((steps, envs)) < 0.2
    memory = agent.initial_memory(envs)
    actions, log_probs = [], []
    for now, first in zip(obs, starts, strict=True):
        memory = memory.forget(first)
        action, log_prob, _, memory = agent.act(now, memory=memory)
        actions.append(action)
        log_probs.append(log_prob)
    return {
        "obs": obs, "actions": np.stack(actions), "log_probs": np.stack(log_probs),
        "returns": draw(1), "advantages": draw(1), "starts": starts, "valid": valid,
        "memory": agent.initial_memory(envs),
    }  # fmt: skip


def test_a_minibatch_takes_no_more_room_than_its_fullest_part():
    order = np.random.default_rng(0).permutation(4096)[None]

    def width(rank):
        sharding = Sharding(rank)
        part = sharding.minibatches(sharding.divide(1024), order, 256)
        return part.indices.shape[-1]

    (common,) = set(run_ranks(4, width))
    assert common in (96, 128)


def test_each_sample_has_its_row_among_those_of_all_processes():
    # Uneven, and with the second one's samples first.
    parts = [np.array([2, 4]), np.array([0, 1, 3])]

    def positions(rank):
        sharding = Sharding(rank)
        numbers = parts[rank.rank]
        return sharding.divide(len(numbers), numbers).positions(4)

    for found in run_ranks(2, positions):
        # The first one's rows are 0 to 3, of which it has two; the second one's 4 to 7.
        assert found.tolist() == [4, 5, 0, 6, 1]


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("devices", [1, 2])
def test_every_kth_sample_has_every_kth_row(every, devices):
    for parts in ([[2, 4], [0, 1, 3]], [[*range(13)], [13]], [[], [0, 1]], [[0]]):
        arrays = tuple(np.array(part, dtype=np.int64) for part in parts)
        shards = Shards(arrays, 0)
        room = shards.room(devices, every)
        assert room % (devices * every) == 0
        positions = shards.positions(room, every)
        assert len(set(positions)) == shards.total
        assert positions.max() < room * len(parts)
        for rank, numbers in enumerate(arrays):
            assert set(positions[numbers] // room) <= {rank}
        by_number = np.arange(shards.total) % every == 0
        np.testing.assert_array_equal(positions % every == 0, by_number)


def test_shares_are_even_and_cover_all():
    shares = [share_of(7, rank, 3) for rank in range(3)]
    assert [range(7)[share] for share in shares] == [
        range(0, 3), range(3, 5), range(5, 7),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="`num_envs`: expected one for each of 3"):
        share_of(2, 0, 3)


def test_a_state_is_divided():
    trainer = Trainer(CONFIG)
    try:
        trainer.train_once()
        whole = trainer.get_state()
    finally:
        trainer.close()
    parts = [part_of_state(whole, share_of(3, rank, 2)) for rank in range(2)]
    assert len(parts[0]["environment.episode"]) == 2
    name = "environment.actions"
    assert f"{name}.1" in parts[0]
    assert f"{name}.1" not in parts[1]
    np.testing.assert_array_equal(parts[1][f"{name}.0"], whole[f"{name}.2"])


def test_messages_of_any_length_come_whole():
    """Those that fill the first part exactly, and those that need a second."""

    def bytes_of(length):
        return {"bytes": np.arange(length, dtype=np.uint8), "none": np.zeros((0, 2))}

    for lengths in ((0, 5000), (3000, 3001), (20_000, 4096)):
        group = ThreadGroup(2)

        def of_rank(threads, group=group, lengths=lengths):
            group.rank.number = threads.rank
            gather = lambda part: np.stack(group.exchange(part.copy()))
            first = lambda part: group.exchange(part.copy())[0]
            ranks = Ranks(threads.rank, 2, gather, first)
            own = bytes_of(lengths[threads.rank])
            return [*ranks.gather(own), ranks.broadcast(own)]

        wanted = [bytes_of(length) for length in (*lengths, lengths[0])]
        for found in run_ranks(2, of_rank):
            for one, other in zip(found, wanted, strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_array_equal(one[name], other[name])


def test_a_mean_is_over_all_numbers_of_all_ranks():
    # Of 0; 0, 1; 0, 1, 2: the mean of the means would be 0.5.
    means = run_ranks(3, lambda ranks: ranks.mean(np.arange(ranks.rank + 1.0)))
    assert means == [4 / 6] * 3
    assert run_ranks(3, lambda ranks: ranks.largest(float(ranks.rank))) == [2.0] * 3


def test_each_rank_goes_on_with_its_own_episodes():
    """The second rank's environments are not the first ones of the run."""
    trainer = Trainer(CONFIG)
    try:
        trainer.train_once()
        state = trainer.get_state()
    finally:
        trainer.close()

    def of_rank(ranks):
        trainer = Trainer(CONFIG, ranks=ranks)
        try:
            return trainer.set_state(state), trainer.get_state()
        finally:
            trainer.close()

    for lost, again in run_ranks(2, of_rank):
        assert lost == ()
        for name, array in state.items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("backend", "rank", "number"),
    [("torch", 1, signal.SIGHUP), ("jax", 0, signal.SIGTERM)],
)
def test_a_signal_to_any_one_rank_ends_all_with_a_checkpoint(
    tmp_path, backend, rank, number
):
    run = tmp_path / "run"
    command = [
        *("-m", "trpo", "train", "Pendulum-v1", "--distributed", "--backend", backend),
        *("--num-envs", "2", "--rollout-steps", "20", "--total-steps", "100000000"),
        *("--policy-layer-sizes", "4", "--critic-layer-sizes", "4"),
        *("--eval-episodes", "0", "--checkpoint-interval", "1"),
        *("--run-dir", str(run)),
    ]
    processes = start(command, 2)
    try:
        until(lambda: [*run.glob("checkpoints/checkpoint-*")], *processes)
        processes[rank].send_signal(number)
        outcomes = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [128 + number] * 2, outcomes
    assert "everything is saved" in outcomes[0][0]
    checkpoint, broken = RunDirectory(run).load()
    assert not broken
    # The last of all updates: no row of metrics is newer.
    rows = read_metrics(run / "metrics.csv")
    assert rows[-1]["step"] == checkpoint.step < 10**8


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_does_not_say_where_to_meet_is_told_how(
    backend, monkeypatch, capsys, tmp_path
):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    given = [
        "train",
        "Pendulum-v1",
        "--backend",
        backend,
        "--run-dir",
        str(tmp_path / "r"),
    ]
    assert main([*given, "--distributed"]) == 2
    assert "`distributed`: expected" in capsys.readouterr().err
    assert main([*given, "--distributed", "--process-id", "1"]) == 2
    assert "`coordinator`: expected HOST:PORT" in capsys.readouterr().err

"""Many processes: shards and minibatches, the same run as one, lost ranks, resuming."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from parity_tests.rings.rank_threads import run_ranks
from tests.support.agents import BACKENDS
from tests.support.rank_processes import UPDATES, config_of, one_process, start
from tests.support.waiting import PATIENCE, until
from trpo.agent.sharding import Sharding
from trpo.cli.main import main
from trpo.config.run import TrainConfig
from trpo.rank_training import part_of_state, state_without_others
from trpo.rank_watch import LOST_RANK
from trpo.ranks import share_of
from trpo.rendezvous import Rendezvous
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.training.trainer import Trainer


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
        return sharding.positions(sharding.divide(len(numbers), numbers), 4)

    for found in run_ranks(2, positions):
        # The first one's rows are 0 to 3, of which it has two; the second one's 4 to 7.
        assert found.tolist() == [4, 5, 0, 6, 1]


def test_shares_are_even_and_cover_all():
    shares = [share_of(7, rank, 3) for rank in range(3)]
    assert [range(7)[share] for share in shares] == [
        range(0, 3), range(3, 5), range(5, 7),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="`num_envs`: expected one for each of 3"):
        share_of(2, 0, 3)


def test_a_state_is_divided_and_what_is_left_of_it_can_be_resumed(tmp_path):
    config = config_of("torch")
    trainer, other = Trainer(config), Trainer(config)
    try:
        trainer.train_once()
        whole = trainer.get_state()
        parts = [part_of_state(whole, share_of(3, rank, 2)) for rank in range(2)]
        assert len(parts[0]["environment.episode"]) == 2
        name = "environment.actions"
        assert f"{name}.1" in parts[0]
        assert f"{name}.1" not in parts[1]
        np.testing.assert_array_equal(parts[1][f"{name}.0"], whole[f"{name}.2"])
        left = state_without_others(parts[1], slice(2, 3), 3, most_episodes=16)
        assert other.set_state(left) == (0, 1)
        after = other.get_state()
    finally:
        trainer.close()
        other.close()
    # A new episode, which none has had; all else as it was.
    assert after["environment.episode"].tolist() == [17, 17, 0]
    for name in (n for n in whole if n.startswith(("policy.", "value", "observation"))):
        np.testing.assert_array_equal(after[name], whole[name], err_msg=name)
    np.testing.assert_array_equal(
        after[f"{'environment.obs'}"][2], whole["environment.obs"][2]
    )


WATCH = """
import os, sys, time
import numpy as np
from trpo.rank_watch import RankWatch
from trpo.ranks import Ranks

rank, path = int(sys.argv[1]), sys.argv[2]

def broadcast(message):
    if rank == 0:
        with open(path + ".new", "wb") as file:
            file.write(message)
        os.rename(path + ".new", path)
    while not os.path.exists(path):
        time.sleep(0.01)
    with open(path, "rb") as file:
        return file.read()

ranks = Ranks(rank, 3, broadcast)
watch = RankWatch(ranks, timeout=float(sys.argv[3]))
watch.rescue = lambda: f"saved by {rank}"
parts = ranks.gather({"rank": np.array(rank)})
assert [int(part["rank"]) for part in parts] == [0, 1, 2]
# Of 0; 0, 1; 0, 1, 2: the mean of the means would be 0.5.
assert ranks.mean(np.arange(rank + 1.0)) == 4 / 6
assert ranks.largest(float(rank)) == 2.0
print("met", flush=True)
time.sleep(1e6)
"""
# Of silence, where that is what is tested: a busy machine gives a process no turn for a
# second or two. That another has ended shows at once.
SILENCE = {signal.SIGKILL: PATIENCE, signal.SIGSTOP: 15.0}


@pytest.mark.parametrize(
    ("lost", "by", "saver"),
    [
        (1, signal.SIGKILL, 0),
        (0, signal.SIGKILL, 1),
        (2, signal.SIGSTOP, 0),
        (0, signal.SIGSTOP, 1),
    ],
)
def test_a_lost_rank_ends_the_others_which_name_it(tmp_path, lost, by, saver):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WATCH, str(rank), str(tmp_path / "meeting"),
             str(SILENCE[by])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(3)
    ]  # fmt: skip
    try:
        assert [process.stdout.readline() for process in processes] == ["met\n"] * 3
        processes[lost].send_signal(by)
        for rank, process in enumerate(processes):
            if rank == lost:
                continue
            _, message = process.communicate(timeout=PATIENCE)
            assert process.returncode == LOST_RANK
            why = "its process ended" if by == signal.SIGKILL else "no sign of life"
            assert f"rank {rank}: lost rank {lost}: {why}" in message
            assert ("saved by" in message) == (rank == saver), message
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module", params=BACKENDS)
def two(request, tmp_path_factory):
    """A run of two processes, of which one is killed after three updates."""
    backend = request.param
    directory = tmp_path_factory.mktemp(backend) / "run"
    command = ["-m", "tests.support.rank_processes", backend, str(directory)]
    processes = start(command, 2)
    outcomes = [process.communicate(timeout=PATIENCE) for process in processes]
    return directory, processes, outcomes


def test_two_processes_make_the_run_of_one(two):
    directory = two[0]
    state = dict(np.load(directory / "state.npz"))
    metrics = json.loads((directory / "metrics.json").read_text())
    # In float64, which JAX has here in processes of its own alone.
    expected, expected_metrics = one_process("torch")
    assert set(state) == set(expected)
    for name, array in expected.items():
        scale = np.abs(array).max(initial=1e-9)
        np.testing.assert_allclose(
            state[name], array, rtol=0, atol=1e-9 * scale, err_msg=name
        )
    for got, want in zip(metrics, expected_metrics, strict=True):
        for name in (n for n in want if not n.startswith("time/")):
            assert got[name] == pytest.approx(want[name], rel=1e-8, abs=1e-9), name


def test_the_process_that_is_left_saves_and_names_the_lost(two):
    directory, processes, outcomes = two
    assert processes[1].returncode == -signal.SIGKILL
    assert processes[0].returncode == LOST_RANK, outcomes[0]
    assert "rank 0: lost rank 1: its process ended; saved" in outcomes[0][1]
    checkpoint, broken = RunDirectory(directory).load()
    assert not broken
    assert int(checkpoint.arrays["training.update"]) == UPDATES
    state = dict(np.load(directory / "state.npz"))
    for name in (n for n in state if n.startswith(("policy.", "value"))):
        np.testing.assert_array_equal(checkpoint.arrays[name], state[name])


def test_one_process_goes_on_with_what_two_have_left(two):
    directory = two[0]
    checkpoint, _ = RunDirectory(directory).load()
    config = RunDirectory(directory).read_config()
    # Either backend resumes what the other has saved; JAX has no float64 here.
    trainer = Trainer(TrainConfig.from_dict({**config.to_dict(), "backend": "torch"}))
    try:
        assert trainer.set_state(checkpoint.arrays) == (2,)
        assert trainer.train_once().update == UPDATES + 1
    finally:
        trainer.close()


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
    assert [process.returncode for process in processes] == [0, 0], outcomes
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
    assert "expected all of coordinator, num_processes" in capsys.readouterr().err


def test_a_rendezvous_is_what_torchrun_or_the_command_line_says(monkeypatch):
    variables = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a", "MASTER_PORT": "5"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Rendezvous.of_environment() == Rendezvous("a", 5, 1, 3)
    assert Rendezvous.of_arguments("a:5", 3, 1) == Rendezvous("a", 5, 1, 3)
    monkeypatch.delenv("RANK")
    assert Rendezvous.of_environment() is None
    for wrong in (("a", 3, 1), ("a:5", 3, 3), ("a:5", 0, 0)):
        with pytest.raises(ValueError, match="expected"):
            Rendezvous.of_arguments(*wrong)

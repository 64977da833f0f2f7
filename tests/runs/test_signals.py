"""Signals: whatever comes, whenever, what was learned is saved, and once is enough."""

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import trpo.training.trainer
from tests.support.callback_runs import small
from tests.support.waiting import PATIENCE, until
from trpo.callbacks.base import Callback
from trpo.common.signals import ASKING, stop_signals
from trpo.config.presets import preset_config
from trpo.runs.compiled import train_compiled_run
from trpo.runs.directory import RunDirectory
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run
from trpo.training.trainer import Trainer


ROOT = Path(__file__).parents[2]
NAMES = [number.name for number in ASKING]


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


class SendingAt(Callback):
    """Sends signals to this process after an update, and as a checkpoint is made."""

    def __init__(self, update, *numbers, as_saved=()):
        self.update, self.numbers, self.as_saved = update, numbers, as_saved
        self.now = False

    def on_update(self, progress):
        self.now = progress.update == self.update
        if self.now:
            send(*self.numbers)

    def get_state(self):
        if self.now:
            send(*self.as_saved)
        return {}


def updates_saved(path):
    return int(RunDirectory(path).load()[0].arrays["training.update"])


@pytest.mark.parametrize(
    ("backend", "number"),
    [*(("torch", number) for number in ASKING), ("jax", signal.SIGHUP)],
)
def test_a_signal_ends_the_run_after_its_update(tmp_path, backend, number, capsys):
    before = [signal.getsignal(each) for each in ASKING]
    config = small(backend=backend)
    run = tmp_path / "run"
    # Twice, if it is no Ctrl-C: a terminal that closes says so more than once.
    times = 1 if number == signal.SIGINT else 2
    train_run(config, run, callbacks=[SendingAt(2, *[number] * times)])
    assert updates_saved(run) == 2
    assert "stopped at step 128; everything is saved" in capsys.readouterr().out
    assert [signal.getsignal(each) for each in ASKING] == before
    train_run(config, run, resume=True)
    assert updates_saved(run) == 6


def test_signals_at_once_and_in_the_middle_of_a_save_lose_nothing(tmp_path):
    first = SendingAt(2, *ASKING, as_saved=(signal.SIGTERM, signal.SIGHUP))
    train_run(small(), tmp_path / "run", callbacks=[first])
    assert updates_saved(tmp_path / "run") == 2
    saving = SendingAt(3, as_saved=(signal.SIGUSR1,))  # Every third one is saved.
    train_run(small(), tmp_path / "other", callbacks=[saving])
    assert updates_saved(tmp_path / "other") == 3


def test_a_second_interrupt_is_at_once_and_saves_too(tmp_path):
    calls = []

    def interrupt(progress):
        calls.append(progress.update)
        send(signal.SIGINT, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_run(small(), tmp_path / "run", callbacks=[interrupt])
    assert calls == [1]
    assert updates_saved(tmp_path / "run") == 1


@pytest.mark.parametrize("number", ASKING, ids=NAMES)
def test_a_signal_before_training_leaves_a_run_that_goes_on(tmp_path, number):
    config = small()

    def make_trainer(given):
        send(number)
        return Trainer(given)

    assert train_run(config, tmp_path / "run", make_trainer=make_trainer) is None
    assert updates_saved(tmp_path / "run") == 0
    train_run(config, tmp_path / "run", resume=True, make_trainer=make_trainer)
    assert updates_saved(tmp_path / "run") == 0
    train_run(config, tmp_path / "run", resume=True)
    assert updates_saved(tmp_path / "run") == 6


def test_the_model_is_saved_before_it_is_scored(tmp_path, monkeypatch):
    config = small(eval_episodes=1, eval_interval=0, total_steps=128)
    scored, seen = trpo.training.trainer.evaluate, []

    def evaluate(*arguments, **options):
        seen.append(updates_saved(tmp_path / "run"))
        send(signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)
        return scored(*arguments, **options)

    monkeypatch.setattr(trpo.training.trainer, "evaluate", evaluate)
    train_run(config, tmp_path / "run")
    assert seen == [2]


def test_an_ignored_signal_stays_ignored(tmp_path):
    # As by nohup, or SIGINT in a shell's background.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ASKING}
    try:
        train_run(small(), tmp_path / "run", callbacks=[SendingAt(2, *ASKING * 2)])
        after = {signal.getsignal(number) for number in ASKING}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert updates_saved(tmp_path / "run") == 6
    assert after == {signal.SIG_IGN}


def test_a_run_in_a_thread_ends_with_the_signals_of_the_main_one(tmp_path):
    alone = threading.Thread(target=train_run, args=(small(), tmp_path / "alone"))
    alone.start()
    alone.join()
    assert updates_saved(tmp_path / "alone") == 6
    with stop_signals() as asked:
        options = {"callbacks": [SendingAt(2, signal.SIGHUP)]}
        thread = threading.Thread(
            target=train_run, args=(small(), tmp_path / "run"), kwargs=options
        )
        thread.start()
        thread.join()
        assert asked.is_set()
    # The main thread handles it: updates may be done until it has its turn.
    assert 2 <= updates_saved(tmp_path / "run") <= 6


# Before Python starts: it has no name for the handler.
FOREIGN = """
#include <signal.h>
#include <unistd.h>
static void handle(int number) { write(1, "C\\n", 2); }
__attribute__((constructor)) static void set(void) { signal(SIGTERM, handle); }
"""
PYTHON = """
import os, signal
from trpo.common.signals import stop_signals
assert signal.getsignal(signal.SIGTERM) is None
for _ in range(2):
    with stop_signals() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_handler_set_outside_python_is_there_again_afterwards(tmp_path):
    (tmp_path / "foreign.c").write_text(FOREIGN)
    library = str(tmp_path / "foreign.so")
    build = ["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "foreign.c")]
    subprocess.run(build, check=True)
    done = subprocess.run(
        [sys.executable, "-c", PYTHON],
        env={**os.environ, "LD_PRELOAD": library},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "C\nC\n"), done.stderr


def test_faulthandler_still_has_its_signal_afterwards(tmp_path):
    with (tmp_path / "stacks").open("w") as file:
        faulthandler.register(signal.SIGUSR1, file)
        try:
            with stop_signals() as asked:
                send(signal.SIGUSR1)
                assert asked.is_set()
            send(signal.SIGUSR1)
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    assert "Current thread" in (tmp_path / "stacks").read_text()


def test_signals_as_a_compiled_run_is_made_end_it(tmp_path, monkeypatch):
    from trpo_jax.loop import trainer as compiled_run

    config = preset_config(
        "phys2d/CartPole-v1", backend="jax", num_envs=2, rollout_steps=8,
        total_steps=64, policy_layer_sizes=(4,), critic_layer_sizes=(4,),
        value_epochs=1, eval_episodes=0, checkpoint_interval=1,
    )  # fmt: skip

    class Sending(compiled_run.CompiledTrainer):
        def __init__(self, *arguments, **options):
            send(signal.SIGHUP, signal.SIGUSR1)
            super().__init__(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(compiled_run, "CompiledTrainer", Sending)
        train_compiled_run(config, tmp_path / "run", num_seeds=2)
    members = [path for path in (tmp_path / "run").iterdir() if path.is_dir()]
    assert [updates_saved(path) for path in members] == [0, 0]
    train_compiled_run(config, tmp_path / "run", resume=True)
    assert [updates_saved(path) for path in members] == [4, 4]


def test_a_terminal_that_closes_lets_all_runs_of_a_sweep_save(tmp_path):
    root = tmp_path / "sweep"
    command = [
        *(sys.executable, "-m", "trpo", "sweep", "Pendulum-v1", "--backend", "torch"),
        *("--run-dir", str(root), "--workers", "2", "--total-steps", "640000"),
        *("--seeds", "2", "--values", "num_envs=2", "rollout_steps=64"),
        *("eval_episodes=1", "policy_layer_sizes=8x8"),
    ]
    sweep = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)

    def both():
        paths = [p for p in root.glob("*/metrics.csv") if len(read_metrics(p)) > 2]
        return len(paths) == 2 and paths

    paths = until(both, sweep)
    # To the sweep and its runs, as of a terminal.
    os.killpg(sweep.pid, signal.SIGHUP)
    printed, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 129, printed
    for path in paths:
        steps = read_metrics(path)[-1]["step"]
        assert steps == 128 * updates_saved(path.parent) > 0


def ended(code, before=()):
    """How a command ends whose signals are watched: status, and what it printed."""
    program = f"""
import ctypes, gc, os, signal, subprocess, sys, time
from trpo.common.signals import stop_signals, watched_signals
def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
def hang(*numbers):
    # As a compiler, which comes back to no handler; signals come from elsewhere.
    kills = "".join(f"sleep 0.2; kill -{{n}} {{os.getpid()}};" for n in numbers)
    subprocess.Popen(["sh", "-c", kills])
    mutex = ctypes.create_string_buffer(64)
    while True:
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
with watched_signals():
{textwrap.indent(textwrap.dedent(code), "    ")}
"""
    done = subprocess.run(
        [*before, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


SAID = "stopping after this update"
AGAIN = f"{SAID}; Ctrl-C again ends at once\n"


@pytest.mark.parametrize("number", ASKING, ids=NAMES)
def test_a_command_that_has_nothing_to_save_ends_at_once(number):
    assert ended(f"hang({int(number)})") == (128 + number, "")


def test_what_a_command_says_at_once_and_how_it_ends():
    assert ended("with stop_signals(): hang(2, 2)") == (130, AGAIN)
    # One that is no Ctrl-C may come as often as it likes.
    code = """
    with stop_signals("stopping all") as asked:
        send(15, 15, 1, 10, 15)
        time.sleep(0.2)
    sys.exit(asked.status)
    """
    assert ended(code) == (143, "stopping all\n")


def test_a_signal_in_somebody_elses_callback_is_not_lost():
    # JAX has one of the garbage collection, out of which no exception comes.
    code = """
    gc.callbacks.append(lambda *_: send(2))
    with stop_signals() as asked:
        gc.collect(0)
        gc.callbacks.clear()
        assert asked.is_set()
        time.sleep(60)
    """
    # A callback is called before and after.
    assert ended(code) == (130, AGAIN)


def test_what_is_ignored_as_a_command_starts_stays_so():
    code = "with stop_signals(): send(2, 15, 1, 10, 2)\nprint('here')"
    ignoring = ["sh", "-c", "trap '' INT TERM HUP USR1; exec \"$@\"", "sh"]
    assert ended(code, ignoring) == (0, "here\n")


def test_a_forked_process_has_signals_of_its_own():
    # As a pool of the user's, which ends its workers by SIGTERM.
    code = """
    with stop_signals() as asked:
        if not (child := os.fork()):
            time.sleep(60)
            os._exit(0)
        os.kill(child, 15)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 15
        time.sleep(0.2)
        assert not asked.is_set()
    """
    assert ended(code) == (0, "")


def test_processes_of_a_command_get_no_signal_as_they_start():
    code = """
    from trpo.common.signals import ASKING, unsignalled
    with unsignalled():
        masked = subprocess.Popen(["sleep", "60"])
    for number in ASKING:
        masked.send_signal(number)
    time.sleep(0.2)
    assert masked.poll() is None
    masked.kill()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    """
    assert ended(code) == (0, "")


# Sends a signal as a module is about to be imported.
SENDS = """
import os, sys

class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["SEND"]))

if any(part == "trpo" for part in sys.orig_argv):
    sys.meta_path.insert(0, Sends())
"""


@pytest.mark.parametrize(
    ("command", "at", "status", "said"),
    [
        # Before anything of a command is there, and where it writes nothing.
        ("train Pendulum-v1 --backend jax", "tyro", 130, ""),
        ("presets", "trpo.cli.presets_table", 143, ""),
        ("parity", "parity_tests", 129, ""),
        ("train Pendulum-v1 --backend jax", "jax", 130, "stopped at step 0"),
        ("sweep Pendulum-v1", "trpo.cli.sweep_command", 138, ""),
    ],
)
def test_a_signal_while_a_command_is_imported(tmp_path, command, at, status, said):
    (tmp_path / "sitecustomize.py").write_text(SENDS)
    done = subprocess.run(
        [sys.executable, "-m", "trpo", *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "AT": at,
            "SEND": str(status - 128),
        },
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, AGAIN if said else "")
    assert said in done.stdout
    assert bool(said) == (tmp_path / "runs").exists()

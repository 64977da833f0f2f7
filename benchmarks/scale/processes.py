"""Processes of one run on this machine, as launchers start them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
# A variable that tells the processes of a launch from all others.
LAUNCH = "TRPO_BENCHMARK_LAUNCH"
# Launchers and backends that the README has a line for. Slurm itself is not here: what
# its srun sets on one machine is.
LAUNCHED = (
    ("torchrun", "torch"), ("mpirun", "torch"), ("mpirun", "jax"),
    ("--coordinator", "jax"), ("srun's variables", "torch"),
    ("srun's variables", "jax"),
)  # fmt: skip


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def settings(**variables: str) -> dict[str, str]:
    """The environment of a process, with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}


def start(command: list[str], size: int, **variables: str) -> list[subprocess.Popen]:
    """`size` processes of one command, which meet on this machine as by torchrun."""
    shared = {
        "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()), **variables,
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=settings(**shared, RANK=str(rank)),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip


def on_ranks(command: list[str], size: int) -> list[str]:
    """What each of `size` processes prints.

    Raises:
        RuntimeError: one failed.
    """
    processes = start(command, size)
    outcomes = [process.communicate(timeout=500) for process in processes]
    for process, (_, error) in zip(processes, outcomes, strict=True):
        if process.returncode:
            raise RuntimeError(error[-2000:])
    return [printed for printed, _ in outcomes]


class Launch:
    """`trpo` in many processes of a launcher; as a context, none is left of them.

    Args:
        launcher: One of `LAUNCHED`.
        arguments: Of `trpo`.
        size: Processes.
        log: File of all that they print.
        restarts: Of torchrun, once a process was lost.
    """

    def __init__(
        self,
        launcher: str,
        arguments: list[str],
        size: int,
        log: Path,
        restarts: int = 0,
    ) -> None:
        self.size, self.log, self._name = size, log, uuid.uuid4().hex
        trpo = [sys.executable, "-m", "trpo", *arguments]
        port = str(free_port())
        more: list[tuple[list[str], dict[str, str]]]
        if launcher == "torchrun":
            starts = ["--nproc-per-node", str(size), "--master-port", port]
            starts += ["--max-restarts", str(restarts)]
            more = [([str(BIN / launcher), *starts, *trpo[1:]], {})]
        elif launcher == "mpirun":
            as_root = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
            starts = [str(BIN / launcher), "--oversubscribe", "-n", str(size)]
            more = [([*starts, *trpo], dict.fromkeys(as_root, "1"))]
        elif launcher == "--coordinator":
            trpo += [launcher, f"127.0.0.1:{port}", "--num-processes", str(size)]
            more = [([*trpo, "--process-id", str(rank)], {}) for rank in range(size)]
        else:
            shared = {
                "SLURM_JOB_ID": port, "SLURM_NTASKS": str(size),
                "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1",
            }  # fmt: skip
            own = ("SLURM_PROCID", "SLURM_LOCALID")
            more = [
                (trpo, shared | dict.fromkeys(own, str(rank))) for rank in range(size)
            ]
        with log.open("w") as file:
            self.processes = [
                subprocess.Popen(
                    command, env=settings(**variables, **{LAUNCH: self._name}),
                    cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT,
                )
                for command, variables in more
            ]  # fmt: skip

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for pid in self.ranks().values():
            os.kill(pid, signal.SIGKILL)

    def ranks(self) -> dict[int, int]:
        """Process ids of those that live, by their ranks."""
        if len(self.processes) == self.size:
            living = enumerate(self.processes)
            return {rank: one.pid for rank, one in living if one.poll() is None}
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                pairs = (process / "environ").read_bytes().split(b"\0")
                split = (pair.partition(b"=") for pair in pairs)
                variables = {name: value for name, _, value in split}
                if variables.get(LAUNCH.encode()) == self._name.encode():
                    for name in (b"RANK", b"OMPI_COMM_WORLD_RANK"):
                        if name in variables:
                            found[int(variables[name])] = int(process.name)
        return found

    def wait(self, timeout: float = 300.0) -> str:
        """Wait for all to end; returns what they have printed.

        Raises:
            TimeoutError: some are still there.
        """
        deadline = time.monotonic() + timeout
        while any(process.poll() is None for process in self.processes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"still there: {self.ranks()}")
            time.sleep(0.05)
        return self.log.read_text(errors="replace")

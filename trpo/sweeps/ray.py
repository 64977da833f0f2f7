"""Runs here, or on a Ray cluster as tasks that each start one process.

Ray is an optional dependency (`pip install "trpo[ray]"`): it places the tasks on nodes
with a free core and starts a task again whose node is lost, up to three times, which
then continues from its newest checkpoint.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trpo.common.files import Folder
from trpo.common.signals import Stop
from trpo.common.validation import require_count
from trpo.environments.ray_cluster import connect, require_ray
from trpo.sweeps.pool import PROCESS_INTERVAL, Launch, execute


@contextmanager
def executor(
    address: str | None, workers: int | None = None
) -> Iterator[tuple[Launch, int]]:
    """Where runs are made: here, or on a Ray cluster, while the block lasts.

    Args:
        address: As of `ray_launch`; None for this machine, without Ray.
        workers: Runs at a time; by default one for each core there is.

    Yields:
        What starts a run's process, and the runs at a time.

    Raises:
        ValueError: `workers` is no count, or see `ray_launch`.
    """
    if workers is not None:
        require_count("workers", workers)
    here = nullcontext((execute, os.cpu_count() or 1))
    with here if address is None else ray_launch(address) as (launch, cores):
        yield launch, workers or cores


@contextmanager
def ray_launch(address: str) -> Iterator[tuple[Launch, int]]:
    """Connect to a cluster for the time of the block.

    All nodes must see the run directories under the same path, and have this package
    installed in the same version.

    Args:
        address: As `ray.init`'s: "auto" for the cluster that this machine belongs to,
            "ray://HOST:10001" for another, "local" for a new one on this machine.

    Yields:
        What takes the place of `trpo.sweeps.pool.execute`, and the cluster's cores.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at `address`.
    """
    require_ray("ray_address")
    import ray
    from ray import exceptions

    try:
        connect(address, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise ValueError(
            f"`ray_address`: expected a Ray cluster at {address!r}: {error}"
        ) from error
    task = ray.remote(num_cpus=1)(_execute)

    def launch(command: list[str], log: Path, stop: Stop) -> None:
        log = log.resolve()
        flag = f".{log.name}.stop"
        # The interpreter's path may be another on another node.
        arguments = command[1:] if command[0] == sys.executable else command
        with Folder(log.parent) as folder:
            folder.remove(flag)
            pending = task.remote(arguments, str(log), flag)
            try:
                while not ray.wait([pending], timeout=PROCESS_INTERVAL)[0]:
                    if stop.is_set():
                        folder.create(flag).close()
                ray.get(pending)
            except exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except exceptions.RayError as error:
                raise RuntimeError(f"{log.stem}: lost by Ray: {error}") from error
            finally:
                folder.remove(flag)

    try:
        yield launch, int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


def _execute(arguments: list[str], log: str, flag: str) -> None:
    """`execute` by this node's interpreter, until there is a file `flag`."""
    path = Path(log)
    stop: Any = SimpleNamespace(is_set=lambda: os.path.lexists(path.with_name(flag)))
    execute([sys.executable, *arguments], path, stop)

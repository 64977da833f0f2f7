"""Runs of a sweep on a Ray cluster, as tasks that each start one process.

Ray is an optional dependency (`pip install "trpo[ray]"`): it places the tasks on nodes
with a free core and starts a task again whose node is lost, which then continues from
its newest checkpoint.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from trpo.common.files import Folder
from trpo.environments.ray_cluster import connect, require_ray
from trpo.run_process import Launch, Stop, execute


# Times that Ray starts a run again whose node was lost.
RETRIES = 3


class FileFlag(NamedTuple):
    """A `threading.Event` for all nodes: set while the file is there."""

    path: Path

    def is_set(self) -> bool:
        """Whether the file is there."""
        return os.path.lexists(self.path)

    def set(self) -> None:
        """Make the file."""
        with Folder(self.path.parent) as folder:
            folder.create(self.path.name).close()

    def clear(self) -> None:
        """Remove it."""
        with Folder(self.path.parent) as folder:
            folder.remove(self.path.name)


@contextmanager
def ray_launch(address: str, root: Path) -> Iterator[tuple[Launch, int]]:
    """Connect to a cluster for the time of the block.

    Args:
        address: As `ray.init`'s: "auto" for the cluster that this machine belongs to,
            "ray://HOST:10001" for another, "local" for a new one on this machine.
        root: Directory of the run directories. All nodes must see it under this path,
            and must have this package installed in the same version.

    Yields:
        What takes the place of `trpo.run_process.execute`, and the cluster's cores.

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
    flag = FileFlag(root.resolve() / ".stop")
    flag.clear()
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_execute)

    def launch(command: list[str], log: Path, stop: Stop) -> None:
        # The interpreter's path may be another on another node.
        arguments = command[1:] if command[0] == sys.executable else command
        pending = task.remote(arguments, str(log.resolve()), str(flag.path))
        while not ray.wait([pending], timeout=0.5)[0]:
            if stop.is_set():
                flag.set()
        try:
            ray.get(pending)
        except exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except exceptions.RayError as error:
            raise RuntimeError(f"{log.stem}: lost by Ray: {error}") from error

    try:
        yield launch, int(ray.cluster_resources().get("CPU", 1))
    finally:
        flag.clear()
        ray.shutdown()


def _execute(arguments: list[str], log: str, flag: str) -> None:
    """`execute` by this node's interpreter."""
    execute([sys.executable, *arguments], Path(log), FileFlag(Path(flag)))

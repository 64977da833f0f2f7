"""A Ray cluster of this machine alone, held by a process of its own.

Ray forks as it starts one, which a process with JAX's threads must not. The cluster
ends with the program that asked for it, even if that is killed: the pipe closes.
"""

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from trpo.common.user_modules import python_command


def require_ray(field: str) -> None:
    """Refuse what needs Ray where it is not installed.

    Raises:
        ValueError: it is not; `field` is what asks for it.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            f"`{field}`: expected Ray to be installed, found none: "
            'pip install "trpo[ray]".'
        )


class _OwnPaths(list):
    """The part of Ray's path for its workers that is on this process's `sys.path`."""

    def extend(self, paths: Iterable[str]) -> None:
        """See `list`."""
        super().extend(path for path in paths if path in sys.path)


def connect(address: str, **options: Any) -> None:
    """`ray.init`, whose workers have no current directory on their `sys.path`.

    Ray puts that of the program which connects first on theirs, and so would run a
    `numpy.py` that lies there. A program that connects as a client has no say in it.
    """
    import ray
    from ray.job_config import JobConfig

    if not address.startswith("ray://"):
        options["job_config"] = JobConfig()
        options["job_config"]._py_driver_sys_path = _OwnPaths()
    ray.init(address=address, log_to_driver=False, **options)


@functools.cache
def start() -> tuple[str, subprocess.Popen[str]]:
    """Start a cluster, the first time it is called.

    Returns:
        Its address, and the process that holds it while its standard input is open.

    Raises:
        RuntimeError: Ray did not start.
    """
    # Ray's own choice for a new cluster, which those who connect have to make too.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    holder = subprocess.Popen(
        python_command("trpo.environments.ray_cluster"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the program that trains, which needs the cluster to save.
        start_new_session=True,
    )
    assert holder.stdout is not None
    address = holder.stdout.readline().strip()
    if not address:
        raise RuntimeError("expected Ray to start here; what it said is above")
    return address, holder


def stop() -> None:
    """End what `start` has started."""
    if start.cache_info().currsize:
        _, holder = start()
        holder.communicate()
        start.cache_clear()


def main() -> None:
    """Hold a cluster while somebody holds the other end of standard input."""
    import ray

    connect("local", include_dashboard=False)
    sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()

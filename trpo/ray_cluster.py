"""A Ray cluster of this machine alone, held by a process of its own.

Ray forks as it starts one, which a process with JAX's threads must not. The cluster
ends with the program that asked for it, even if that is killed: the pipe closes.
"""

import functools
import importlib.util
import os
import subprocess
import sys


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


@functools.cache
def start() -> tuple[str, subprocess.Popen]:
    """Start a cluster, the first time it is called.

    Returns:
        Its address, and the process that holds it while its standard input is open.

    Raises:
        RuntimeError: Ray did not start.
    """
    # Ray's own choice for a new cluster, which those who connect have to make too.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    holder = subprocess.Popen(
        [sys.executable, "-m", "trpo.ray_cluster"],
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

    ray.init(include_dashboard=False, log_to_driver=False)
    sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()

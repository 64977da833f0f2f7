"""What makes a GPU compute the same bits each time, which of itself it does not.

Sums by atomic additions come in any order, and a kernel may be chosen by the time that
it took. On a CPU both backends give the same bits as they are.
"""

import os
import sys


XLA_FLAG = "--xla_gpu_deterministic_ops=true"
CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def set_environment() -> None:
    """Set the variables that the frameworks read once, before they start on a GPU.

    Too late for JAX if it has been imported, whose flags are then left as they are.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if XLA_FLAG not in flags and "jax" not in sys.modules:
        os.environ["XLA_FLAGS"] = f"{flags} {XLA_FLAG}".strip()
    os.environ.setdefault(*CUBLAS)

"""Keeps what JAX has compiled, so that the next run of equal sizes starts at once."""

import os
import platform
import sys
from pathlib import Path


OPT_OUT = "TRPO_COMPILATION_CACHE"
"""Environment variable; 0 compiles afresh in every run."""


def enable_compilation_cache() -> Path | None:
    """Have JAX keep compiled programs in the user's cache directory.

    That is `$XDG_CACHE_HOME/trpo/jax/<host>`, by default under `~/.cache`; each host
    has its own, as programs are compiled for one processor. JAX reads the setting once,
    when it is imported, so this has no effect afterwards. A `JAX_COMPILATION_CACHE_DIR`
    that the user has set stays.

    Returns:
        The directory, or None if it is left off.
    """
    if os.environ.get(OPT_OUT) == "0" or "jax" in sys.modules:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(home) / "trpo" / "jax" / (platform.node() or "localhost")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory))
    # JAX's default leaves out what compiles within a second, as most of `act` does.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])

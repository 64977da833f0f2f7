"""What is set before a framework is imported: JAX's cache, how PyTorch waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


SHOW = """
import os
from trpo.common.framework_settings import enable_compilation_cache
enable_compilation_cache()
print(os.environ.get("JAX_COMPILATION_CACHE_DIR"))
"""
COMPILE = """
from trpo.common.framework_settings import enable_compilation_cache
enable_compilation_cache()
import trpo_jax
agent = trpo_jax.TRPOAgent(3, 1, -1, 1, "cpu", (8,), (8,))
agent.act([[0.0, 0.0, 0.0]])
"""


def run(code: str, stream: str = "stdout", **changes: str | None) -> str:
    """What `code` prints in a process with a changed environment; None unsets."""
    names = (
        "JAX_COMPILATION_CACHE_DIR", "TRPO_COMPILATION_CACHE", "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
    )  # fmt: skip
    changes = dict.fromkeys(names) | changes
    env = {**os.environ, **{k: v for k, v in changes.items() if v is not None}}
    for name in [name for name, value in changes.items() if value is None]:
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return getattr(done, stream).strip()


def test_it_is_under_the_users_cache_directory(tmp_path):
    assert Path(run(SHOW, XDG_CACHE_HOME=str(tmp_path))).is_relative_to(tmp_path)


def test_a_home_that_does_not_exist_is_not_made_and_no_error(tmp_path):
    home = tmp_path / "missing"
    printed = run(SHOW, HOME=str(home), XDG_CACHE_HOME=None)
    assert printed == "None"
    assert not home.exists()


def test_it_can_be_left_off():
    assert run(SHOW, TRPO_COMPILATION_CACHE="0") == "None"


def test_a_directory_that_the_user_chose_stays():
    assert run(SHOW, JAX_COMPILATION_CACHE_DIR="elsewhere") == "elsewhere"


@pytest.mark.parametrize("choice", [None, "0"])
def test_programs_are_written_there_unless_it_is_off(tmp_path, choice):
    settings = {
        "XDG_CACHE_HOME": str(tmp_path),
        "TRPO_COMPILATION_CACHE": choice,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    run(COMPILE, **settings)
    assert bool(list(tmp_path.rglob("*act*"))) == (choice is None)


@pytest.mark.parametrize(
    ("code", "chosen", "policy", "spins"),
    [
        ("import trpo_torch", {}, "PASSIVE", "1000"),
        (
            "import trpo_torch.solvers.line_search",
            {"OMP_WAIT_POLICY": "active"}, "ACTIVE", "30000000000",
        ),
        ("import trpo_torch", {"GOMP_SPINCOUNT": "7"}, "PASSIVE", "7"),
    ],
)  # fmt: skip
def test_threads_spin_briefly_unless_the_user_says_how(code, chosen, policy, spins):
    said = run(code, "stderr", **chosen, OMP_DISPLAY_ENV="verbose")
    # As OpenMP itself has read it.
    assert f"OMP_WAIT_POLICY = '{policy}'" in said
    assert f"GOMP_SPINCOUNT = '{spins}'" in said

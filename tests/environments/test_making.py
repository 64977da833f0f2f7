"""Ids, functions and objects that make environments, and what is said of them."""

import functools
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import tests.support.counting_environments  # noqa: F401  (registers TrpoTest/…)
from tests.environments.test_contract import Odd
from trpo.cli.main import main
from trpo.common.user_modules import UserModuleError
from trpo.environments import ids
from trpo.environments.environment_worker import EnvironmentWorkerError
from trpo.environments.ids import UnknownEnvironmentError
from trpo.environments.make import make_environment
from trpo.environments.source import EnvironmentSource


def said_of(env_id, kind=UnknownEnvironmentError):
    with pytest.raises(kind) as caught:
        make_environment(env_id, seed=0)
    return str(caught.value)


@pytest.mark.parametrize("env_id", ["CartPole-v9", "cartpole-v1", "Ant-vX", "Odd-v0"])
def test_packages_are_named_only_where_the_name_is_unknown_and_never_this_one(env_id):
    said = said_of(env_id)
    assert "trpo" not in said
    assert ("installed package" in said) == (env_id == "Odd-v0")


@pytest.mark.parametrize("module", ["os", "json.decoder", "numpy"])
def test_a_module_that_registers_another_environment_is_refused(module):
    said = said_of(f"{module}:CartPole-v1")
    assert f"expected an environment that {module!r} registers" in said
    assert "'CartPole-v1' is of 'gymnasium'" in said
    assert said_of(f"{module}:Nothing-v0").startswith("`env_id`: expected a registered")


def test_an_id_that_a_plugin_registered_by_a_partial_is_its_packages(monkeypatch):
    make = functools.partial(functools.partial(Odd, 1), 2)
    spec = gymnasium.envs.registration.EnvSpec("Plugged-v0", entry_point=make)
    monkeypatch.setitem(gymnasium.registry, "Plugged-v0", spec)
    monkeypatch.setitem(ids.EARLIER, "Plugged-v0", spec)  # As if it had been there.
    assert ids.registered("tests.support.waiting:Plugged-v0") is spec
    assert "is of 'tests'" in said_of("numpy:Plugged-v0")


def test_a_module_may_register_an_id_of_gymnasiums_again(tmp_path, monkeypatch):
    before = gymnasium.registry["CartPole-v1"]
    (tmp_path / "trpo_again.py").write_text(
        "import gymnasium\n"
        "place = 'gymnasium.envs.classic_control.cartpole:CartPoleEnv'\n"
        "gymnasium.registry.pop('CartPole-v1')\n"
        "gymnasium.register('CartPole-v1', place, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        env = make_environment("trpo_again:CartPole-v1", seed=0)
        assert env.time_limit == 7  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        gymnasium.registry["CartPole-v1"] = before


def test_a_module_of_the_current_directory_is_named_with_its_path(
    tmp_path, monkeypatch
):
    (tmp_path / "trpo_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    said = said_of("trpo_beside:Mine-v0")
    assert said.endswith(f"--module {tmp_path / 'trpo_beside.py'}.")
    assert "None" not in said


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import trpo_no_such_module", "No module named 'trpo_no_such_module'"),
        ("raise RuntimeError('broken')", "broken"),
        ("from os import nothing_of_this_name", "nothing_of_this_name"),
        ("def", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_a_module_with_a_broken_import_says_what_is_broken(
    tmp_path, monkeypatch, text, cause
):
    name = f"trpo_broken_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = said_of(f"{name}:Mine-v0", UserModuleError)
    assert cause in said
    assert name in said


def test_an_unknown_id_may_be_of_an_installed_package(tmp_path, monkeypatch):
    for module, requirement in (
        ("highway_env", "gymnasium>=1.0"),
        ("highway", "flask"),
    ):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("")
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n"
            f"Requires-Dist: {requirement}\n"
        )
        (info / "top_level.txt").write_text(module)
        (info / "RECORD").write_text(f"{module}/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = said_of("highway-fast-v0")
    assert "name that first: highway_env:highway-fast-v0." in said
    assert "mujoco" not in said
    # Of a namespace that no package is called like: any that use Gymnasium.
    assert "highway_env:Zzz/Qqq-v0" in said_of("Zzz/Qqq-v0")


@pytest.mark.parametrize("env_id", ["Ant-v2", "HalfCheetah-v3", "GymV21Environment-v0"])
def test_gymnasiums_own_refusal_is_said_in_its_words(env_id, capsys):
    said = said_of(env_id)
    assert said.startswith(f"`env_id`: '{env_id}' can't be made: ")
    assert "constructor" not in said
    assert main(["train", env_id, "--backend", "torch"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "Traceback" not in lines[0]


def test_a_function_makes_an_environment_and_says_its_name_where_it_fails():
    def fails():
        raise RuntimeError("planted")

    with pytest.raises(EnvironmentWorkerError, match=r"planted \(.*fails\)"):
        make_environment(fails, seed=0)
    with pytest.raises(ValueError, match=r"returns a gymnasium\.Env, got 3 from"):
        make_environment(lambda: 3, seed=0)
    for no_maker in (3, None, ["CartPole-v1"]):
        with pytest.raises(ValueError, match="`env`: expected the id"):
            make_environment(no_maker, seed=0)  # pyright: ignore[reportArgumentType]
    assert EnvironmentSource.of(Odd()).name == "Odd"
    assert EnvironmentSource.of(gymnasium.make("CartPole-v1")).name == "CartPole-v1"


# Registered in `main`, by a class of the program itself, and only by that: a process
# that imports the program has never heard of it.
PROGRAM = """
import gymnasium, numpy as np
from trpo.environments.make import make_vector_environment

class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        return np.ones(2, np.float32), 1.0, True, False, {}

def main():
    gymnasium.register("Mine-v0", Mine)
    env = make_vector_environment("Mine-v0", 1, seed=0, vectorization="async")
    env.reset()
    print(env.step(np.zeros(1, int))[1])
    env.close()

"""
GUARDED = f"{PROGRAM}if __name__ == '__main__':\n    main()\n"


def run(folder, text, *arguments, **options):
    (folder / "program.py").write_text(text)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True,
        check=False, timeout=300, env={**os.environ, "PYTHONPATH": os.getcwd()},
        **options,
    )  # fmt: skip


def test_processes_know_what_the_program_has_registered(tmp_path):
    ended = run(tmp_path, GUARDED, "program.py")
    assert ended.stdout == "[1.]\n", ended.stderr


def test_a_program_without_a_guard_is_told_so(tmp_path):
    ended = run(tmp_path, f"{PROGRAM}main()\n", "program.py")
    last = ended.stderr.splitlines()[-1]
    assert "EnvironmentWorkerError" in ended.stderr
    assert "if __name__ == '__main__':" in ended.stderr
    assert "as it imported the program" in ended.stderr, last


def test_a_program_in_no_file_is_told_so(tmp_path):
    ended = run(tmp_path, GUARDED, "-", input=GUARDED)
    assert ended.stderr.splitlines()[-1].startswith("ValueError: `vectorization`: ")
    assert "a program in a file" in ended.stderr
    assert "Mine-v0" not in ended.stdout


def test_settings_of_a_dict_reach_whoever_makes_the_environment():
    class Parts(Odd):
        observation_space = gymnasium.spaces.Dict(
            a=Odd.observation_space, b=gymnasium.spaces.Sequence(Odd.action_space)
        )

        def _obs(self):
            return {"a": super()._obs(), "b": ()}

    source = EnvironmentSource(Parts, omit_observations=("b",))
    env = make_environment(source, seed=0)
    np.testing.assert_array_equal(env.reset()[0].shape, (2,))


WRAPPERS = """
import gymnasium
class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward
def function(env):
    return env
"""


def test_arguments_and_a_wrapper_are_of_the_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "trpo_wrappers.py").write_text(WRAPPERS)
    monkeypatch.chdir(tmp_path)
    run = str(tmp_path / "run")
    command = [
        *("train", "CartPole-v1", "--backend", "torch", "--run-dir", run),
        *("--env-kwargs", "sutton_barto_reward", "True", "--num-envs", "2"),
        *("--wrapper-class", "trpo_wrappers:Doubled", "--module", "trpo_wrappers"),
        *("--rollout-steps", "32", "--total-steps", "64", "--eval-episodes", "2"),
    ]
    assert main(command) == 0
    # -1 at the end of each episode, twice.
    assert "return -2.00 ± 0.00" in capsys.readouterr().out
    # A run that is loaded imports what its user has named, and nothing else.
    sys.modules.pop("trpo_wrappers")
    sys.path.remove(str(tmp_path))
    assert main(["evaluate", run, "--episodes", "1"]) == 2
    printed = capsys.readouterr().err
    assert "names" in printed
    assert main(["evaluate", run, "--episodes", "1", "--module", "trpo_wrappers"]) == 0
    assert "return -2.00" in capsys.readouterr().out
    more = ("--total-steps", "128", "--module", "trpo_wrappers")
    assert main(["train", "--resume", run, *more]) == 0


NO_WRAPPERS = (
    "os:system",
    "gymnasium.wrappers:nothing",
    "trpo_wrappers:function",
    "gymnasium:Env",
)


@pytest.mark.parametrize("name", NO_WRAPPERS)
def test_a_name_of_no_wrapper_is_never_called(name, tmp_path, monkeypatch):
    (tmp_path / "trpo_wrappers.py").write_text(WRAPPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = EnvironmentSource("CartPole-v1", wrapper_class=name)
    with pytest.raises(ValueError, match="`wrapper_class`: expected module:Class"):
        make_environment(source, seed=0)


def test_a_wrapper_and_arguments_given_in_python():
    source = EnvironmentSource(
        "CartPole-v1", env_kwargs={"sutton_barto_reward": True},
        wrapper_class=lambda env: gymnasium.wrappers.TransformReward(env, np.negative),
    )  # fmt: skip
    env = make_environment(source, seed=0)
    env.reset()
    assert env.step(0)[1] == 0.0
    source = EnvironmentSource("CartPole-v1", env_kwargs={"no_such": 1})
    with pytest.raises(EnvironmentWorkerError, match=r"constructor.*no_such"):
        make_environment(source, seed=0)

"""What is imported: what the user has named, nothing of a run or where one is."""

import dataclasses
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys

import gymnasium
import pytest

from trpo.cli.main import main
from trpo.common.user_modules import (
    UntrustedModuleError,
    UntrustedProjectError,
    UserModuleError,
    import_modules,
    module_names,
    python_command,
    typed_modules,
)
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.environments.make import UnknownEnvironmentError, make_environment
from trpo.runs.directory import RunDirectory, load_agent
from trpo.runs.resuming import to_resume
from trpo.runs.train import resumed_config
from trpo.sweeps.sweep import sweep_runs
from trpo.training.trainer import Trainer


BACKENDS = ("torch", "jax")
ENVIRONMENT = """
import gymnasium
import numpy as np

class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.count += 1
        obs = self.observation_space.sample()
        return obs, -float(action[0] ** 2), False, self.count >= 20, {}

gymnasium.register("Mine-v0", Mine, disable_env_checker=True)
"""
SMALL = [
    *("--num-envs", "2", "--rollout-steps", "32", "--total-steps", "64"),
    *("--eval-episodes", "1", "--policy-layer-sizes", "8"),
]


@pytest.fixture
def forget():
    """Undo imports, now if called and when the test ends, as a new process would."""
    modules, path, registry = set(sys.modules), [*sys.path], {*gymnasium.registry}

    def forget():
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in ("mine", "kit", "evil"):
                del sys.modules[name]
        sys.path[:] = path
        for env_id in {*gymnasium.registry} - registry:
            del gymnasium.registry[env_id]

    yield forget
    forget()


@pytest.fixture
def marked(tmp_path):
    """The text of a module that leaves a mark when it is executed, and the mark."""
    mark = tmp_path / "executed"
    text = f"with open({str(mark)!r}, 'a') as file:\n    file.write(__name__ + ' ')\n"
    return text, mark


def test_a_paths_folder_goes_to_the_end_of_the_path(tmp_path, forget):
    (tmp_path / "mine.py").write_text(ENVIRONMENT)
    # What lies beside it takes no other module's place.
    (tmp_path / "json.py").write_text("raise SystemExit('executed')")
    before = [*sys.path]
    for _ in range(2):
        import_modules([str(tmp_path / "mine.py")])
        assert sys.path == [*before, str(tmp_path)]
    assert "Mine-v0" in gymnasium.registry


def test_files_of_packages_are_imported_as_such(tmp_path, forget):
    package = tmp_path / "kit" / "envs"
    package.mkdir(parents=True)
    (tmp_path / "kit" / "__init__.py").touch()
    (package / "__init__.py").write_text("from . import mine\n")
    (package / "mine.py").write_text(ENVIRONMENT + "from .. import envs\n")
    for path in (package, package / "__init__.py", package / "mine.py"):
        import_modules([str(path)])
        assert "Mine-v0" in gymnasium.registry
        assert sys.path[-1] == str(tmp_path)
        forget()


@pytest.mark.parametrize(
    ("text", "file", "words"),
    [
        ("", "json.py", "one there, .*json/__init__.py"),
        ("1 / 0", "mine.py", "ZeroDivisionError"),
        ("import sys\nsys.exit()", "mine.py", "SystemExit"),
        ("def", "mine.py", "SyntaxError"),
        ("import no_such_module", "mine.py", "No module named 'no_such_module'"),
    ],
)
def test_a_module_that_cant_be_imported_says_why(tmp_path, forget, text, file, words):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserModuleError, match=words):
        import_modules([str(tmp_path / file)])


def test_what_fails_as_it_is_imported_is_one_line_with_its_place(
    tmp_path, monkeypatch, forget, capsys
):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "__init__.py").write_text("from kit import mine\n")
    wrong = "import json\n\njson.loads('{')\n"
    (tmp_path / "kit" / "mine.py").write_text(wrong)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "Pendulum-v1", "--module", "kit"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: `module`: importing kit/__init__.py failed at kit/mine.py, line 3: "
        "JSONDecodeError: Expecting property name"
    )
    assert said.count("\n") == 1
    command = said.rpartition("traceback: ")[2].strip()
    done = subprocess.run(
        ["bash", "-c", command.replace("python", sys.executable)],
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 'mine.py", line 3' in done.stderr
    (tmp_path / "kit" / "mine.py").write_text("def f(:\n")
    assert main(["doctor", "Mine-v0", "--module", "kit"]) == 2
    assert "SyntaxError: invalid syntax (mine.py, line 1). " in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--module=mine.py", "mine:Mine-v0"])
def test_code_that_changes_the_directory_moves_nothing(
    tmp_path, monkeypatch, forget, capsys, option
):
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    for folder in (place, elsewhere):
        folder.mkdir()
    away = f"import os\nos.chdir({str(elsewhere)!r})\n"
    (place / "mine.py").write_text(ENVIRONMENT + away)
    monkeypatch.chdir(place)
    env = ["Mine-v0", option] if option.startswith("-") else [option]
    arguments = ["train", *env, *SMALL, "--backend", "torch"]
    assert main([*arguments, "--run-dir", "named"]) == 0
    assert "trpo evaluate named --module mine.py" in capsys.readouterr().out
    for command in (
        arguments,
        ["train", "--resume", "named", "--total-steps", "128", "--module", "mine.py"],
        ["train", "--from", "named", "--run-dir=other", env[0], "--module", "mine.py"],
        ["evaluate", "named", "--module", "mine.py", "--episodes", "1"],
        ["evaluate", "named", "--module", "mine.py", "--episodes", "0"],
        ["plot", "named", "--out", "drawn"],
    ):
        forget()
        os.chdir(place)
        assert main(command) == (2 if "0" in command else 0)
    assert [*elsewhere.iterdir()] == []
    made = {path.name for path in place.iterdir()} - {"__pycache__"}
    assert made == {"mine.py", "named", "runs", "other", "drawn"}
    assert len([*(place / "runs").iterdir()]) == 1


@pytest.mark.parametrize(
    "name", ["no_such_module", "json.no_such", "no/such.py", "no/"]
)
def test_a_module_that_is_not_there_is_named(name, forget, capsys):
    assert main(["train", "Pendulum-v1", "--module", name]) == 2
    message = capsys.readouterr().err
    assert "no such module" in message
    assert "Traceback" not in message


def test_names_are_kept_as_dotted_names_and_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = preset_config("Pendulum-v1", modules=["a.b", "c.py", "d/e"])
    wanted = ("a.b", str(tmp_path / "c.py"), str(tmp_path / "d/e"))
    assert config.modules == module_names(wanted) == wanted
    saved = json.loads(json.dumps(config.to_dict()))
    assert TrainConfig.from_dict(saved) == config
    del saved["modules"]  # As older runs'.
    assert TrainConfig.from_dict(saved) == dataclasses.replace(config, modules=())


def test_a_typed_name_may_be_that_of_a_file_beside_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "json.py", "kit/__init__.py", "kit/envs.py", "bare/x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = typed_modules(["mine", "json", "kit", "bare.x", "none"], ["kit.envs:A-v0"])
    beside = [str(tmp_path / name) for name in ("mine.py", "kit/__init__.py")]
    assert found == (beside[0], "json", beside[1], "bare.x", "none",
                     str(tmp_path / "kit/envs.py"))  # fmt: skip


def strangers_run(path, **changes):
    """A run directory whose configuration somebody else has written."""
    config = preset_config("Pendulum-v1", backend="torch")
    RunDirectory(path).write_config(config)
    values = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("kind", ["id", "module", "path"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_run_names_is_not_imported(
    tmp_path, monkeypatch, capsys, marked, forget, backend, kind
):
    text, mark = marked
    run = tmp_path / "a run's"
    changes = {
        "id": {"env_id": "evil:Pendulum-v1"},
        "module": {"modules": ["evil"]},
        "path": {"modules": [str(run / "evil.py")]},
    }[kind]
    strangers_run(run, backend=backend, **changes)
    (run / "evil.py").write_text(text)
    # As if it were installed.
    monkeypatch.syspath_prepend(str(run))
    named = str(run / "evil.py") if kind == "path" else "evil"
    for command in (["evaluate", str(run)], ["train", "--resume", str(run)]):
        assert main(command) == 2
        message = capsys.readouterr().err
        assert shlex.join(["trpo", *command, "--module", named]) in message
        assert "--trust" in message
    other = str(tmp_path / "no.py")
    if kind == "id":
        assert main(["evaluate", str(run), "--module", other]) == 2
        wanted = shlex.join(["trpo", "evaluate", str(run), "--module", "evil", other])
        assert wanted in capsys.readouterr().err
    with pytest.raises(UntrustedModuleError, match=r"modules=\[.*evil.*trust=True"):
        load_agent(run)
    with pytest.raises(UntrustedModuleError):
        Trainer(RunDirectory(run).read_config())
    (run / "metrics.csv").write_text("step,policy/kl\n64,0.01\n")
    assert main(["plot", str(run), "--out", str(tmp_path)]) == 0
    assert not mark.exists()
    # The module is executed before it shows that there is no checkpoint.
    with pytest.raises(ValueError, match="checkpoint"):
        load_agent(run, trust=True)
    assert mark.exists() == (kind != "id")


def test_a_run_uploads_to_no_project_that_the_user_has_not_named(tmp_path, capsys):
    run = tmp_path / "a run's"
    strangers_run(run, callbacks={"wandb_project": "a stranger's"})
    command = ["train", "--resume", str(run)]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert shlex.join(["trpo", *command, "--wandb-project", "a stranger's"]) in message
    assert "--trust" in message
    with pytest.raises(UntrustedProjectError, match=r"wandb_project=.*trust=True"):
        resumed_config(run, None)
    # Of the one that is named, or of a run that is trusted, no more is asked.
    assert resumed_config(run, None, wandb_project="mine").callbacks.wandb_project == (
        "mine"
    )
    assert resumed_config(run, None, trust=True).callbacks.wandb_project == (
        "a stranger's"
    )
    # To look at it uploads nothing.
    assert main(["evaluate", str(run)]) == 2
    assert "no valid checkpoint" in capsys.readouterr().err
    config = RunDirectory(run).shown_config()
    words = shlex.split(to_resume(run, config))
    assert words == ["trpo", *command, "--wandb-project", "a stranger's"]


def test_a_compiled_run_neither(tmp_path, capsys):
    strangers_run(tmp_path / "run", callbacks={"wandb_project": "a stranger's"})
    (tmp_path / "run" / "compiled.json").write_text('{"num_seeds": 1, "sweep": {}}')
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    assert "--wandb-project" in capsys.readouterr().err


SETTINGS = """
import os, sys
os.environ["HOME"] = sys.argv[1]
os.chdir(sys.argv[1] + "/run")
from trpo.common.user_modules import import_wandb
settings = import_wandb().setup().settings
print(settings.base_url, settings.entity, settings.project, os.getcwd())
"""


def test_settings_of_wandb_in_a_run_directory_are_not_read(tmp_path):
    pytest.importorskip("wandb")
    for folder, name in (("run/wandb", "stranger"), (".config/wandb", "user")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "settings").write_text(
            f"[default]\nbase_url = http://{name}.invalid\nentity = {name}\n"
        )
    (tmp_path / "run" / ".wandb").symlink_to(tmp_path / "run" / "wandb")
    environment = {n: v for n, v in os.environ.items() if not n.startswith("WANDB_")}
    ended = subprocess.run(
        [sys.executable, "-c", SETTINGS, str(tmp_path)],
        env={**environment, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = f"http://user.invalid user None {tmp_path / 'run'}"
    assert ended.stdout.strip() == wanted


def test_an_id_given_in_python_is_the_users_word(tmp_path, monkeypatch, forget):
    (tmp_path / "mine.py").write_text(ENVIRONMENT)
    with pytest.raises(UnknownEnvironmentError, match="--module PATH"):
        make_environment("mine:Mine-v0", seed=0)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = preset_config("mine:Mine-v0", num_envs=2, backend="torch")
    Trainer(config).close()
    # What is imported already executes nothing: it needs no word.
    RunDirectory(tmp_path / "run").write_config(config)
    assert RunDirectory(tmp_path / "run").read_config() == config
    forget()
    with pytest.raises(UntrustedModuleError):
        RunDirectory(tmp_path / "run").read_config()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_environment_of_ones_own_from_training_to_loading(
    tmp_path, capsys, forget, backend
):
    folder, run = tmp_path / "my envs", tmp_path / "a run's"
    folder.mkdir()
    (folder / "mine.py").write_text(ENVIRONMENT)
    path = str(folder / "mine.py")
    given = [*SMALL, "--backend", backend, "--run-dir", str(run)]
    # Processes that are started anew import it themselves.
    given += ["--vectorization", "async" if backend == "torch" else "sync"]
    assert main(["train", "Mine-v0", *given]) == 2
    assert main(["train", "Mine-v0", f"--module={path}", *given]) == 0
    words = shlex.join([str(run), "--module", path])
    printed = capsys.readouterr().out
    assert f"trpo evaluate {words}\n" in printed
    assert f"trpo train --resume {words} --total-steps 128\n" in printed
    assert RunDirectory(run).shown_config().modules == (path,)

    forget()
    capsys.readouterr()
    command = ["evaluate", str(run), "--episodes", "1"]
    assert main(command) == 2
    printed = capsys.readouterr().err
    typed = shlex.split(printed[printed.index("trpo evaluate") :].partition(" (")[0])
    assert typed == ["trpo", *command, "--module", path]
    assert main(typed[1:]) == 0

    forget()
    resume = ["train", "--resume", str(run), "--total-steps"]
    assert main([*resume, "128"]) == 2
    assert main([*resume, "128", "--trust"]) == 0
    forget()
    # It has been moved since.
    moved = (folder / "mine.py").rename(tmp_path / "mine.py")
    assert main([*resume, "192", "--trust"]) == 2
    assert main([*resume, "192", "--module", str(moved)]) == 0
    assert RunDirectory(run).shown_config().modules == (str(moved),)
    forget()
    agent, config = load_agent(run, modules=[str(moved)])
    assert config.env_id == "Mine-v0"
    assert agent.act([[0.0, 0.0]])[0].shape == (1, 1)


def test_a_sweep_of_ones_own_environment(tmp_path, monkeypatch, forget):
    (tmp_path / "mine.py").write_text(ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    values = ["num_envs=2", "rollout_steps=32", "eval_episodes=1"]
    command = [
        *("sweep", "mine:Mine-v0", "--backend", "torch", "--seeds", "1"),
        *("--total-steps", "64", "--run-dir", "sweep", "--values", *values),
    ]
    assert main([*command, "vectorization=async"]) == 0
    assert len((tmp_path / "sweep/results.csv").read_text().splitlines()) == 2

    # Where the file lies now is no part of what was asked for.
    root, given = tmp_path / "other", {"backend": "torch", "eval_episodes": 1}
    (first,) = sweep_runs(["Mine-v0"], 1, {}, **given, modules=("a.py",))
    RunDirectory(root / first.name).write_config(first.config)
    (again,) = sweep_runs(["Mine-v0"], 1, {}, **given, modules=("b.py",))
    again.check(root)


def plant(folder, text):
    """A file in place of every module that something might import, but for `trpo`.

    Nor of those that Python itself imports for `-m`, before anything of a package.
    """
    code = "import runpy, sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    names -= {*done.stdout.split()}
    optional = {"tensorflow", "IPython", "sitecustomize", "usercustomize", "evil"}
    for name in filter(str.isidentifier, (names | optional) - {"trpo"}):
        (folder / f"{name}.py").write_text(text)
    (folder / "evil.egg-info").mkdir()
    # Matplotlib's settings, which are read first; a pipe never ends.
    os.mkfifo(folder / "matplotlibrc")
    points = "[gymnasium.envs]\nevil=evil\n[jax_plugins]\nevil=evil\n"
    (folder / "evil.egg-info/entry_points.txt").write_text(points)


def test_a_film_is_made_without_a_file_of_variables(tmp_path):
    (tmp_path / ".env").write_text("PLANTED=1\nFFMPEG_BINARY=./evil\n")
    code = (
        "import os\n"
        "from trpo.rollout.evaluation import filmed_environment\n"
        "filmed_environment('CartPole-v1', 0, 'video')\n"
        "assert 'PLANTED' not in os.environ\n"
        "import dotenv\n"
        "assert dotenv.find_dotenv()\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)


def run_in(folder, *arguments, python=("-m",)):
    done = subprocess.run(
        [sys.executable, *python, "trpo", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# A program of the user's own, which starts processes: no command takes care of it.
SCRIPT = """
from trpo.environments.make import make_vector_environment

if __name__ == "__main__":
    env = make_vector_environment("CartPole-v1", 1, seed=0, vectorization="async")
    env.close()
"""


def test_nothing_of_the_current_directory_is_executed(tmp_path, marked):
    text, mark = marked
    text += "raise ImportError\n"
    here = tmp_path / "here"
    here.mkdir()
    plant(here, text)
    # The file has to be one that Python would take: seen without the project's care.
    taken = subprocess.run(
        [sys.executable, "-c", "import gymnasium"], cwd=here, check=False,
        capture_output=True,
    )  # fmt: skip
    assert taken.returncode == 1
    assert mark.read_text() == "gymnasium "
    mark.unlink()

    (tmp_path / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, tmp_path / "script.py"], cwd=here, check=True)
    # What is started in a process of its own asks for arguments; that much is imported.
    subprocess.run(
        python_command("trpo.sweeps.worker"), cwd=here, check=False, capture_output=True
    )
    assert not mark.exists(), mark.read_text()
    run_in(here, "spaces")
    run_in(here, "presets", "Pendulum-v1")
    small = [*SMALL, "--run-dir", "run"]
    run_in(here, "train", "Pendulum-v1", "--backend", "torch",
           "--vectorization", "async", *small)  # fmt: skip
    plant(here / "run", text)
    run_in(here / "run", "evaluate", ".", "--episodes", "1", "--backend", "jax")
    run_in(here / "run", "plot", ".")
    values = ["num_envs=2", "rollout_steps=32", "eval_episodes=1"]
    # As the command `trpo` does: its processes might find another one here.
    (here / "trpo.py").write_text(text)
    run_in(here, "tune", "Pendulum-v1", "--backend", "torch", "--budget", "64",
           "--total-steps", "64", "--values", *values, "vectorization=async",
           python=("-P", "-m"))  # fmt: skip
    assert not mark.exists(), mark.read_text()

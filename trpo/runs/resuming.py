"""What a run that is resumed goes on with: the command, refusals and remarks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from trpo.agent.make import MODULES, load_backend
from trpo.callbacks.base import own_metrics
from trpo.callbacks.state import decoded_state
from trpo.common.machine import processor_name
from trpo.common.terminal import quoted
from trpo.common.user_modules import needed_modules
from trpo.common.validation import shown
from trpo.config.run import TrainConfig
from trpo.data.report import StepStatus
from trpo.runs.checkpoint import Checkpoint
from trpo.runs.directory import RunDirectory, RunDirectoryError, installed_versions
from trpo.training.progress import COLUMNS


def quoted_run(run_dir: Path, config: TrainConfig) -> str:
    """A run as the words of a shell's command that loads it."""
    modules = needed_modules(config)
    option = ["--module"] if modules else []
    return " ".join([quoted(run_dir), *option, *map(quoted, modules)])


def to_resume(run_dir: Path, config: TrainConfig) -> str:
    """The shell's command that goes on with a run."""
    words = ["trpo train --resume", quoted_run(run_dir, config)]
    if (project := config.callbacks.wandb_project) is not None:
        words += ["--wandb-project", quoted(project)]
    return " ".join(words)


def require_more(
    config: TrainConfig,
    root: RunDirectory,
    members: Sequence[RunDirectory],
    newest: Checkpoint,
) -> None:
    """Refuse to resume where there is nothing to do, before anything changes.

    Args:
        config: Of the run as it is to go on.
        root: Its directory.
        members: Directory of each of its members.
        newest: Checkpoint of one of them.

    Raises:
        RunDirectoryError: see above.
    """
    if newest.step < config.num_steps or newest.metadata.get("due") is not None:
        return
    was = newest.metadata["config"].get("total_steps", 0)  # It fits, so it is one.
    if (
        config.total_steps < was
        or config.eval_episodes == 0
        or all(member.read_evaluation() is not None for member in members)
    ):
        more = f"{to_resume(root.path, config)} --total-steps {2 * newest.step}"
        raise RunDirectoryError(
            f"`total_steps`: already finished at {newest.step:,}: pass more, as in "
            f"{more}"
        )


def due_metrics(checkpoint: Checkpoint) -> dict[str, float] | None:
    """Metrics of the last update whose evaluation was still to come; None if it wasn't.

    Raises:
        ValueError: they are no metrics of an update.
    """
    metrics = decoded_state(checkpoint.metadata.get("due"))
    if metrics is None:
        return None
    if not (
        isinstance(metrics, dict)
        and {"policy/kl", "policy/status"} <= metrics.keys()
        and all(type(value) in (int, float) for value in metrics.values())
        and metrics["policy/status"] in list(StepStatus)
    ):
        raise ValueError(f"`due`: expected an update's metrics, got {shown(metrics)}.")
    # Under other names callbacks have logged something.
    own_metrics({n: v for n, v in metrics.items() if n not in COLUMNS})
    return metrics


def not_as_before(
    config: TrainConfig, callbacks: Sequence[str], checkpoint: Checkpoint
) -> Iterator[str]:
    """Sentences of what a resumed run has otherwise than the one that was saved.

    Args:
        config: Of the run as it goes on.
        callbacks: Labels of those that Python gives it.
        checkpoint: That it goes on from.
    """
    given = checkpoint.metadata.get("given_callbacks")
    for name in given if isinstance(given, list) else ():
        if name not in callbacks:
            yield (
                f"goes on without the callback {shown(name)}: only Python can give "
                "it again, train_run(config, run_dir, resume=True, callbacks=[…])"
            )
    for what in computed_otherwise(config, checkpoint):
        yield (
            f"goes on with {what}: as well as before, but not bit for bit what it "
            "would have been"
        )


def computed_by(config: TrainConfig) -> str:
    """Backend, device and threads of a CPU."""
    backend, device = config.backend, config.device
    if device != "cpu":
        return f"{backend} on {device}"
    threads = load_backend(backend).devices.device.threads()
    return f"{backend} on cpu, {threads} thread{'s' if threads > 1 else ''}"


def computed_otherwise(config: TrainConfig, checkpoint: Checkpoint) -> list[str]:
    """Why a run that goes on from a checkpoint is not the same to the last bit.

    On a CPU that takes as many threads, the same processor and the same versions; on
    other devices nothing is promised. What an older checkpoint lacks is left out.
    """
    if config.device != "cpu":
        return []
    saved, versions = checkpoint.metadata, checkpoint.metadata.get("versions")
    of_any = {name for _, needs in MODULES.values() for name in needs}
    without = {"python", *(of_any - {*MODULES[config.backend][1]})}
    saved_versions = versions.items() if isinstance(versions, dict) else ()
    was = {name: version for name, version in saved_versions if name not in without}
    was |= {name: saved[name] for name in ("threads", "processor") if name in saved}
    now = installed_versions() | {
        "threads": load_backend(config.backend).devices.device.threads(),
        "processor": processor_name(),
    }
    return [
        f"{name} {shown(now.get(name, 'none'))}, and no more {shown(value)}"
        for name, value in was.items()
        if now.get(name) != value
    ]

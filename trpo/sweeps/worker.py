"""The process of one run of a sweep; started by `trpo.sweeps.sweep`, not for users."""

import json
import sys
from pathlib import Path

from trpo.common.framework_settings import prepare_frameworks
from trpo.common.signals import watched_signals
from trpo.common.terminal import Terminal, safe_streams
from trpo.config.run import TrainConfig
from trpo.environments.environment_worker import EnvironmentWorkerError


# As the command line's.
USER_ERROR = 2


def main() -> None:
    """Make the run of the command's arguments, or continue it."""
    with watched_signals(), safe_streams():
        try:
            make(Path(sys.argv[1]), TrainConfig.from_dict(json.loads(sys.argv[2])))
        except (ValueError, ImportError, OSError, EnvironmentWorkerError) as error:
            # As of the command line: the sweep shows the end of what is said here.
            Terminal(stderr=True).error(error)
            sys.exit(USER_ERROR)


def make(run_dir: Path, config: TrainConfig) -> None:
    """Make the run, or continue it from its newest checkpoint, if it has one."""
    prepare_frameworks(config.agent.dtype, config.deterministic)
    from trpo.runs.directory import RunDirectory
    from trpo.runs.train import train_run

    # A name in the sweep's directory, which may be a stranger's.
    directory = RunDirectory(run_dir, RunDirectory(run_dir.parent))
    train_run(config, directory, resume=None)

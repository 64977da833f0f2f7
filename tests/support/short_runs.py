"""Runs of a moment, by settings that no command line shows."""

import os
import runpy
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from benchmarks.command import MORE_OPTIONS


# A search of 2,000,000 steps has two trials, and an update few samples.
SHORT: dict[str, Any] = {
    "rollout_steps": 16,
    "value_epochs": 1,
    "eval_episodes": 2,
    "total_steps": 1_000_000,
}
LONGEST_EPISODE = 10
ROOT = Path(__file__).resolve().parents[2]
# Where each `trpo` that a command starts finds what shortens it.
SHORTENED = os.pathsep.join([str(Path(__file__).with_name("shortened")), str(ROOT)])


def shorten(replace=setattr, updates=1):
    """Small presets, so many updates, short episodes; what is typed takes their place.

    Modules that have imported `preset_config` before keep the one that they have.
    """
    import gymnasium

    from benchmarks.speed.report import quick_table
    from trpo.config import presets
    from trpo.config.run import TrainConfig

    make, count = presets.preset_config, vars(TrainConfig)["num_updates"].fget

    def short_preset(*arguments, **overrides):
        return make(*arguments, **{**SHORT, **overrides})

    replace(presets, "preset_config", short_preset)
    few = property(lambda self: min(count(self), updates))
    replace(TrainConfig, "num_updates", few)
    replace(quick_table, "SIZES", quick_table.SIZES[:1])
    for spec in gymnasium.registry.values():
        if spec.max_episode_steps:
            replace(spec, "max_episode_steps", LONGEST_EPISODE)


def run_benchmark(line, options, monkeypatch):
    """Run a benchmark in this process as it is typed; its exit status.

    Args:
        line: As the pages print it.
        options: More of them, by the environment variable that benchmarks read.
        monkeypatch: The fixture.
    """
    name, *typed = shlex.split(line)[2:]
    monkeypatch.setenv(MORE_OPTIONS, options)
    monkeypatch.setattr(sys, "argv", [name, *typed])
    with warnings.catch_warnings(action="ignore"):  # It may have been imported.
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            return ended.code
    raise AssertionError("it hasn't ended by itself")

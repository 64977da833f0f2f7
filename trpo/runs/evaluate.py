"""`trpo evaluate`, and how an evaluation is told and written."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trpo.common.signals import stop_signals
from trpo.common.terminal import Terminal
from trpo.environments.source import EnvironmentSource
from trpo.rollout.evaluation import (
    EvaluationResult,
    as_in_training,
    evaluate,
    record_video,
)
from trpo.runs.directory import RunDirectory, loaded_agent
from trpo.runs.progress_bar import EvaluationDisplay
from trpo.spaces.user_networks import NETWORKS
from trpo.training.python_arguments import PythonArguments


# Of `evaluate`: one environment, in this process.
ONE_HERE: dict[str, Any] = {"num_envs": 1, "vectorization": "sync"}


def evaluate_run(
    run_dir: Path,
    *,
    episodes: int,
    backend: str | None,
    device: str,
    seed: int | None,
    deterministic: bool,
    video: Path | None,
    modules: Sequence[str] = (),
    trust: bool = False,
    max_steps: int | None = None,
    policy_network: Any = None,
    value_network: Any = None,
    env: Any = None,
    step: int | None = None,
    render: bool = False,
) -> tuple[EvaluationResult, Path | None, dict[str, Any]]:
    """Evaluate a checkpoint of a run, the newest by default; see its `--help`.

    SIGINT and its like end it with what there is. What follows `max_steps` is as of
    `trpo.runs.train.train_run`.

    Returns:
        What came of it, the film, and what was played: `env_id`, `backend`, `step`.

    Raises:
        ValueError: the run was given its environment in Python, and it is not here.
    """
    agent, config = loaded_agent(
        run_dir, PythonArguments(env, policy_network, value_network),
        (*NETWORKS, "env"), backend, device, modules, trust, step,
    )  # fmt: skip
    played: dict[str, Any] = {"env_id": config.env_id, "backend": config.backend}
    played["step"] = RunDirectory(run_dir).load(step)[0].step
    seed = config.seed if seed is None else seed
    most = config.eval_max_steps if max_steps is None else max_steps
    film, source = None, EnvironmentSource.of_run(config, env)
    with stop_signals() as signals:
        result = evaluate(
            agent,
            _in_window(source) if render else source,
            episodes=episodes,
            seed=seed,
            deterministic=deterministic,
            max_steps=most,
            stop=signals,
            show=EvaluationDisplay(Terminal(stderr=True), episodes).show,
            **as_in_training(config) | (ONE_HERE if render else {}),
        )
        if video is not None and not result.interrupted:
            film = record_video(
                agent, source, seed=seed, directory=video, max_steps=most, stop=signals
            )
    return result, film, played


def _in_window(source: EnvironmentSource) -> EnvironmentSource:
    options = {**source.env_kwargs, "render_mode": "human"}
    return dataclasses.replace(source, env_kwargs=options)


def describe(result: EvaluationResult) -> str:
    """The line `return MEAN ± STD over N episodes`, with the cost if there is one.

    Of an evaluation that was interrupted, what it has so far.
    """
    under_way = result.only(result.under_way)
    count, cut = len(result.returns), len(under_way.returns)
    if not result.interrupted:
        return f"{_score(result)}{f', {cut} of them cut' if cut else ''}"
    ended = result.only(~result.under_way)
    said = _score(ended) if cut < count else "no episode has ended"
    if cut:
        said += (
            f"; of {cut} under way, after at most {under_way.lengths.max():,} steps, "
            f"{under_way.returns.min():.2f} to {under_way.returns.max():.2f} so far"
        )
    return f"interrupted: {said}"


def _score(result: EvaluationResult) -> str:
    text = f"return {_spread(result.returns)}"
    if result.costs is not None:
        text += f", cost {_spread(result.costs)}"
    count = len(result.returns)
    return f"{text} over {count} episode{'s' if count > 1 else ''}"


def _spread(values: np.ndarray) -> str:
    """Mean and standard deviation; of one value, which has none, the value."""
    std = f" ± {values.std():.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{std}"


def evaluation_json(result: EvaluationResult) -> str:
    """An evaluation as JSON."""
    values = {
        "mean": result.mean,
        "std": result.std,
        "episodes": len(result.returns),
        "returns": result.returns.tolist(),
        "lengths": result.lengths.tolist(),
        "cut": result.under_way.tolist(),
        "interrupted": result.interrupted,
        "dropped": result.dropped,
    }
    if result.costs is not None:
        values |= {"mean_cost": float(result.costs.mean())}
        values |= {"costs": result.costs.tolist()}
    return json.dumps(values)

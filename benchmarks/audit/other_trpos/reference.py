"""The same update in NumPy, and how far another library's stages are from it.

Each stage starts from the library's own result of the stage before, so that a stage
shows its own departure and not an earlier one's.
"""

import dataclasses
import types
from typing import Any, NamedTuple

import numpy as np

from parity_tests.common.canonical import Arrays
from parity_tests.problems.cases import build
from parity_tests.reference import networks
from parity_tests.reference.critic import loss_and_gradient
from parity_tests.reference.distributions import distribution_of_problem
from parity_tests.reference.networks import Network, exact
from parity_tests.reference.problem import Problem
from parity_tests.reference.step_options import conjugate_gradient
from parity_tests.reference.update import (
    _product as fisher_product,
    line_search,
    surrogate_gradient,
    surrogate_terms,
)


class Settings(NamedTuple):
    """What a library's update does by default.

    Attributes:
        module: its runner in this folder.
        package: its name in the package index.
        iterations: of conjugate gradient.
        coefficient: by which the line search shortens the step.
        candidates: the line search's steps at most.
    """

    module: str
    package: str
    iterations: int
    coefficient: float
    candidates: int


LIBRARIES = {
    "sb3-contrib": Settings("sb3_contrib", "sb3-contrib", 15, 0.8, 10),
    "tianshou": Settings("tianshou", "tianshou", 10, 0.8, 10),
    "skrl": Settings("skrl", "skrl", 10, 0.5, 10),
    "omnisafe": Settings("omnisafe", "omnisafe", 15, 0.8, 15),
}
# Advantages of the usual size; a thousandth of a thousandth, as near the end of
# training; and a trust region so wide that the line search has to shorten the step.
SCENARIOS = {"usual": (1.0, 0.01), "small gradient": (1e-6, 0.01), "wide": (1.0, 2.0)}
STAGES = {
    "surrogate": "mean ratio times advantage before the step",
    "gradient": "of the surrogate",
    "Fisher product": "(F + 0.1) v for one vector v",
    "CG solution": "from the library's gradient, its count of products",
    "step scale": "longest step from the library's CG solution",
    "line search": "index of the accepted candidate from the library's longest step",
    "KL": "of the policies before and after, at the accepted step",
    "critic": "gradient of the mean square error",
}


def problem(scenario: str, seed: int = 0) -> Problem:
    """HalfCheetah's sizes; fresh log-probabilities, advantages of mean 0 and std 1."""
    scale, radius = SCENARIOS[scenario]
    drawn = build("cheetah", seed)
    policy = drawn.policy()
    at = networks.forward(policy, drawn.batch["obs"])
    likelihood = distribution_of_problem(drawn).likelihood(at, drawn.batch["actions"])
    raw = drawn.batch["advantages"]
    batch = drawn.batch | {
        "log_probs": likelihood.log_prob,
        "advantages": scale * (raw - raw.mean()) / raw.std(ddof=1),
    }
    config = dataclasses.replace(
        drawn.config, target_kl=radius, cg_damping=0.1, fisher_every=1
    )
    return drawn._replace(batch=batch, config=config)


def given(of: Problem) -> Arrays:
    """What a library's runner is given."""
    networks_of = {
        name: array
        for name, array in of.state.items()
        if name.startswith(("policy.", "value."))
    }
    scale = float(np.std(of.batch["advantages"], ddof=1))
    return (
        networks_of
        | of.batch
        | {
            "probe": of.probe,
            "target_kl": np.array(of.config.target_kl),
            "normalize": np.array(scale > 0.5),
        }
    )


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Distance over the expected length."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def departures(of: Problem, settings: Settings, found: Arrays) -> dict[str, dict]:
    """For each stage: its relative difference, and the numbers behind it."""
    config: Any = types.SimpleNamespace(
        **{f.name: getattr(of.config, f.name) for f in dataclasses.fields(of.config)}
    )
    config.cg_iters, config.cg_residual_tol = settings.iterations, 0.0
    config.backtrack_coeff = settings.coefficient
    config.backtrack_iters = settings.candidates
    of = of._replace(config=config)
    policy = of.policy()
    at = networks.forward(policy, of.batch["obs"])
    ratio = surrogate_terms(of, at, exact).ratio
    surrogate = float((ratio * of.batch["advantages"]).mean())
    scale = float(abs(of.batch["advantages"]).mean())
    product = fisher_product(of, policy, at, exact)
    cg = conjugate_gradient(product, found["gradient"], config, settings.iterations)
    x = found["cg"]
    full_step = x * np.sqrt(2 * config.target_kl / (x @ product(x)))
    search = line_search(of, policy, at, ratio, found["full_step"])
    after = networks.forward(
        Network.from_flat(found["policy"], policy), of.batch["obs"]
    )
    distribution = distribution_of_problem(of)
    kl = float(distribution.compare(
        at, after, distribution.likelihood(at, of.batch["actions"]).residual,
        of.batch["actions"],
    ).kl.mean())  # fmt: skip
    kl_reported = float(found["kl"])
    _, critic = loss_and_gradient(of, of.critic(), exact)
    rows: dict[str, dict] = {
        "gradient": {
            "difference": relative(
                found["gradient"], surrogate_gradient(of, policy, at, exact)
            )
        },
        "Fisher product": {
            "difference": relative(found["product"], product(of.probe)),
            "ratio of lengths": float(
                np.linalg.norm(found["product"] - 0.1 * of.probe)
                / np.linalg.norm(product(of.probe) - 0.1 * of.probe)
            ),
        },
        "CG solution": {
            "difference": relative(x, cg.x),
            "cosine": float(x @ cg.x / np.linalg.norm(x) / np.linalg.norm(cg.x)),
            "residual": relative(product(x), found["gradient"]),
            "residual by NumPy": relative(product(cg.x), found["gradient"]),
        },
        "step scale": {"difference": relative(found["full_step"], full_step)},
        "line search": {
            "difference": float(int(found["index"]) != search.index),
            "accepted": int(found["index"]),
            "accepted by NumPy": search.index,
        },
        "KL": {
            "difference": abs(kl_reported - kl) / kl if kl > 0 else 0.0,
            "reported": kl_reported,
            "by NumPy": kl,
            "reported times entries of an action": kl_reported * of.case.act_dim,
            "over the radius": kl / config.target_kl,
        },
        "critic": {"difference": relative(found["critic_gradient"], critic)},
    }
    if "surrogate_after" in found:  # sb3-contrib reports the one after the step
        ratio_after = surrogate_terms(of, after, exact).ratio
        surrogate = float((ratio_after * of.batch["advantages"]).mean())
    name = "surrogate" if "surrogate" in found else "surrogate_after"
    reported = float(found[name])
    rows["surrogate"] = {"difference": abs(reported - surrogate) / scale}
    return {name: rows[name] for name in STAGES if name in rows}


def ours(of: Problem) -> dict[str, dict[str, float]]:
    """Our own two backends' greatest difference from NumPy in each stage, float64."""
    from parity_tests import bridges
    from parity_tests.reference import all_stages
    from parity_tests.reference.update import teach

    teacher = teach(of)
    expected = all_stages.run(of, teacher)
    names = {
        "surrogate": "surrogate", "gradient": "gradient",
        "Fisher product": "fisher/automatic", "CG solution": "update/cg_solution",
        "step scale": "update/full_step", "critic": "critic/gradient",
    }  # fmt: skip
    result: dict[str, dict[str, float]] = {}
    for framework in ("torch", "jax"):
        stages = bridges.run(framework, of, teacher, "float64")
        rows = {
            stage: relative(stages.values[name], expected.values[name])
            for stage, name in names.items()
            if np.linalg.norm(expected.values[name]) > 0
        }
        # The mean cancels: relative to the mean size of its terms.
        terms = float(abs(of.batch["advantages"]).mean())
        before = [float(s.values["surrogate"]) for s in (stages, expected)]
        rows["surrogate"] = abs(before[0] - before[1]) / terms
        index = stages.decisions["update/index"]
        rows["line search"] = float(index != expected.decisions["update/index"])
        kl = "metric/policy/kl"
        rows["KL"] = relative(stages.values[kl], expected.values[kl])
        result[f"trpo_{framework}"] = rows
    return result

"""The table of departures, written from the result files and from what each means.

`python -m benchmarks.pages --publish` writes it.
"""

import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.audit.other_trpos.reference import LIBRARIES, STAGES


ROUNDING = 1e-7  # a library may cast to float32 or add 1e-8 where it normalises


class Finding(NamedTuple):
    """A departure from the paper.

    Attributes:
        library: whose.
        stage: where it shows first.
        what: what is computed instead.
        size: how much it makes.
        said: whether its documentation says so.
        meaning: what it means to someone who uses or ports it.
        script: function of `findings.py` that shows it in a few lines; "" for none.
    """

    library: str
    stage: str
    what: str
    size: str
    said: str
    meaning: str
    script: str


FINDINGS = [
    Finding(
        "sb3-contrib",
        "Fisher product",
        "the KL of an action's independent normals is averaged over its entries, where "
        "a KL of the policies is their sum",
        "with 6 entries the Fisher part is 1/6 of the true one; of a radius of 0.01 "
        "the accepted step has a KL of 0.029",
        "no: `target_kl` is called the divergence between updates",
        "the trust region grows with the number of entries, and damping weighs that "
        "many times more; `target_kl` of another library has to be divided by the "
        "entries. Policies over choices are not affected",
        "sb3_contrib_kl",
    ),
    Finding(
        "sb3-contrib",
        "KL",
        "KL(new, old), where the paper has KL(old, new)",
        "1.3% at a radius of 0.01 (0.0286 against 0.0290), 28% at 2.0",
        "no; the Fisher matrix is the same for both",
        "of no weight at usual radii",
        "",
    ),
    Finding(
        "sb3-contrib",
        "CG solution",
        "conjugate gradient starts at noise of 1e-4, not at zero, and the gradient is "
        "not normalised",
        "at advantages of 1e-6 the solution's cosine with NumPy's is 0.03: the step is "
        "noise, scaled to the whole trust region",
        "in a comment of its source, as a remedy for small gradients",
        "with `normalize_advantage=False` and small rewards, or near convergence, the "
        "update is random and only the line search stands in its way; two runs of one "
        "seed differ if anything else draws a number",
        "sb3_contrib_small_gradient",
    ),
    Finding(
        "skrl",
        "KL",
        "log(std_old) - log(std_new) in the KL of two normals, where it is the other "
        "way round",
        "log_std from 0 to 0.1 gives -0.19, true 0.0094; in the usual update 0.0095 "
        "against 0.0014, and the whole step, of a true KL below the radius, is "
        "refused; in the wide one 1.91 against 1.68",
        "its page prints the same formula",
        "a step that widens the policy has a negative KL and passes whatever its "
        "size; one that narrows it is cut short. The Fisher product is right: the "
        "second derivative is the same",
        "skrl_kl",
    ),
    Finding(
        "skrl",
        "line search",
        "the expected improvement is multiplied by each factor in turn, so that after "
        "n halvings it is 2^(-n(n+1)/2) and not 2^(-n)",
        "`accept_ratio` 0.5 is in fact 0.25 after two halvings and 0.06 after three",
        "its page says `I <- alpha I` in the loop, the same",
        "from the second halving on the ratio hardly asks for anything; the paper "
        "asks for improvement alone, so no step is wrongly refused by it",
        "skrl_acceptance",
    ),
    Finding(
        "skrl",
        "advantages",
        "by default a truncated step does not end the sum of advantages: the next "
        "episode's flow into it",
        "a reward of 100 after a time limit changes the return before it from 1 to 95",
        "no: `time_limit_bootstrap` is said to add a value, not that without it "
        "episodes run together",
        "set `time_limit_bootstrap=True` wherever there are time limits",
        "skrl_truncation",
    ),
    Finding(
        "skrl",
        "CG solution",
        "conjugate gradient ends at an absolute squared residual of 1e-10, and the "
        "gradient is not normalised",
        "none at usual sizes (1e-11); at advantages of 1e-6 it ends after one "
        "product, cosine 0.50 with the solution",
        "the tolerance is in the source",
        "advantages are always normalised, so that it matters near convergence alone",
        "",
    ),
    Finding(
        "tianshou",
        "CG solution",
        "as skrl's: an absolute tolerance and no normalised gradient",
        "at advantages of 1e-6 one product, cosine 0.50; none at usual sizes",
        "no",
        "with `advantage_normalization=False` and small rewards, steepest descent",
        "",
    ),
    Finding(
        "tianshou",
        "gradient",
        "ratios are cast to float32 in any dtype",
        "3e-8 in float64",
        "no",
        "of no weight; a float64 check of it has to allow for it",
        "",
    ),
    Finding(
        "tianshou",
        "step scale",
        "`trust_region_size` is documented as delta of TRPO, and not used by it",
        "changing it changes nothing",
        "it says the contrary",
        "the radius is `max_kl`",
        "",
    ),
    Finding(
        "omnisafe",
        "Fisher product",
        "as sb3-contrib's: the KL is averaged over the entries of an action",
        "1/6 with 6 entries; of a radius of 0.01 the accepted step has a KL of 0.029",
        "no: its page defines the KL of the policies",
        "the same: it goes for CPO and all that build on it",
        "omnisafe_kl",
    ),
    Finding(
        "omnisafe",
        "CG solution",
        "1e-6 is added to both denominators of conjugate gradient",
        "at advantages of 1e-6 the solution has a millionth of its length, and the "
        "step a KL of 3e-18: nothing is learned",
        "as 'a small number to avoid dividing by zero'",
        "the size of rewards changes the direction unless advantages are normalised",
        "omnisafe_small_gradient",
    ),
    Finding(
        "omnisafe",
        "step scale",
        "1e-8 is added to the curvature before its root is taken",
        "with the small gradient the step is a millionth of its length again",
        "no",
        "as above",
        "omnisafe_small_gradient",
    ),
    Finding(
        "omnisafe",
        "critic",
        "a thousandth of the squared weights is added to the critic's loss",
        "0.4% of the gradient",
        "yes: `use_critic_norm`, `critic_norm_coef`",
        "weight decay of 0.002 for the critic, by Adam with L2",
        "",
    ),
]


def table(folder: Path) -> list[str]:
    """One row for each library and scenario, one column for each stage."""
    lines = [
        "| Whose | Version | Scenario | " + " | ".join(STAGES) + " |",
        "| --- | --- | --- |" + " --- |" * len(STAGES),
    ]
    ours = json.loads((folder / "other_trpos" / "ours.json").read_text())
    for scenario, backends in ours["scenarios"].items():
        for name, stages in backends.items():
            cells = [_number(stages.get(stage)) for stage in STAGES]
            lines.append(f"| `{name}` | | {scenario} | " + " | ".join(cells) + " |")
    for library in LIBRARIES:
        result = json.loads((folder / "other_trpos" / f"{library}.json").read_text())
        for scenario, stages in result["scenarios"].items():
            cells = [_number(stages[stage]["difference"]) for stage in STAGES]
            row = f"| {library} | {result['version']} | {scenario} | "
            lines.append(row + " | ".join(cells) + " |")
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"**{value:.1e}**" if value > ROUNDING else f"{value:.0e}"


def page(folder: Path) -> str:
    """The page, from the result files in `other_trpos/`."""
    lines = [
        "# Other TRPOs, one update, stage by stage",
        "",
        "Each library runs its own code in float64 on one batch of HalfCheetah's sizes "
        "(2048 rows, 17 and 6 numbers), its own defaults; NumPy computes each stage "
        "from the library's result of the stage before. Numbers are relative "
        f"differences, bold above {ROUNDING:.0e}; for the line search 1 means that "
        "another candidate is accepted. Small gradient: advantages of 1e-6 in place "
        "of 1; wide: a radius of 2.0 in place of 0.01.",
        "",
        *table(folder),
        "",
        *(f"- {stage}: {text}" for stage, text in STAGES.items()),
        "",
        "## Where each departs from the paper",
        "",
        "| Library | Stage | Instead | How much | Said | What it means | Script |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for finding in FINDINGS:
        script = f"`{finding.script}`" if finding.script else ""
        lines.append("| " + " | ".join([*finding[:-1], script]) + " |")
    lines += [
        "",
        "sb3-contrib reports the surrogate after the step, which is compared. Its cast "
        "of observations to float32 was left out. OmniSafe was imported without Safety "
        "Gymnasium, which does not import on Python 3.11; no part of the update uses "
        "it. skrl was given advantages and returns.",
        "",
        "A row: `python -m benchmarks.audit.other_trpos NAME --python ENVIRONMENT/bin/"
        "python`; a script: `ENVIRONMENT/bin/python -m "
        "benchmarks.audit.other_trpos.findings NAME`; this page: `python -m "
        "benchmarks.pages --publish`.",
    ]
    return "\n".join(lines) + "\n"

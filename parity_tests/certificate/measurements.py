"""The certificate's measurements: rings, checks and training.

Imported once the process is set up for both frameworks, which it imports.
"""

import importlib.util
from typing import Any

from parity_kit.rings import ties
from parity_kit.tolerances import MAX_TIE_SHARE
from parity_tests.certificate.record import DEVICES, TF32
from parity_tests.common import process_setup
from parity_tests.common.tolerances import TF32_MAX_TIE_SHARE
from parity_tests.problems import cases, golden
from parity_tests.rings import evidence, lock_step, rings, shadow_training
from parity_tests.suite import all_checks
from trpo.common.terminal import Terminal


FULL_UPDATES, QUICK_UPDATES = 50, 10
# What each ring compares.
WORDS = {
    "A": "float64 identity",
    "B": "float32 precision",
    "C": "fairness between the backends",
    "D": "decisions",
}
# Checks that compile most; the quick certificate is of the Gaussian policy.
FULL_ONLY = (
    *("60 digits, choices", "torch.distributions, choices", "enumerated Fisher"),
    *("missing options", "rates of one update"),
)


def all_rings(
    devices: tuple[str, ...], mode: str, terminal: Terminal
) -> tuple[list[dict[str, Any]], dict[str, list[int]], dict[str, str]]:
    """Rows, ties and verdicts of all devices that are there."""
    rows, ties, verdicts = [], {}, dict.fromkeys((*DEVICES, TF32), "not run")
    present = process_setup.devices_present()
    for device in devices:
        if device not in present:
            terminal.say(f"{device}: not run, no such device in both frameworks")
            continue
        for name in (device, TF32) if device == "cuda" else (device,):
            device_rows, device_ties, passed = _rings(name, mode, terminal)
            rows += device_rows
            ties[name] = device_ties
            verdicts[name] = "passed" if passed else "failed"
    return rows, ties, verdicts


def _rings(
    name: str, mode: str, terminal: Terminal
) -> tuple[list[dict[str, Any]], list[int], bool]:
    """Rows, ties and verdict of one device, or of the GPU with TF32 on."""
    tf32 = name == TF32
    gathered = _evidence(name, mode, terminal)
    if tf32:
        rows = list(all_checks.judge_tf32(gathered))
    else:
        rows = list(all_checks.judge(gathered))
        if name == "cuda":
            on_cpu = _evidence("cpu", mode, terminal)
            for cpu_item, cuda_item in zip(on_cpu, gathered, strict=True):
                rows += rings.identity_across(
                    cpu_item, cuda_item, devices=("cpu", "cuda")
                )
    share = TF32_MAX_TIE_SHARE if tf32 else MAX_TIE_SHARE
    count, total, few = ties(rows, share)
    for ring in "ABCD":
        of_ring = [row for row in rows if row.ring == ring]
        bad = [row for row in of_ring if not row.ok]
        all_of_them = f"all {len(of_ring):,} comparisons passed", "green"
        some = f"{len(bad):,} of {len(of_ring):,} comparisons failed", "red"
        if of_ring:
            terminal.say([f"{name}: {WORDS[ring]}: ", some if bad else all_of_them])
    passed = few and all(row.ok for row in rows)
    return [{**row._asdict(), "device": name} for row in rows], [count, total], passed


def _evidence(name: str, mode: str, terminal: Terminal) -> list[evidence.Evidence]:
    quick = mode == "quick"
    names = evidence.quick_cases() if quick else [case.name for case in cases.GRID]
    device, precision = ("cuda", "tf32") if name == TF32 else (name, "float32")
    gathered = []
    with terminal.status() as show:
        for i, case in enumerate(names):
            show(f"{name}: {case} ({i + 1} of {len(names)} cases)")
            seeds = 2 if quick else 3
            gathered += evidence.gather_all([case], seeds, device, precision)
            process_setup.drop_compiled_programs()
    return gathered


def checks(mode: str) -> list[dict[str, Any]]:
    """The outcomes of all checks that are no ring."""
    recorded = ["gauss_small_f64"] if mode == "quick" else golden.names()
    chosen = all_checks.checks(recorded)
    if mode == "quick":
        left_out = (*FULL_ONLY, *all_checks.NOT_PLAIN_GAUSSIAN)
        chosen = [check for check in chosen if check.stem not in left_out]
    performed = []
    for check in chosen:
        performed.append(all_checks.perform(check)._asdict())
        process_setup.drop_compiled_programs()
    return performed


def training(mode: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Lock step by environment, and how far two runs of one seed came apart."""
    environments = ["Pendulum-v1"]
    if mode == "full":
        environments += ["HalfCheetah-v5"] if _has_mujoco() else []
    updates = QUICK_UPDATES if mode == "quick" else FULL_UPDATES
    lock_steps = {env_id: _lock_step(env_id, updates) for env_id in environments}
    return lock_steps, _closed_loop() if mode == "full" else "not run"


def _lock_step(env_id: str, updates: int) -> dict[str, Any]:
    gathered = shadow_training.run(env_id, updates)
    rows = shadow_training.judge(gathered)
    count, total, few = ties(rows)
    worst = {
        ring: max(
            (row for row in rows if row.ring == ring),
            key=lambda row: row.value / row.bound,
        )._asdict()
        for ring in "AB"
    }
    return {
        "updates": [update._asdict() for update in shadow_training.history(gathered)],
        "worst": worst,
        "ties": [count, total],
        "passed": few and all(row.ok for row in rows),
    }


def _closed_loop() -> str:
    config = lock_step.default_config("float32")
    return lock_step.explain_divergence(list(lock_step.closed_loop(config, 30)))


def _has_mujoco() -> bool:
    return importlib.util.find_spec("mujoco") is not None

"""The certificate: every ring on this machine, as JSON, Markdown, page and figure."""

import concurrent.futures
import multiprocessing
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from parity_tests.common import process_setup as environment
from parity_tests.mutation import run as mutation
from trpo.common.terminal import Terminal
from trpo.common.user_modules import import_matplotlib


DEVICES = ("cpu", "cuda")
# TF32 is a GPU's; its rows have their own bounds.
TF32 = "cuda with TF32"
FULL_UPDATES, QUICK_UPDATES = 50, 10
# Checks that compile most; the quick certificate is of the Gaussian policy.
FULL_ONLY = (
    *("60 digits, choices", "torch.distributions, choices", "enumerated Fisher"),
    *("missing options", "rates of one update"),
)


class Certificate(NamedTuple):
    """All that a report shows.

    Attributes:
        mode: "quick" or "full".
        passed: whether every ring that ran passed.
        seconds: wall-clock time.
        facts: versions, processor, precision, threads, commit.
        devices: device -> "passed", "failed" or "not run"; also GPU with TF32 on.
        rows: the rings' rows as dictionaries, each with its device.
        ties: device -> [ties, decisions].
        checks: outcomes of oracles, recorded vectors and failure parity.
        shadow: environment -> lock-step training: `updates` (one dictionary each),
            `worst` (ring -> its row nearest to the bound), `ties`, `passed`.
        closed_loop: what became of two runs that share only their seed.
        recorded_faults: what became of the planted faults when they were last tried,
            which is not in this run: how many, of them caught, at which commits, on
            which processors.
    """

    mode: str
    passed: bool
    seconds: float
    facts: dict[str, Any]
    devices: dict[str, str]
    rows: list[dict[str, Any]]
    ties: dict[str, list[int]]
    checks: list[dict[str, Any]]
    shadow: dict[str, dict[str, Any]]
    closed_loop: str
    recorded_faults: dict[str, Any]


def run(
    devices: Sequence[str] = ("cpu",),
    mode: str = "quick",
    out: str | pathlib.Path = "runs/parity",
) -> int:
    """Run the suite and write the certificate into `out`.

    Args:
        devices: "cpu", "cuda" or both; one that is absent is reported as not run.
        mode: "quick", a few cases, or "full".
        out: Folder, made if it is not there.

    Returns:
        0 if every ring passed on every device that was there, else 1.

    Raises:
        ValueError: a device or the mode is unknown.
    """
    if mode not in ("quick", "full"):
        raise ValueError(f"`mode`: expected 'quick' or 'full', got {mode!r}.")
    if unknown := sorted(set(devices) - set(DEVICES)):
        raise ValueError(f"`devices`: expected {DEVICES}, got {unknown[0]!r}.")
    environment.prepare()
    import_matplotlib()
    from parity_tests.certificate import (
        figure as certificate_figure,
        page as certificate_page,
        text as certificate_text,
    )

    terminal = Terminal()
    certificate = _gather(tuple(devices), mode, terminal)
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_text(certificate_text.document(certificate))
    (folder / "parity.md").write_text(page(folder), "utf-8")
    (folder / "parity.html").write_text(certificate_page.html(certificate), "utf-8")
    certificate_figure.draw(certificate, folder / "parity.png")
    terminal.say(*certificate_text.summary(certificate).splitlines())
    terminal.say(f"Certificate: {folder / 'parity.html'}")
    return 0 if certificate.passed else 1


def page(folder: pathlib.Path) -> str:
    """The Markdown of a folder's `parity.json`."""
    from parity_tests.certificate import (
        text as certificate_text,
    )

    fields = certificate_text.read((folder / "parity.json").read_text())
    return certificate_text.markdown(Certificate(**fields))


def folder_to_publish() -> pathlib.Path:
    """The folder of this repository's own certificate.

    Raises:
        ValueError: what would be certified is no commit.
    """
    commit = environment.commit()
    if commit.startswith("none") or commit.endswith("-dirty"):
        raise ValueError(
            f"`publish`: expected a checkout without changes that are not committed, "
            f"got commit {commit}. A published certificate is of a commit."
        )
    return pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "parity"


def _gather(devices: tuple[str, ...], mode: str, terminal: Terminal) -> Certificate:
    start = time.perf_counter()
    # Beside the rings, in a process of its own: both spend their time compiling. The
    # checks share compiled programs with the rings.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        training = pool.submit(_training, mode)
        rows, ties, verdicts = _all_rings(devices, mode, terminal)
        with terminal.status("oracles, recordings, failures"):
            checks = _checks(mode)
        with terminal.status("lock step"):
            shadow, closed_loop = training.result()
    bad = [check for check in checks if not check["ok"]]
    for check in bad:
        terminal.say([(check["name"], "red"), f": {check['message']}"])
    good = len(checks) - len(bad)
    terminal.say(f"oracles, recordings, failures: {good} of {len(checks)}")
    for env_id, run in shadow.items():
        word = ("passed", "green") if run["passed"] else ("failed", "red")
        count = len(run["updates"])
        terminal.say([f"lock step on {env_id}: ", word, f", {count} updates"])
    passed = "failed" not in verdicts.values()
    passed &= all(run["passed"] for run in shadow.values())
    return Certificate(
        mode=mode,
        passed=passed and all(check["ok"] for check in checks),
        seconds=time.perf_counter() - start,
        facts=environment.describe(),
        devices=verdicts,
        rows=rows,
        ties=ties,
        checks=checks,
        shadow=shadow,
        closed_loop=closed_loop,
        recorded_faults=mutation.recorded(),
    )


def _all_rings(
    devices: tuple[str, ...], mode: str, terminal: Terminal
) -> tuple[list[dict[str, Any]], dict[str, list[int]], dict[str, str]]:
    """Rows, ties and verdicts of all devices that are there."""
    rows, ties, verdicts = [], {}, dict.fromkeys((*DEVICES, TF32), "not run")
    present = environment.devices_present()
    for device in devices:
        if device not in present:
            terminal.say(f"{device}: not run, no such device in both frameworks")
            continue
        for name in (device, TF32) if device == "cuda" else (device,):
            found, count, passed = _rings(name, mode, terminal)
            rows += found
            ties[name] = count
            verdicts[name] = "passed" if passed else "failed"
    return rows, ties, verdicts


def _rings(
    name: str, mode: str, terminal: Terminal
) -> tuple[list[dict[str, Any]], list[int], bool]:
    """Rows, ties and verdict of one device, or of the GPU with TF32 on."""
    from parity_tests.common import tolerances
    from parity_tests.rings import rings
    from parity_tests.suite import all_checks as inspection

    short = name == TF32
    gathered = _evidence(name, mode, terminal)
    if short:
        found = list(inspection.judge_tf32(gathered))
    else:
        found = list(inspection.judge(gathered))
        if name == "cuda":
            on_cpu = _evidence("cpu", mode, terminal)
            for here, there in zip(on_cpu, gathered, strict=True):
                found += rings.identity_across(here, there, places=("cpu", "cuda"))
    share = tolerances.TF32_MAX_TIE_SHARE if short else tolerances.MAX_TIE_SHARE
    count, total, few = rings.ties(found, share)
    for ring in "ABCD":
        own = [row for row in found if row.ring == ring]
        bad = [row for row in own if not row.ok]
        word = (f"{len(bad)} failed", "red") if bad else ("passed", "green")
        if own:
            terminal.say([f"{name}: ring {ring}: ", word, f" of {len(own)} rows"])
    passed = few and all(row.ok for row in found)
    return [{**row._asdict(), "device": name} for row in found], [count, total], passed


def _evidence(name: str, mode: str, terminal: Terminal) -> list[Any]:
    from parity_tests.problems import cases
    from parity_tests.rings import evidence

    quick = mode == "quick"
    names = evidence.quick_cases() if quick else [case.name for case in cases.GRID]
    device, precision = ("cuda", "tf32") if name == TF32 else (name, "float32")
    gathered = []
    with terminal.status() as show:
        for i, case in enumerate(names):
            show(f"{name}: {case} ({i + 1} of {len(names)} cases)")
            seeds = 2 if quick else 3
            gathered += evidence.gather_all([case], seeds, device, precision)
            environment.drop_compiled_programs()
    return gathered


def _checks(mode: str) -> list[dict[str, Any]]:
    from parity_tests.problems import golden
    from parity_tests.suite import all_checks as inspection

    recorded = ["gauss_small_f64"] if mode == "quick" else golden.names()
    found = inspection.checks(recorded)
    if mode == "quick":
        left_out = (*FULL_ONLY, *inspection.OF_OTHERS)
        found = [check for check in found if check.of not in left_out]
    performed = []
    for check in found:
        performed.append(inspection.perform(check)._asdict())
        environment.drop_compiled_programs()
    return performed


def _training(mode: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Lock step by environment, and what became of the closed loop."""
    environment.prepare()
    environments = ["Pendulum-v1"]
    if mode == "full":
        environments += ["HalfCheetah-v5"] if _has_mujoco() else []
    updates = QUICK_UPDATES if mode == "quick" else FULL_UPDATES
    found = {env_id: _lock_step(env_id, updates) for env_id in environments}
    return found, _closed_loop() if mode == "full" else "not run"


def _lock_step(env_id: str, updates: int) -> dict[str, Any]:
    from parity_tests.rings import rings, shadow_training as shadow

    evidence = shadow.run(env_id, updates)
    rows = shadow.judge(evidence)
    count, total, few = rings.ties(rows)
    worst = {
        ring: max(
            (row for row in rows if row.ring == ring),
            key=lambda row: row.value / row.bound,
        )._asdict()
        for ring in "AB"
    }
    return {
        "updates": [update._asdict() for update in shadow.history(evidence)],
        "worst": worst,
        "ties": [count, total],
        "passed": few and all(row.ok for row in rows),
    }


def _closed_loop() -> str:
    from parity_tests.rings import lock_step

    config = lock_step.default_config("float32")
    return lock_step.explain_parting(list(lock_step.closed_loop(config, 30)))


def _has_mujoco() -> bool:
    import importlib.util

    return importlib.util.find_spec("mujoco") is not None

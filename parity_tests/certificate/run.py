"""The certificate: every ring on this machine, as JSON, Markdown, page and figure."""

import concurrent.futures
import multiprocessing
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from parity_kit.certificate.text import document, read
from parity_tests.certificate import (
    page as certificate_page,
    text as certificate_text,
)
from parity_tests.certificate.record import DEVICES, Certificate
from parity_tests.common import process_setup
from parity_tests.mutation import run as mutation
from trpo.common.signals import unsignalled
from trpo.common.terminal import Terminal
from trpo.common.user_modules import import_matplotlib


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
    process_setup.prepare()
    import_matplotlib()
    from parity_tests.certificate import figure as certificate_figure

    terminal = Terminal()
    certificate = _gather(tuple(devices), mode, terminal)
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_text(document(certificate._asdict()))
    (folder / "parity.md").write_text(page(folder), "utf-8")
    (folder / "parity.html").write_text(certificate_page.html(certificate), "utf-8")
    certificate_figure.draw(certificate, folder / "parity.png")
    terminal.say(*certificate_text.summary(certificate).splitlines())
    terminal.say(f"Certificate: {folder / 'parity.html'}")
    return 0 if certificate.passed else 1


def page(folder: pathlib.Path) -> str:
    """The Markdown of a folder's `parity.json`."""
    return certificate_text.markdown(_read(folder))


def draw(folder: pathlib.Path) -> None:
    """The figure of a folder's `parity.json`, beside it."""
    import_matplotlib()
    from parity_tests.certificate import figure as certificate_figure

    certificate_figure.draw(_read(folder), folder / "parity.png")


def _read(folder: pathlib.Path) -> Certificate:
    return Certificate(**read((folder / "parity.json").read_text()))


def folder_to_publish() -> pathlib.Path:
    """The folder of this repository's own certificate.

    Raises:
        ValueError: this is no checkout, or it has changes that are not committed.
    """
    commit = process_setup.commit()
    if commit.startswith("none") or commit.endswith("-dirty"):
        raise ValueError(
            f"`publish`: expected a checkout without changes that are not committed, "
            f"got commit {commit}. A published certificate is of a commit."
        )
    return pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "parity"


def _gather(devices: tuple[str, ...], mode: str, terminal: Terminal) -> Certificate:
    # Only now that the process is set up: it imports both frameworks.
    from parity_tests.certificate import measurements

    start = time.perf_counter()
    # Beside the rings, in a process of its own: both spend their time compiling. The
    # checks share compiled programs with the rings.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        with unsignalled():
            training = pool.submit(_training, mode)
        rows, ties, verdicts = measurements.all_rings(devices, mode, terminal)
        with terminal.status("oracles, recorded vectors, failures"):
            checks = measurements.checks(mode)
        with terminal.status("lock step"):
            shadow, closed_loop = training.result()
    bad = [check for check in checks if not check["ok"]]
    for check in bad:
        terminal.say([(check["name"], "red"), f": {check['message']}"])
    good = len(checks) - len(bad)
    terminal.say(
        f"oracles, recorded vectors, failures: {good} of {len(checks)} checks hold"
    )
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
        facts=process_setup.describe(),
        devices=verdicts,
        rows=rows,
        ties=ties,
        checks=checks,
        shadow=shadow,
        closed_loop=closed_loop,
        recorded_faults=mutation.recorded(),
    )


def _training(mode: str) -> tuple[dict[str, dict[str, Any]], str]:
    """`measurements.training` in a process of its own."""
    process_setup.prepare()
    from parity_tests.certificate import measurements

    return measurements.training(mode)

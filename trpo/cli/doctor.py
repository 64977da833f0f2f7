"""Checks of this machine's set-up, with advice where something is wrong.

Facts are gathered in `diagnose`; each `check_…` is a pure function of facts, so that
a machine with two GPUs and clashing wheels can be tested on one that has neither.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

from rich.console import Console

from trpo.common.machine import available_cores
from trpo.common.terminal import Terminal


# Package -> oldest version that works, version this release was tested with.
TESTED = {
    "numpy": ("2.0", "2.4.6"),
    "gymnasium": ("1.2", "1.4.0"),
    "safetensors": ("0.5", "0.8.0"),
    "torch": ("2.6", "2.13.0"),
    "jax": ("0.8", "0.10.2"),
    "jaxlib": ("0.8", "0.10.2"),
    "flax": ("0.12", "0.12.8"),
    "optax": ("0.2.5", "0.2.8"),
    "mujoco": ("3.0", "4.0.0"),
}
EXTRAS = {"torch": "torch", "mujoco": "mujoco"}
EXTRAS |= dict.fromkeys(("jax", "jaxlib", "flax", "optax"), "jax")
# CUDA 13 wheels without a suffix, whose version is CUDA's own.
UNSUFFIXED_CUDA_WHEELS = ("nvidia-cuda-runtime", "nvidia-cuda-nvrtc", "nvidia-cublas")
ONE_CUDA = (
    "Make a new virtual environment and install one stack alone: "
    'pip install "trpo[cuda13]", or "trpo[cuda12]" for an older driver.'
)
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        level: "ok", "warning" (works, but read the advice) or "problem".
        subject: what was looked at.
        facts: what was seen.
        advice: what to do; empty if nothing.
    """

    level: Literal["ok", "warning", "problem"]
    subject: str
    facts: str
    advice: str = ""


def check_versions(installed: Mapping[str, str]) -> list[Finding]:
    """Whether each package is there, and of a version that works.

    A backend that is not installed is a warning as long as the other one is.
    """
    backends = {"torch", "jax"} & set(installed)
    findings = []
    for name, (oldest, tested) in TESTED.items():
        version, extra = installed.get(name), EXTRAS.get(name)
        requirement = f'"trpo[{extra}]"' if extra else '"trpo"'
        if version is None:
            spare = extra in ("torch", "jax") and extra not in backends and backends
            level = "warning" if spare or name == "mujoco" else "problem"
            findings.append(
                Finding(level, name, "not installed", f"pip install {requirement}")
            )
        elif _release(version) < _release(oldest):
            advice = f"Needs {oldest} or newer: pip install --upgrade {requirement}"
            findings.append(Finding("problem", name, version, advice))
        else:
            newer = _release(version)[:2] > _release(tested)[:2]
            advice = f"Newer than the tested {tested}: run `trpo parity`."
            findings.append(Finding("ok", name, version, advice if newer else ""))
    return findings


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def check_devices(
    framework: str,
    devices: Sequence[str],
    gpus: Sequence[str],
    environment: Mapping[str, str],
) -> Finding:
    """Whether `framework`'s devices, such as "cpu:0", include the machine's GPUs."""
    listed = ", ".join(devices)
    if not gpus or any(not device.startswith("cpu") for device in devices):
        return Finding("ok", f"{framework} devices", listed)
    listed = f"{listed}, beside {', '.join(gpus)}"
    chosen = {"CUDA_VISIBLE_DEVICES": ("", "-1")}
    if framework == "jax":
        chosen |= {"JAX_PLATFORMS": ("cpu",), "JAX_PLATFORM_NAME": ("cpu",)}
    for name, values in chosen.items():
        if environment.get(name) in values:
            advice = f"{name}={environment[name]!r} hides the GPU: unset it to use it."
            return Finding("warning", f"{framework} devices", listed, advice)
    advice = f"{framework} silently runs on the CPU. {ONE_CUDA}"
    return Finding("problem", f"{framework} devices", listed, advice)


def check_precision(precisions: Mapping[str, str]) -> Finding:
    """Report the default precision of float32 products; trpo sets its own."""
    listed = ", ".join(f"{name}={value}" for name, value in precisions.items())
    advice = (
        "For your own code only: trpo computes its products in true float32 whatever "
        "these say, unless `--matmul-precision tf32` asks otherwise. JAX's default "
        "(None) is TF32 on recent GPUs, torch's (highest) is float32."
    )
    return Finding("ok", "float32 products", listed, advice)


def check_x64(enabled: bool) -> Finding:
    """Whether JAX can compute in float64."""
    advice = (
        "For your own code only: `trpo` turns it on itself, for `--dtype float64` and "
        "for `trpo parity`. For float64 in Python, set JAX_ENABLE_X64=1 before it "
        "starts."
    )
    state, advice = ("on", "") if enabled else ("off", advice)
    return Finding("ok", "JAX 64-bit mode", state, advice)


def check_threads(
    cores: int, torch_threads: int | None, environment: Mapping[str, str]
) -> Finding:
    """Whether there are no more threads than cores."""
    facts = f"{cores} cores"
    if torch_threads:
        facts += f", {torch_threads} torch threads"
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "XLA_FLAGS"):
        facts += f", {name}={environment.get(name, 'unset')}"
    if torch_threads and torch_threads > cores:
        advice = f"Threads wait for each other: set OMP_NUM_THREADS={cores}."
        return Finding("warning", "threads", facts, advice)
    return Finding("ok", "threads", facts)


def check_gpu_memory(gpus: Sequence[str], environment: Mapping[str, str]) -> Finding:
    """Whether JAX leaves GPU memory for others."""
    names = [name for name in environment if re.match(r"XLA_(PYTHON_)?CLIENT_", name)]
    listed = ", ".join(f"{name}={environment[name]}" for name in sorted(names))
    facts = listed or "no XLA_PYTHON_CLIENT_… is set"
    off = environment.get("XLA_PYTHON_CLIENT_PREALLOCATE", "").lower() in ("false", "0")
    if not gpus or off or any(name.endswith("MEM_FRACTION") for name in names):
        return Finding("ok", "GPU memory", facts)
    advice = (
        "JAX takes 75 % of the GPU's memory at its first operation. To share the GPU "
        "with PyTorch, set XLA_PYTHON_CLIENT_PREALLOCATE=false before starting."
    )
    return Finding("warning", "GPU memory", facts, advice)


def check_cuda_wheels(installed: Mapping[str, str], torch_cuda: str | None) -> Finding:
    """Whether all CUDA libraries from wheels are of one major version.

    Args:
        installed: Package -> version, of everything installed.
        torch_cuda: CUDA version that torch was built for; None for a CPU build.
    """
    users: dict[str, list[str]] = {}
    for name, version in sorted(installed.items()):
        match = re.fullmatch(r"nvidia-.+-cu(\d+)|jax-cuda(\d+)-plugin", name)
        if match:
            users.setdefault(match[1] or match[2], []).append(f"{name} {version}")
        elif name in UNSUFFIXED_CUDA_WHEELS:
            users.setdefault(version.split(".")[0], []).append(f"{name} {version}")
    if torch_cuda:
        major = torch_cuda.split(".")[0]
        users.setdefault(major, []).append(f"torch for CUDA {torch_cuda}")
    if len(users) <= 1:
        found = f"of CUDA {next(iter(users))}" if users else "none installed"
        return Finding("ok", "CUDA wheels", found)
    facts = "; ".join(f"CUDA {major}: {', '.join(users[major])}" for major in users)
    reason = "Both install into one folder (nvidia/cudnn): the last one there wins. "
    return Finding("problem", "CUDA wheels", facts, reason + ONE_CUDA)


def diagnose() -> list[Finding]:
    """Look at this machine; imports the frameworks that are installed."""
    environment = dict(os.environ)
    installed = {
        re.sub(r"[-_.]+", "-", distribution.name).lower(): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }
    version = f"{platform.python_version()} on {platform.platform()}"
    findings = [Finding("ok", "Python", version), *check_versions(installed)]
    torch, jax = (_import(name, installed, findings) for name in ("torch", "jax"))
    gpus = _gpus(torch)
    precisions: dict[str, str] = {}
    if torch is not None:
        devices = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        findings.append(check_devices("torch", devices, gpus, environment))
        precisions["torch matmul"] = torch.get_float32_matmul_precision()
        precisions["torch cudnn.allow_tf32"] = str(torch.backends.cudnn.allow_tf32)
    if jax is not None:
        findings.append(_jax_devices(jax, gpus, environment))
        default = jax.config.jax_default_matmul_precision
        precisions["jax_default_matmul_precision"] = str(default)
        findings.append(check_x64(bool(jax.config.jax_enable_x64)))
        findings.append(check_gpu_memory(gpus, environment))
    findings.append(check_precision(precisions))
    torch_threads = torch.get_num_threads() if torch else None
    findings.append(check_threads(available_cores(), torch_threads, environment))
    return [
        *findings,
        check_cuda_wheels(installed, torch.version.cuda if torch else None),
    ]


def _import(
    name: str, installed: Mapping[str, str], findings: list[Finding]
) -> ModuleType | None:
    if name not in installed:
        return None
    try:
        return importlib.import_module(name)
    except Exception as error:  # A broken CUDA library raises OSError, among others.
        fact = f"installed, but can't be imported: {error}"
        advice = f'pip install --force-reinstall "trpo[{name}]"'
        findings.append(Finding("problem", name, fact, advice))
        return None


def _jax_devices(
    jax: ModuleType, gpus: Sequence[str], environment: Mapping[str, str]
) -> Finding:
    try:
        devices = [f"{device.platform}:{device.id}" for device in jax.devices()]
    except (RuntimeError, AssertionError) as error:  # The latter when asked again.
        asked = environment.get("JAX_PLATFORMS", "unset")
        facts = f"none, with JAX_PLATFORMS={asked}: {error or 'no backend started'}"
        advice = "Unset JAX_PLATFORMS, or install what it asks for. " + ONE_CUDA
        return Finding("problem", "jax devices", facts, advice)
    return check_devices("jax", devices, gpus, environment)


def _gpus(torch: ModuleType | None) -> list[str]:
    """NVIDIA GPUs that the driver or torch knows of."""
    if command := shutil.which("nvidia-smi"):
        try:
            listing = subprocess.run(
                [command, "-L"], capture_output=True, text=True, timeout=20, check=True
            )
            return re.findall(r"^(GPU \d+: .+?)(?: \(|$)", listing.stdout, re.M)
        except (OSError, subprocess.SubprocessError):
            pass
    if devices := [str(path) for path in Path("/proc/driver/nvidia/gpus").glob("*")]:
        return devices
    return ["a CUDA device"] if torch is not None and torch.cuda.is_available() else []


def print_report(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print findings, the advice under each; unwrapped, so it can be pasted."""
    terminal = Terminal(console)
    for level, subject, facts, advice in findings:
        terminal.say(
            [(f"{level:8}", STYLES[level]), (subject, "bold"), f": {facts}"],
            *([[(f"{'':8}{advice}", "dim")]] if advice else []),
        )
    problems = sum(finding.level == "problem" for finding in findings)
    found = f"{problems} problem{'s' * (problems > 1)}" if problems else "no problems"
    terminal.say([(found, "bold")])


def main() -> int:
    """`trpo doctor`: print the report; 1 if there is a problem, else 0."""
    findings = diagnose()
    print_report(findings)
    return int(any(finding.level == "problem" for finding in findings))

"""The doctor's decisions, on facts of machines that are not at hand."""

import importlib
import io
import re
import sys

import pytest
from rich.console import Console

from trpo.cli import doctor
from trpo.cli.doctor import Finding


HEALTHY = {name: tested for name, (_, tested) in doctor.TESTED.items()}
GPU = ["GPU 0: NVIDIA H100"]


def by_subject(findings):
    return {finding.subject: finding for finding in findings}


def test_tested_versions_are_fine():
    assert {f.level for f in doctor.check_versions(HEALTHY)} == {"ok"}
    assert not any(f.advice for f in doctor.check_versions(HEALTHY))


@pytest.mark.parametrize(
    ("changes", "name", "level", "advice"),
    [
        ({"torch": None}, "torch", "warning", 'pip install "trpo[torch]"'),
        ({"jax": None}, "jax", "warning", 'pip install "trpo[jax]"'),
        ({"jax": None, "flax": None}, "flax", "warning", 'pip install "trpo[jax]"'),
        ({"flax": None}, "flax", "problem", 'pip install "trpo[jax]"'),
        ({"optax": None}, "optax", "problem", 'pip install "trpo[jax]"'),
        ({"torch": None, "jax": None}, "torch", "problem", '"trpo[torch]"'),
        ({"torch": None, "jax": None}, "jax", "problem", '"trpo[jax]"'),
        ({"mujoco": None}, "mujoco", "warning", 'pip install "trpo[mujoco]"'),
        ({"numpy": None}, "numpy", "problem", 'pip install "trpo"'),
        ({"numpy": "1.26.4"}, "numpy", "problem", 'pip install --upgrade "trpo"'),
        ({"torch": "2.5.1+cu124"}, "torch", "problem", '--upgrade "trpo[torch]"'),
        ({"jax": "0.10.0"}, "jax", "ok", ""),
        ({"jax": "0.11.0"}, "jax", "ok", "trpo parity"),
        ({"torch": "3.0.0a1+git"}, "torch", "ok", "trpo parity"),
    ],
)
def test_versions(changes, name, level, advice):
    installed = {k: v for k, v in (HEALTHY | changes).items() if v is not None}
    finding = by_subject(doctor.check_versions(installed))[name]
    assert finding.level == level
    assert advice in finding.advice
    assert bool(advice) == bool(finding.advice)


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize(
    ("devices", "gpus", "environment", "level"),
    [
        (["cpu:0"], [], {}, "ok"),
        (["cpu:0"], GPU, {}, "problem"),
        (["cpu:0"], GPU, {"CUDA_VISIBLE_DEVICES": "0"}, "problem"),
        (["cpu:0"], GPU, {"CUDA_VISIBLE_DEVICES": ""}, "warning"),
        (["cpu:0"], GPU, {"CUDA_VISIBLE_DEVICES": "-1"}, "warning"),
        (["cuda:0"], GPU, {}, "ok"),
        (["cpu", "cuda:0"], GPU, {}, "ok"),
        (["gpu:0", "gpu:1"], GPU, {}, "ok"),
    ],
)
def test_a_cpu_beside_a_gpu(framework, devices, gpus, environment, level):
    finding = doctor.check_devices(framework, devices, gpus, environment)
    assert (finding.level, finding.subject) == (level, f"{framework} devices")
    assert bool(finding.advice) == (level != "ok")
    if level == "problem":
        assert "trpo[cuda13]" in finding.advice


def test_only_jax_obeys_jax_platforms():
    chosen = {"JAX_PLATFORMS": "cpu"}
    assert doctor.check_devices("jax", ["cpu:0"], GPU, chosen).level == "warning"
    assert doctor.check_devices("torch", ["cpu"], GPU, chosen).level == "problem"
    forced = {"JAX_PLATFORMS": "cuda,cpu"}
    assert doctor.check_devices("jax", ["cpu:0"], GPU, forced).level == "problem"


CUDA12 = {
    "nvidia-cudnn-cu12": "9.10.2.21",
    "nvidia-cublas-cu12": "12.8",
    "numpy": "2.4",
}
CUDA13 = {
    "nvidia-cudnn-cu13": "9.26.0.51",
    "nvidia-cublas": "13.4.1.3",
    "nvidia-cufft": "12.0.0",
}
JAX12 = {"jax-cuda12-plugin": "0.10.2", "jax-cuda12-pjrt": "0.10.2"}
JAX13 = {"jax-cuda13-plugin": "0.10.2", "jax-cuda13-pjrt": "0.10.2"}


@pytest.mark.parametrize(
    ("installed", "torch_cuda", "level"),
    [
        ({}, None, "ok"),
        (HEALTHY, None, "ok"),
        (CUDA12 | JAX12, "12.8", "ok"),
        (CUDA13 | JAX13, "13.0", "ok"),
        (CUDA12, None, "ok"),
        (CUDA12 | JAX12, None, "ok"),
        (CUDA12 | CUDA13, None, "problem"),
        (CUDA12 | JAX12, "13.0", "problem"),
        (JAX12, "13.0", "problem"),
        (JAX13, "12.8", "problem"),
        (JAX12 | JAX13, None, "problem"),
        ({"nvidia-cublas": "13.4.1.3"} | CUDA12, None, "problem"),
        (CUDA13, "12.6", "problem"),
    ],
)
def test_cuda_wheels(installed, torch_cuda, level):
    finding = doctor.check_cuda_wheels(installed, torch_cuda)
    assert finding.level == level
    if level == "problem":
        assert "CUDA 12: " in finding.facts
        assert "CUDA 13: " in finding.facts
        assert "trpo[cuda12]" in finding.advice
        assert "trpo[cuda13]" in finding.advice


def test_threads():
    assert doctor.check_threads(2, 2, {}).level == "ok"
    assert doctor.check_threads(2, None, {}).level == "ok"
    finding = doctor.check_threads(2, 8, {"OMP_NUM_THREADS": "8", "XLA_FLAGS": "--a"})
    assert finding.level == "warning"
    assert "OMP_NUM_THREADS=2" in finding.advice
    for fact in ("2 cores", "8 torch threads", "OMP_NUM_THREADS=8", "XLA_FLAGS=--a"):
        assert fact in finding.facts


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({}, "warning"),
        ({"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, "warning"),
        ({"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, "ok"),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": ".4"}, "ok"),
        ({"XLA_CLIENT_MEM_FRACTION": ".4"}, "ok"),
    ],
)
def test_gpu_memory(environment, level):
    finding = doctor.check_gpu_memory(GPU, environment)
    assert finding.level == level
    assert all(name in finding.facts for name in environment)
    assert doctor.check_gpu_memory([], environment).level == "ok"


def test_precision_and_x64_are_explained():
    finding = doctor.check_precision({"torch matmul": "high"})
    assert "torch matmul=high" in finding.facts
    assert "true float32 whatever" in finding.advice
    assert (doctor.check_x64(True).facts, doctor.check_x64(True).advice) == ("on", "")
    advice = doctor.check_x64(False).advice
    assert "`trpo` turns it on itself" in advice
    assert "in Python, set JAX_ENABLE_X64=1" in advice


def printed(findings, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    doctor.print_report(findings, console)
    return console.file.getvalue()


def test_commands_are_printed_unchanged_and_on_one_line():
    command = 'pip install "trpo[torch]" ' + "and so on " * 20 + "[bold]end[/bold]"
    text = printed([Finding("problem", "torch", "not [found]", command)], width=40)
    assert f"{command}\n" in text
    assert "problem torch: not [found]\n" in text
    assert text.rstrip().endswith("1 problem")


def test_diagnosis_of_this_machine(monkeypatch):
    findings = doctor.diagnose()
    subjects = by_subject(findings)
    assert len(subjects) == len(findings)
    for subject in ("Python", "torch devices", "jax devices", "threads", "CUDA wheels"):
        assert subjects[subject].facts
    for name in doctor.TESTED:
        assert re.match(r"\d+\.\d", subjects[name].facts), name
    assert subjects["JAX 64-bit mode"].facts == "off"
    expected = int(any(finding.level == "problem" for finding in findings))
    assert doctor.main() == expected


def test_a_missing_and_a_broken_framework(monkeypatch):
    real = importlib.metadata.distributions

    def without_torch():
        return [found for found in real() if found.name != "torch"]

    def import_module(name):
        if name == "jax":
            raise OSError("libcudnn.so.9: cannot open shared object file")
        raise AssertionError(f"{name} is not installed, so why import it?")

    monkeypatch.setattr(importlib.metadata, "distributions", without_torch)
    monkeypatch.setattr(importlib, "import_module", import_module)
    findings = doctor.diagnose()
    torch, *broken = (f for f in findings if f.subject in ("torch", "jax"))
    assert (torch.level, torch.advice) == ("warning", 'pip install "trpo[torch]"')
    assert broken[-1].level == "problem"
    assert "libcudnn.so.9" in broken[-1].facts
    assert '"trpo[jax]"' in broken[-1].advice
    assert doctor.main() == 1


def test_gpus_from_the_driver(monkeypatch, tmp_path):
    command = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    listing = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\nGPU 1: NVIDIA L4 (UUID: x)"
    command.write_text(f"#!{sys.executable}\nprint('''{listing}''')")
    command.chmod(0o755)
    assert doctor._gpus(None) == ["GPU 0: NVIDIA H100 80GB HBM3", "GPU 1: NVIDIA L4"]
    command.write_text(f"#!{sys.executable}\nraise SystemExit(9)")
    assert doctor._gpus(None) == []

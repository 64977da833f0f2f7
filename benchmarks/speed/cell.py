"""What is measured: a cell is one subject at one setting, timed in its own process."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.speed.problems import Size


BACKENDS = ("torch", "jax")
PEERS = ("sb3-contrib", "tianshou")
PRECISIONS = ("float32", "tf32", "bfloat16")
SUBJECTS = {
    "jax": "JAX, jit",
    "jax-envpool": "JAX, jit, EnvPool's environments",
    "torch": "PyTorch, eager",
    "torch-envpool": "PyTorch, eager, EnvPool's environments",
    "torch-compile": "PyTorch, torch.compile",
    "torch-cudagraphs": "PyTorch, CUDA graphs",
    "compiled": "JAX, whole loop compiled",
    "compiled-16": "JAX, whole loop compiled, 16 seeds",
    "sb3-contrib": "sb3-contrib TRPO",
    "tianshou": "Tianshou TRPO",
    "sbx": "SBX PPO (JAX)",
    "cleanrl": "PPO as CleanRL's (PyTorch)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure.

    Attributes:
        kind: which function of `benchmarks.speed.worker` measures it.
        subject: who is measured, a key of `SUBJECTS`; "" for the machine.
        device: the framework's device name.
        precision: of float32 matrix products.
        mode: "fixed" forces all CG iterations; "natural" stops as configured.
        label: "A", or "B" for a second run of the same thing (the A/A test).
        size: sizes of the update, where there is one.
        env_id: environment to train in, where there is one.
        num_envs: environments at once.
    """

    kind: str
    subject: str = ""
    device: str = "cpu"
    precision: str = "float32"
    mode: str = "fixed"
    label: str = "A"
    size: Size | None = None
    env_id: str = ""
    num_envs: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Cell":
        """The cell that `to_json` wrote."""
        size = values.get("size")
        if size is not None:
            name, samples, obs_dim, act_dim, layers = size
            size = Size(name, samples, obs_dim, act_dim, tuple(layers))
        return cls(**{**values, "size": size})

    @property
    def title(self) -> str:
        """One line for the terminal."""
        size = self.size.label if self.size else ""
        parts = [self.kind, self.subject, self.device, self.precision, self.mode, size]
        parts += [self.env_id, f"x{self.num_envs}" if self.num_envs else ""]
        parts += ["(again)" if self.label == "B" else ""]
        return " ".join(filter(None, parts))


def update_cells(
    sizes: Sequence[Size], device: str, backends: Iterable[str], *, peers: bool
) -> list[Cell]:
    """Cells of the update benchmark on one device, without their rounds.

    Each backend's plain float32 row is there twice, as labels A and B.
    """
    cells = [Cell(kind="machine", device=device)]
    for size in sizes:
        cells += [
            cell
            for backend in backends
            for cell in _backend_cells(size, device, backend)
        ]
        cells += [
            Cell(kind="update", subject=peer, device=device, size=size, mode=mode)
            for peer in (PEERS if peers else ())
            for mode in ("fixed", "natural")
        ]
    return cells


def _backend_cells(size: Size, device: str, backend: str) -> list[Cell]:
    plain = Cell(kind="update", subject=backend, device=device, size=size)
    cells = [plain, dataclasses.replace(plain, label="B")]
    cells += [dataclasses.replace(plain, precision=p) for p in PRECISIONS[1:]]
    cells += [dataclasses.replace(plain, mode="natural")]
    if backend == "torch":
        variants = ("torch-compile", "torch-cudagraphs")
        cells += [dataclasses.replace(plain, subject=name) for name in variants]
    return cells


def fisher_cells(device: str, backends: Iterable[str]) -> list[Cell]:
    """Fisher products at 8,192 x 256-256."""
    size = Size("HalfCheetah", 8_192, 17, 6, (256, 256))
    return [
        Cell(kind="fisher", subject=backend, device=device, size=size)
        for backend in backends
    ]

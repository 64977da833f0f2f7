"""Pages of the audit's own tables, written from their result files."""

import json
from collections.abc import Sequence
from pathlib import Path


TITLES = {
    "layers": "Layers and losses: torch.nn against flax.nnx and optax",
    "optimisers": "Optimisers: torch.optim against optax, 100 steps",
}


def page(name: str, folder: Path) -> str:
    """One of `TITLES` as Markdown."""
    stored = json.loads((folder / f"{name}.json").read_text())
    rows = stored["rows"]
    cells = [
        [r["name"], r["torch"], r["jax"], r["finding"], r["meaning"]] for r in rows
    ]
    versions = ", ".join(f"{n} {v}" for n, v in stored["versions"].items())
    equal = sum(r["finding"] == "equal" for r in rows)
    after = sum(r["finding"].startswith("equal after") for r in rows)
    header = ["row", "PyTorch", "JAX", "found", "what it means"]
    return (
        f"# {TITLES[name]}\n\n{len(rows)} pairs: {equal} equal as they come, {after} "
        f"equal after a stated setting, {len(rows) - equal - after} different. "
        f"{versions}.\n`python -m benchmarks.audit {name} ROW` runs one again.\n\n"
        f"{markdown(header, cells)}"
    )


def noise_page(folder: Path) -> str:
    """Spreads under automatic noise, per quantity."""
    stored = json.loads((folder / "noise_spreads.json").read_text())
    rows, sides = stored["quantities"], ("torch", "jax")
    shown = [[r["quantity"], *(_ratio(r.get(side)) for side in sides)] for r in rows]
    means = [row[s]["mean"] for row in rows for s in sides if s in row]
    within = sum(1 / 3 <= m <= 3 for m in means)
    return (
        "# Spreads under automatic noise over those of the simulation by hand\n\n"
        f"{len(stored['cases'])} cases of TRPO's grid, {stored['runs']} runs each. Of "
        f"{len(means)} means, {within} lie within a factor of 3. Geometric mean over "
        "the cases (lowest to highest).\n\n"
        f"{markdown(['quantity', 'PyTorch', 'JAX'], shown)}"
    )


def _ratio(found: dict | None) -> str:
    if found is None:
        return ""
    return f"{found['mean']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)

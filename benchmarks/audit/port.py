"""The real port proved, and its page: the worst of each stage and kind of check.

    ENVIRONMENT/bin/python -m benchmarks.audit.port

proves `real_port.bert` and writes `real_port.json` and `real_port.md`.
"""

import dataclasses
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.command import Output, run_command
from parity_kit import prove
from parity_kit.certificate.text import read


RESULTS = "audit"
CHECKS = {
    "A": "float64: difference over size",
    "B": "float32: error over its predicted spread",
    "C": "float32: JAX's error over PyTorch's",
}


def short(certificate: dict[str, Any], transformers: str) -> dict[str, Any]:
    """Of a certificate: verdict, versions, and the row nearest its bound per stage."""
    worst: dict[tuple[str, str], dict[str, Any]] = {}
    for row in certificate["rows"]:
        key = (row["ring"], row["quantity"].split("/")[0])
        share = row["value"] / row["bound"]
        if key not in worst or share > worst[key]["value"] / worst[key]["bound"]:
            worst[key] = row
    return {
        "verdict": certificate["verdict"],
        "first divergence": certificate["first_divergence"],
        "seeds": certificate["facts"]["seeds"],
        "seconds": round(certificate["seconds"]),
        "versions": certificate["facts"]["versions"] | {"transformers": transformers},
        "compared": len(certificate["rows"]),
        "failed": sum(not row["ok"] for row in certificate["rows"]),
        "worst": [worst[key] for key in sorted(worst, key=_order)],
        "remarks": certificate["remarks"],
    }


def _order(key: tuple[str, str]) -> tuple[str, int]:
    stages = ("outputs", "loss", "gradient", "optimizer", "state")
    return key[0], stages.index(key[1])


def page(folder: Path) -> str:
    """The page, from `real_port.json`."""
    stored = json.loads((folder / "real_port.json").read_text())
    versions = ", ".join(f"{n} {v}" for n, v in stored["versions"].items())
    lines = [
        "# A real port: Hugging Face's BERT in PyTorch and in Flax",
        "",
        "`BertModel` and `FlaxBertModule` of one configuration with random weights: "
        "hidden states, pooled output, a loss, its gradient by each parameter, three "
        f"steps of AdamW, the state after a checkpoint. Verdict: {stored['verdict']}; "
        f"{stored['failed']} of {stored['compared']} rows failed; "
        f"{len(stored['seeds'])} seeds, {stored['seconds']} s on a busy machine. "
        f"{versions}.",
        "",
        "The row nearest its bound in each stage:",
        "",
        "| Check | Stage | Quantity | Seed | Value | Bound |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in stored["worst"]:
        name, check = row["quantity"], CHECKS[row["ring"]]
        lines.append(
            f"| {check} | {name.split('/')[0]} | `{name}` | {row['case']} | "
            f"{row['value']:.1e} | {row['bound']:.1e} |"
        )
    lines += ["", "Remarks:", "", *(f"- {text}" for text in stored["remarks"])]
    lines += [
        "",
        "What it means: a Flax user of the same checkpoint gets PyTorch's numbers to "
        "rounding, in training as well. `ENVIRONMENT/bin/python -m "
        "benchmarks.audit.port` proves it again in an environment that has "
        "transformers below 5.",
    ]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Arguments(Output):
    """Prove a library's transformer equal in both frameworks."""

    seeds: int = 2
    """How many seeds inputs are drawn from."""


def main(arguments: Arguments) -> None:
    """Prove, and write both files."""
    from benchmarks.audit.real_port import bert

    name = "benchmarks.audit.real_port:bert"
    proved = prove(bert, arguments.seeds, faults=0, name=name)
    with tempfile.TemporaryDirectory() as place:
        written = (proved.write(place) / "certificate.json").read_text()
    found = short(read(written), version("transformers"))
    folder = arguments.folder(RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "real_port.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "real_port.md").write_text(page(folder))


if __name__ == "__main__":
    run_command(main, Arguments)

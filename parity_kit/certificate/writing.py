"""The certificate's files."""

from pathlib import Path
from typing import Any

from parity_kit import arrays
from parity_kit.certificate import text


REPRODUCTION = "first_divergence.safetensors"


def write(certificate: Any, folder: Path) -> Path:
    """Write all of them; see `Certificate.write`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "certificate.json").write_text(text.document(certificate), "utf-8")
    (folder / "certificate.txt").write_text(text.summary(certificate) + "\n", "utf-8")
    reproduction = folder / REPRODUCTION
    reproduction.unlink(missing_ok=True)
    if certificate.reproduction:
        arrays.save(certificate.reproduction, reproduction)
    return folder

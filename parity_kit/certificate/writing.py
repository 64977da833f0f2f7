"""The certificate's files."""

from pathlib import Path
from typing import Any

from parity_kit import arrays
from parity_kit.certificate import page, text


REPRODUCTION = "first_divergence.safetensors"


def write(certificate: Any, folder: Path) -> Path:
    """Write all of them; see `Certificate.write`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        name: x for name, x in vars(certificate).items() if name != "reproduction"
    }
    (folder / "certificate.json").write_text(text.document(fields), "utf-8")
    (folder / "certificate.md").write_text(text.markdown(certificate), "utf-8")
    (folder / "certificate.html").write_text(page.html(certificate), "utf-8")
    from parity_kit.certificate import figure

    figure.draw(certificate, folder / "certificate.png")
    reproduction = folder / REPRODUCTION
    reproduction.unlink(missing_ok=True)
    if certificate.reproduction:
        arrays.save(certificate.reproduction, reproduction)
    return folder

"""PyTorch's matrix products by one of its libraries, on any processor."""

import pytest
import torch

from trpo_torch.fast import products


def force_library(monkeypatch: pytest.MonkeyPatch, onednn: bool) -> None:
    """All products by oneDNN, or none, however small they are."""
    # Where PyTorch has the library, its operator has to be there too: no skip then.
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch is built without oneDNN")
    monkeypatch.setattr(products, "ONEDNN", onednn)
    monkeypatch.setattr(products, "ONEDNN_FROM", 0)
    monkeypatch.setattr(products, "TANH_FROM", 0)
    monkeypatch.setattr(products, "_worth", lambda *_: onednn)

"""PyTorch's matrix products by either of its libraries, on any processor."""

import numpy as np
import pytest
import torch

from tests.support.product_library import force_library
from trpo.common import machine as processor
from trpo_torch.fast import products


@pytest.fixture(params=[False, True], ids=["default", "oneDNN"])
def library(request, monkeypatch):
    """Every product by this library, however small."""
    force_library(monkeypatch, onednn=request.param)
    return products.products(torch.zeros(3, 2), 1)


def factors(rows, inner, columns, transposed):
    rng = np.random.default_rng(0)
    left, right = (
        rng.standard_normal((rows, inner)),
        rng.standard_normal((inner, columns)),
    )
    exact = left @ right
    first = torch.from_numpy(left.astype(np.float32))
    if transposed:
        first = first.t().contiguous().t()
    second = torch.from_numpy(right.astype(np.float32))
    magnitude = np.abs(left) @ np.abs(right)
    return first, second, exact, magnitude * np.finfo(np.float32).eps * 4.0


def near(got, expected, bound):
    assert (np.abs(got.numpy() - expected) <= bound).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 5), (64, 256, 17), (300, 40, 6)])
def test_products_are_exact_to_float32(library, shape, transposed):
    left, right, exact, bound = factors(*shape, transposed)
    near(library.times(left, right), exact, bound)
    bias = torch.arange(float(shape[2]))
    expected = exact + bias.numpy()
    near(library.linear(left, right.t().contiguous(), bias), expected, 2 * bound + 1e-4)
    into = torch.full((shape[0], shape[2]), torch.nan)
    library.put(into, left, right)
    near(into, exact, bound)
    library.add(into, left, right)
    near(into, 2.0 * exact, 2 * bound)


def test_a_tanh_layer_is_exact_to_float32(library):
    x, right, exact, bound = factors(300, 17, 40, transposed=False)
    bias = torch.linspace(-8.0, 8.0, 40)
    got = products.tanh_layer(x, right.t().contiguous(), bias)
    # tanh is no steeper than 1, and itself wrong by a few units in the last place.
    near(got, np.tanh(exact + bias.numpy()), bound + 1e-6)


def test_the_library_is_the_one_asked_for(library, monkeypatch):
    asked = []
    fake = type("Operators", (), {})()
    fake._linear_pointwise = lambda x, w, *_: asked.append(x) or x @ w.t()
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    library.times(torch.ones(2, 2), torch.ones(2, 2))
    products.tanh_layer(torch.ones(2, 2), torch.ones(2, 2), torch.zeros(2))
    assert len(asked) == 2 * products.ONEDNN


def test_tanh_by_onednn_is_for_many_outputs_in_a_plain_layout(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", True)
    asked = []
    fake = type("Operators", (), {})()
    fake._linear_pointwise = lambda x, *_: asked.append(x) or x
    monkeypatch.setattr(torch.ops, "mkldnn", fake)
    fit = torch.zeros(1024, 64)
    for x in (
        fit[:2],
        fit.double(),
        fit.to("meta"),
        torch.zeros(1024, 128)[:, :64],
    ):
        products.tanh_layer(x, torch.zeros(64, 64).to(x), torch.zeros(64).to(x))
    assert not asked
    products.tanh_layer(fit, torch.zeros(64, 64), torch.zeros(64))
    assert len(asked) == 1


def test_small_products_and_other_types_stay_where_they_were(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", True)
    x, weights = torch.zeros(1024, 64), 64 * 64
    assert products.products(x, weights) is products._BY_ONEDNN
    assert products.products(x[:256], weights) is products._BY_DEFAULT
    assert products.products(x.double(), weights) is products._BY_DEFAULT
    assert products.products(x.to("meta"), weights) is products._BY_DEFAULT
    monkeypatch.setattr(products, "ONEDNN", False)
    assert products.products(x, weights) is products._BY_DEFAULT


def test_what_is_compiled_is_left_to_the_compiler(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", True)
    found = []

    def chosen(x):
        found.append(products.products(x, 64 * 64) is products._BY_DEFAULT)
        return x + 1.0

    torch.compile(chosen, backend="eager")(torch.zeros(1024, 64))
    assert found == [True]


def test_odd_layouts_are_left_to_the_other_library():
    x, weight = torch.zeros(2048, 64), torch.zeros(64, 64)
    assert products._worth(x, weight)
    assert products._worth(torch.zeros(64, 2048).t(), weight)
    assert not products._worth(torch.zeros(2048, 128)[:, :64], weight)


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [("GenuineIntel", False), ("AuthenticAMD", True), ("", False)],
)
def test_the_maker_of_the_processor(vendor, expected, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    lines = ["processor\t: 0"] + [f"vendor_id\t: {vendor}"] * bool(vendor)
    path.write_text("\n".join(lines))
    monkeypatch.setattr(processor, "CPU_INFO", path)
    monkeypatch.setattr(processor.platform, "processor", lambda: "")
    assert processor.is_amd() == expected

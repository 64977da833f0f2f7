"""TF32's own bounds: met by TF32, vacuous without it, broken by anything shorter."""

from parity_kit.rings import ties
from parity_tests import bridges
from parity_tests.common.tolerances import TF32_MAX_TIE_SHARE, TF32_SHOWS_IN
from parity_tests.problems import cases
from parity_tests.reference import all_stages
from parity_tests.rings import evidence
from parity_tests.rings.simulated_tf32 import RoundedProducts
from parity_tests.suite import all_checks


CASES = ("trained", "saturated", "single_linear", "deep", "kl_1e-8")
TF32, BFLOAT16, FLOAT32 = 10, 7, 23


def simulated(name, bits):
    """Evidence on a case, with PyTorch's rounded products as both backends' results."""
    problem, teacher = cases.build(name), bridges.teacher_of(name, 0)
    with RoundedProducts(bits) as mode:
        stages = bridges.run("torch", problem, teacher, "float32")
    assert mode.count > 0
    return evidence.collect(
        name,
        0,
        lambda noise, decisions: all_stages.run(problem, teacher, noise, decisions),
        {("torch", "float32"): stages, ("jax", "float32"): stages},
        problem.config,
        evidence.ROUNDING_UNITS["tf32"],
    )


def judge_simulated(bits):
    return list(all_checks.judge_tf32([simulated(name, bits) for name in CASES]))


def test_tf32_products_keep_to_their_bounds(device):
    # A CPU has no such products: they are rounded by hand there.
    if device == "cpu":
        rows = judge_simulated(TF32)
    else:
        gathered = [evidence.gather(name, 0, device, "tf32") for name in CASES]
        rows = list(all_checks.judge_tf32(gathered))
    assert not [row for row in rows if not row.ok]
    assert ties(rows, TF32_MAX_TIE_SHARE)[2]
    pooled = {r.quantity: r.value for r in rows if (r.ring, r.case) == ("B", "all")}
    assert min(pooled[quantity] for quantity in TF32_SHOWS_IN) > 0.2


def test_full_precision_that_is_called_tf32_is_noticed():
    bad = {row.quantity for row in judge_simulated(FLOAT32) if "vacuous" in row.note}
    assert bad == set(TF32_SHOWS_IN)


def test_bfloat16_products_break_the_bounds():
    assert [row for row in judge_simulated(BFLOAT16) if row.note == "unstable formula"]

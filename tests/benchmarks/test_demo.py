"""What the demonstration says of its own figures."""

from benchmarks import demo
from trpo.runs.learning_curves import learning_curves_png


def test_it_says_which_precision_is_where_and_why_the_steps_shrink():
    radius = demo.preset_config(demo.ENV_ID).agent.target_kl
    rows = {
        "torch": [{"step": 100.0 * i, "policy/target_kl": radius} for i in range(9)],
        "jax": [{"step": 100.0 * i, "policy/target_kl": radius} for i in range(9)],
    }
    for i in (5, 6, 8):
        rows["jax"][i]["policy/target_kl"] = 0.5 * radius
    found = demo.radius_sentence({name: {"rows": own} for name, own in rows.items()})
    assert "First at step none in torch, 500 in jax." in found
    assert "`full_radius_advantage_std`" in found
    curves, table = demo.EXPLANATION.split(". ", 1)
    assert "float32" in curves
    assert "float64" in table


def test_the_bound_of_a_step_is_drawn_beside_it():
    row = {"step": 1.0, "policy/kl": 0.1, "rollout/episode_return_mean": 2.0}
    rows = [row, row | {"step": 2.0}]
    with_bound = [row | {"policy/target_kl": 0.2} for row in rows]
    pictures = [learning_curves_png({"a": own}, "t") for own in (rows, with_bound)]
    assert pictures[0] != pictures[1]

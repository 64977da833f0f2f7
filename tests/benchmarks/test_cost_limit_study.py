"""The study of a limit on costs: it runs, resumes, and says what its rows say."""

from benchmarks.csv_files import read_as
from benchmarks.learning import cost_limit


def test_rows_table_and_figure_of_a_short_study(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost_limit, "EPISODES", 3)
    arguments = cost_limit.Arguments(
        seeds=(0,), backends=("torch",), total_steps=3200, out=tmp_path
    )
    assert cost_limit.main(arguments) == 0
    rows = read_as(tmp_path / "curves.csv", cost_limit.Row)
    finals = read_as(tmp_path / "policies.csv", cost_limit.Row)
    assert {row.run for row in rows} == {row.run for row in finals}
    assert len(rows) == 2 * len(finals) == 6
    assert {row.step for row in rows} == {1600, 3200}
    text = (tmp_path / "cost_limit.md").read_text()
    assert "| CPO | torch | 3,200 | " in text
    assert f"{finals[0].cost_mean:.1f}" in text
    assert (tmp_path / "cost_limit.png").stat().st_size > 10_000
    capsys.readouterr()
    # Again: nothing is left to do, and nothing is lost.
    before = (tmp_path / "curves.csv").read_bytes()
    assert cost_limit.main(arguments) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "curves.csv").read_bytes() == before


def test_the_table_is_of_its_rows():
    finals = [
        cost_limit.Row("TRPO", "jax", 1, 100, 5.0, 60.25, 20.0),
        cost_limit.Row("CPO", "jax", 1, 100, 3.0, 19.5, 20.0),
        cost_limit.Row("CPO", "jax", 0, 100, 4.0, 20.5, 20.0),
    ]
    rows = [
        row._replace(step=step, cost_mean=cost)
        for row in finals
        for step, cost in ((50, 99.0), (75, 30.0), (100, 20.0))
    ]
    lines = cost_limit.table(rows, finals, "Env-v0").splitlines()
    assert lines[-2:] == [
        "| CPO | jax | 100 | 25.0, 25.0 | 20.5, 19.5 | 4.0, 3.0 |",
        "| TRPO | jax | 100 | 25.0 | 60.2 | 5.0 |",
    ]

"""`trpo plot`: what is drawn, of which runs, and what is said of what is missing."""

import csv
import json
import math
import re

import pytest

from trpo.cli.main import main
from trpo.config.presets import preset_config
from trpo.config.run import TrainConfig
from trpo.runs import curves as diagnostics
from trpo.runs.curves import PANELS, line_search_index, load_runs, points, time_split
from trpo.runs.curves_figure import draw, missing
from trpo.runs.curves_page import write_diagnostics
from trpo.runs.learning_curves import learning_curves_png
from trpo.runs.metrics import read_metrics
from trpo.runs.train import train_run


SMALL = {
    "num_envs": 2,
    "rollout_steps": 32,
    "total_steps": 4 * 64,
    "policy_layer_sizes": (8,),
    "critic_layer_sizes": (8,),
    "value_epochs": 2,
    "eval_episodes": 2,
    "eval_interval": 2,
    "target_kl": 0.02,
    "final_target_kl": 0.01,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    train_run(preset_config("CartPole-v1", backend="torch", **SMALL), path)
    return path


def copy_of(run, path, change, drop=()):
    """A run directory like `run`, with another configuration and fewer columns."""
    path.mkdir(parents=True)
    config = json.loads((run / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [name for name in rows[0] if name not in drop]
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_panel_has_its_numbers(run):
    (loaded,) = load_runs([run])
    assert all(missing(panel, [loaded]) == [] for panel in PANELS)
    rows = read_metrics(run / "metrics.csv")
    panel = {panel.title: panel for panel in PANELS}
    taken, target = panel["mean KL(old || new), nats"].curves
    assert points(loaded, taken)[1] == [row["policy/kl"] for row in rows]
    assert points(loaded, taken)[0] == [64, 128, 192, 256]
    radii = [0.02, 0.02 - 0.01 / 3, 0.01 + 0.01 / 3, 0.01]
    assert points(loaded, target)[1] == pytest.approx(radii, rel=1e-12)
    evaluation = panel["episode return"].curves[1]
    assert points(loaded, evaluation)[0] == [128, 256]
    parts = time_split(loaded)
    assert list(parts) == ["rollout", "update", "evaluation"]
    name = "time/acting_and_stepping_seconds"
    assert parts["rollout"] == pytest.approx(sum(row[name] for row in rows))
    assert all(seconds > 0 for seconds in parts.values())

    figure = draw([loaded])
    titled = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert set(titled) == {*panel, "seconds of wall time"}
    for title in panel:
        drawn = [line for line in titled[title].lines if len(line.get_xdata())]
        assert len(drawn) == len(panel[title].curves), title
    assert len(titled["seconds of wall time"].patches) == 3


@pytest.mark.parametrize(
    ("fraction", "status", "index"),
    # 0.8 and its ninth power as float32 has them, a little above and below.
    [
        *[(1.0, 0, 0.0), (0.800000011920929, 0, 1.0), (0.134217724, 0, 9.0)],
        *[(0.0, 1, 10.0), (0.0, 4, None)],
    ],
)
def test_line_search_index(fraction, status, index):
    config = TrainConfig(env_id="E")
    row = {"policy/line_search_frac": fraction, "policy/status": float(status)}
    assert line_search_index(config, row) == index
    assert line_search_index(config, {}) is None


def test_old_directories_are_drawn_and_what_they_lack_is_said(run, tmp_path):
    dropped = ["policy/target_kl", "policy/entropy", "cg/residual"]
    dropped += [name for _, name in diagnostics.TIMES]

    def age(config):
        del config["callbacks"]

    old = copy_of(run, tmp_path / "old", age, dropped)
    (loaded,) = load_runs([old])
    lacking = {panel.title for panel in PANELS if missing(panel, [loaded])}
    assert lacking == {
        "conjugate gradient's residual |r| / |g|",
        "policy's entropy, nats",
    }
    # By the schedule of its configuration.
    target = PANELS[1].curves[1]
    assert points(loaded, target)[1] == points(load_runs([run])[0], target)[1]
    figure = draw([loaded])
    said = [axes for axes in figure.axes if axes.texts]
    assert [axes.texts[0].get_text() for axes in said] == ["not in these metrics"] * 3
    both = draw(load_runs([run, old]))
    titles = " ".join(axes.get_title() for axes in both.axes)
    assert titles.count("not in: old") == 2


def test_a_page_compares_runs_and_needs_nothing_from_elsewhere(run, tmp_path, capsys):
    def change(config):
        config["seed"] = 7
        config["agent"]["gamma"] = 0.5
        config["env_id"] = "<b>&Env</b>"

    other = copy_of(run, tmp_path / "other", change)
    out = tmp_path / "out"
    assert main(["plot", str(run), str(other), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(out / f"diagnostics.{kind}") for kind in ("png", "html")]
    assert (out / "diagnostics.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (out / "diagnostics.html").read_text()
    assert re.search(r'<img [^>]*src="data:image/png;base64,iVBOR', page)
    links = re.findall(
        r"(?:src|href)\s*=\s*['\"]?([^'\" >]*)|url\(|@import|<script", page
    )
    assert links
    assert all(link.startswith("data:") for link in links)
    assert "http" not in re.sub(r'base64,[^"]*', "", page)
    assert "<b>&Env" not in page
    fields = re.findall(
        r"<tr><td>([^<]*)</td>", page.partition("Configuration</h2>")[2]
    )
    assert sorted(fields) == ["agent.gamma", "env_id", "seed"]
    score = json.loads((run / "evaluation.json").read_text())["mean"]
    assert f"<td>{score:.2f} ± " in page

    assert main(["plot", str(run)]) == 0
    page = (run / "diagnostics.html").read_text()
    assert "<td>agent.gamma</td>" in page  # Of one run, everything.
    for arguments, name in (
        (["--colour", "red"], "`--colour`"),
        ([], "`run_dirs`"),
        ([str(tmp_path / "nowhere")], "`run_dirs`"),
    ):
        assert main(["plot", *arguments]) == 2
        assert f"{name}: expected" in capsys.readouterr().err


def test_directories_of_many_runs_stand_for_all_of_them(run, tmp_path):
    for seed in (1, 2):
        copy_of(run, tmp_path / f"many/seed={seed}", lambda c, s=seed: c.update(seed=s))
    loaded = load_runs([tmp_path / "many", run])
    assert [item.label for item in loaded] == ["seed=1", "seed=2", "first"]
    assert [item.config.seed for item in loaded] == [1, 2, 0]
    assert len(load_runs([run, run])) == 1
    copy_of(run, tmp_path / "more/seed=1", lambda config: None)
    twins = load_runs([tmp_path / "many", tmp_path / "more"])
    assert [item.label for item in twins] == [
        "many/seed=1",
        "many/seed=2",
        "more/seed=1",
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "1e308", "1e-320"])
def test_numbers_without_a_place_in_a_figure_are_left_out_of_it(run, tmp_path, text):
    path = copy_of(run, tmp_path / "odd", lambda config: None)
    with (path / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row, sign in zip(rows[2:4], ("", "-"), strict=True):
        odd = [cell and f"{sign}{text}".replace("--", "") for cell in row[2:]]
        row[2:] = odd
    with (path / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (loaded,) = load_runs([path])
    assert loaded.rows[1]["policy/kl"] == pytest.approx(float(text), nan_ok=True)
    assert learning_curves_png({"": loaded.rows}, "").startswith(b"\x89PNG")
    steps, _ = points(loaded, PANELS[1].curves[0])
    assert set(steps) == {64, 256} | ({128, 192} if text == "1e-320" else set())
    assert all(map(math.isfinite, time_split(loaded).values()))
    assert write_diagnostics([path])

"""The certificate's files, from one case's evidence."""

import json
import re
import subprocess

import pytest

from parity_kit.certificate import text as kit_text
from parity_tests import __main__ as command
from parity_tests.certificate import (
    figure as certificate_figure,
    page as certificate_page,
    run as certificate,
    text as certificate_text,
)
from parity_tests.certificate.record import TF32, Certificate
from parity_tests.common import process_setup
from parity_tests.mutation import run as mutation
from parity_tests.mutation.mutants import MUTANTS
from parity_tests.rings import evidence
from parity_tests.suite import all_checks


NUMBERS = (float("inf"), float("nan"), 1.23456e-16)


@pytest.fixture(scope="module")
def example():
    rows = list(all_checks.judge([evidence.gather("trained", 0)]))
    update = {
        "step_64": 1e-15, "critic_64": 0.0, "step_torch_32": 2e-6, "step_jax_32": 3e-6,
        "ratio_torch_32": 1.0, "ratio_jax_32": 1.0,
        "decisions_64": True, "decisions_32": True, "kl": 0.01,
    }  # fmt: skip
    return Certificate(
        mode="quick",
        passed=True,
        seconds=1.0,
        facts=process_setup.describe(),
        devices={"cpu": "passed", "cuda": "not run", TF32: "not run"},
        rows=[{**row._asdict(), "device": "cpu"} for row in rows],
        ties={"cpu": [0, 28]},
        checks=[{"group": "truth", "name": "<b>", "ok": False, "message": "a < b"}],
        shadow={
            "Pendulum-v1": {
                "updates": [update, update],
                "worst": {"A": rows[0]._asdict(), "B": rows[-1]._asdict()},
                "ties": [0, 40],
                "passed": True,
            }
        },
        closed_loop="not run",
        recorded_faults={
            "planted": 98765,
            "caught": 98764,
            "commits": ["abc", "def"],
            "processors": ["PDP-11"],
        },
    )


def test_what_was_recorded_is_not_said_to_be_of_this_run(example):
    recorded = "recorded at commit abc, def on PDP-11: 98764 of 98765 caught"
    for text in (
        certificate_text.summary(example),
        certificate_text.markdown(example),
        certificate_page.html(example),
    ):
        assert text.count("98765") == text.count("98764") == 1
        assert f"planted faults: none in this run; {recorded}" in text
    document = json.loads(kit_text.document(example._asdict()))
    assert document["recorded_faults"] == example.recorded_faults
    assert not {"mutation", "planted", "caught"} & set(document)


def test_verdicts_say_where_they_were_recorded():
    recorded = mutation.recorded()
    assert recorded["planted"] == len(MUTANTS)
    assert all(re.fullmatch("[0-9a-f]{7,40}", commit) for commit in recorded["commits"])
    assert all(recorded["processors"])


def test_the_commit_is_the_checkouts_own(tmp_path, monkeypatch):
    """An installed package may lie in somebody else's repository."""
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?|v\S+", process_setup.commit())
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setattr(process_setup, "__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environment.py").touch()
    assert re.fullmatch(r"none, version \d\S*", process_setup.commit())


def test_changes_that_are_not_committed_are_said_and_not_published(
    example, monkeypatch, capsys
):
    for commit, said in (("abc1234", "abc1234."), ("abc1234-dirty", "abc1234 with")):
        facts = {**example.facts, "commit": commit}
        for write in (certificate_text.markdown, certificate_page.html):
            assert f"commit {said}" in write(example._replace(facts=facts))
    for commit in ("abc1234-dirty", "none, version 1.0"):
        monkeypatch.setattr(process_setup, "commit", lambda commit=commit: commit)
        with pytest.raises(SystemExit) as error:
            command.main(["--publish"])
        assert error.value.code == 2
        assert "`publish`: expected a checkout without" in capsys.readouterr().err
    monkeypatch.setattr(process_setup, "commit", lambda: "abc1234")
    assert certificate.folder_to_publish().name == "parity"


def test_the_page_fetches_nothing_and_escapes(example):
    page = certificate_page.html(example)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert "&lt;b&gt;" in page
    assert "cuda: not run" in page
    assert "cuda with TF32: not run" in page
    assert page.count("<table") == page.count("</table>") >= 6


def test_absent_devices_are_not_run_and_never_passed(example):
    text = certificate_text.markdown(example)
    assert "## cuda: not run" in text
    assert "cuda: passed" not in text


def test_json_is_json_whatever_the_numbers(example):
    rows = [{**row, "value": value} for row in example.rows[:1] for value in NUMBERS]
    document = kit_text.document(example._replace(rows=rows)._asdict())
    rows_read = json.loads(document, parse_constant=pytest.fail)["rows"]
    read = [
        dict(zip(rows_read["columns"], row, strict=True)) for row in rows_read["values"]
    ]
    assert [row["value"] for row in read] == ["inf", "nan", 1.235e-16]
    assert [row | {"value": 0} for row in read] == [row | {"value": 0} for row in rows]


def test_the_figure_is_drawn(example, tmp_path):
    path = tmp_path / "parity.png"
    certificate_figure.draw(example, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 20_000


@pytest.mark.parametrize(("devices", "mode"), [(["tpu"], "quick"), (["cpu"], "fast")])
def test_unknown_devices_and_modes_are_refused(devices, mode, tmp_path):
    with pytest.raises(ValueError, match="expected"):
        certificate.run(devices, mode, tmp_path)

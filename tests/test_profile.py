"""Profiles: every one of them, for every task, is a params file that passes its checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from labelrel.cli import app
from labelrel.errors import InputError, UnknownNameError
from labelrel.profile import compose, merge, profiles, write_profile
from labelrel.project import open_project
from labelrel.tasks import tasks

ROOT = Path(__file__).resolve().parents[1]
TASKS = [name for name in tasks if name != "table"]  # a table needs to be told its columns


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("profile", list(profiles()))
def test_every_profile_fits_every_task(profile, task, tmp_path):
    write_profile(profile, task, None, tmp_path / "params.yaml", force=False)
    config = open_project(tmp_path / "params.yaml").config
    assert config.prepare.task == task


def test_quick_for_world_facts_is_the_projects_own_params():
    assert compose("quick", "world_facts") == yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_the_paper_profile_has_the_papers_settings():
    document = compose("paper", "ethics_commonsense")
    for stage in ("supervise", "align"):
        section = document[stage]
        assert section["lora"] == {"rank": 16, "alpha": 32, "dropout": 0.05, "variant": "lora"}
        assert (section["learning_rate"], section["batch_size"], section["epochs"]) == (5e-5, 24, 3)
        assert section["top_layers"] is None
    assert (document["sample"]["variants"], document["score"]["temperature"]) == (2, 1.0)
    others = [compose("paper", task) for task in ("hellaswag", "mmlu", "gsm8k")]
    assert [(o["sample"]["variants"], o["score"]["temperature"]) for o in others] == [(5, 0.2)] * 3
    assert [o["prompt"]["vary"] for o in others] == ["order", "order", "paraphrase"]


def test_a_source_wins_over_the_profiles():
    assert compose("paper", "mmlu")["prepare"]["source"] == "hub"
    assert compose("paper", "mmlu", "here")["prepare"]["source"] == "here"


def test_merging_changes_what_is_named_and_nothing_else():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merge(base, {"a": {"c": [5]}}) == {"a": {"b": 1, "c": [5]}, "d": 3}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_unknown_names_come_with_a_near_match():
    with pytest.raises(UnknownNameError, match="unknown profile 'quik'; did you mean 'quick'"):
        compose("quik", "world_facts")
    with pytest.raises(UnknownNameError, match="unknown task 'helaswag'; did you mean 'hellaswag'"):
        compose("quick", "helaswag")


def test_a_params_file_is_not_replaced_unasked(tmp_path):
    out = tmp_path / "params.yaml"
    out.write_text("mine\n")
    with pytest.raises(InputError, match="is there already; --force replaces it"):
        write_profile("quick", "world_facts", None, out, force=False)
    assert out.read_text() == "mine\n"
    write_profile("quick", "world_facts", None, out, force=True)
    assert out.read_text().startswith("# Profile `quick` for task `world_facts`.")


def test_the_command_writes_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["profile", "quick", "--task", "mmlu", "--source", "data here", "--json"])
    assert run.exit_code == 0, run.stderr
    assert json.loads(run.stdout)["out"] == "params.yaml"
    assert yaml.safe_load(Path("params.yaml").read_text())["prepare"]["source"] == "data here"
    again = CliRunner().invoke(app, ["profile", "quick"])
    assert (again.exit_code, again.stdout) == (2, "")
    listed = CliRunner().invoke(app, ["profile"])
    assert [name in listed.stdout for name in profiles()] == [True, True, True]


def test_engines_are_listed_with_their_options():
    listed = json.loads(CliRunner().invoke(app, ["engines", "--json"]).stdout)["engines"]
    assert "transformers" in [row["name"] for row in listed]
    assert all(row["summary"] for row in listed)

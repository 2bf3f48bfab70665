"""dvc.yaml, params.yaml and the command line say the same, and a change reruns what it touches and no more."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from labelrel import pipeline
from labelrel.cli import app
from labelrel.config import SECTIONS
from labelrel.project import Project, open_project

ROOT = Path(__file__).resolve().parents[1]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def lookup(place: str) -> Any:
    value: Any = PARAMS
    for key in place.split("."):
        assert key in value, f"params.yaml has no {place}"
        value = value[key]
    return value


def variants(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of `item` for each member of a stage's matrix."""
    members: list[dict[str, Any]] = [{}]
    for name, source in stage.get("matrix", {}).items():
        values = lookup(source.removeprefix("${").removesuffix("}"))
        members = [{**member, name: value} for member in members for value in values]
    return members


def filled(text: str, item: dict[str, Any]) -> str:
    for name, value in item.items():
        text = text.replace("${item." + name + "}", str(value))
    assert "${" not in text, text
    return text


def expanded() -> dict[str, dict[str, Any]]:
    """Return every single stage as DVC sees it: name → cmd, deps, outs, params, all plain text."""
    stages = {}
    for name, stage in STAGES.items():
        for item in variants(stage):
            paths = {
                key: [filled(e if isinstance(e, str) else next(iter(e)), item) for e in stage.get(key, [])]
                for key in ("deps", "outs", "metrics", "params")
            }
            suffix = "@" + "-".join(str(v) for v in item.values()) if item else ""
            stages[name + suffix] = {
                "cmd": filled(stage["cmd"], item),
                "deps": paths["deps"],
                "outs": paths["outs"] + paths["metrics"],
                "params": paths["params"],
            }
    return stages


EXPANDED = expanded()
every_stage = pytest.mark.parametrize("name", list(EXPANDED))


def rerun_by(change: str) -> set[str]:
    """Return the stages that read a parameter, by DVC's rule: the key itself or one above or below it."""
    return {
        name
        for name, stage in EXPANDED.items()
        if any(f"{change}.".startswith(f"{p}.") or f"{p}.".startswith(f"{change}.") for p in stage["params"])
    }


def leaves(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [prefix]
    return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{prefix}.{key}" if prefix else key)]


def test_every_key_of_params_is_read_by_a_section():
    assert list(PARAMS) == list(SECTIONS)
    project = open_project(ROOT / "params.yaml")
    for name, content in PARAMS.items():
        assert set(content) <= set(project.config.model_dump()[name]), name


@pytest.mark.parametrize("place", [p for p in leaves(PARAMS) if not p.startswith("select.")])
def test_every_key_of_params_reruns_some_stage(place):
    if place == "align.seeds":
        assert STAGES["align"]["matrix"]["seed"] == "${align.seeds}"  # another seed is another stage
    else:
        assert rerun_by(place)


@every_stage
def test_params_of_a_stage_are_in_params_yaml(name):
    assert EXPANDED[name]["params"]
    for place in EXPANDED[name]["params"]:
        lookup(place)


@every_stage
def test_cmd_is_a_line_the_command_line_takes(name, monkeypatch, tmp_path):
    """The stage's line runs, with the work itself replaced by a note of what was asked for."""
    monkeypatch.chdir(ROOT)
    stage, asked = name.partition("@")[0], []

    def stub(project: Project, *args: Any, **options: Any) -> Any:
        asked.append((project.root, args))
        return [{}] if stage == "align" else {"rows": [], "confidence": 0.95, "answer": ""}

    monkeypatch.setattr(pipeline, {"align": "align_each"}.get(stage, stage), stub)
    monkeypatch.setattr("labelrel.report.show", lambda result: None)
    program, *arguments = shlex.split(EXPANDED[name]["cmd"])
    assert program == "labelrel"
    assert arguments[0] == stage
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    member = name.partition("@")[2]
    expected: tuple[Any, ...] = ()
    if stage == "select":
        expected = (member,)
    elif stage == "align":
        method, _, seed = member.rpartition("-")
        assert "--seed" in arguments  # without it, one stage would run every seed of the params
        expected = ([Path(f"data/training/{method}.parquet")], [int(seed)])
    assert asked == [(ROOT, expected)]


@pytest.mark.parametrize("name", list(STAGES))
def test_stage_needs_every_section_that_it_reads(name, monkeypatch, tmp_path):
    """A section that is left out would be filled with defaults, which DVC does not see."""
    monkeypatch.chdir(tmp_path)
    function = {"align": "align_each"}.get(name, name)
    monkeypatch.setattr(pipeline, function, lambda *args, **options: pytest.fail("ran without a section"))
    member = next(stage for stage in EXPANDED if stage.partition("@")[0] == name)
    for section in dict.fromkeys(place.partition(".")[0] for place in EXPANDED[member]["params"]):
        rest = {key: content for key, content in PARAMS.items() if key != section}
        Path("params.yaml").write_text(yaml.safe_dump(rest), encoding="utf-8")
        result = CliRunner().invoke(app, shlex.split(EXPANDED[member]["cmd"])[1:])
        assert result.exit_code == 2, (section, result.output)
        assert f"missing section '{section}'" in result.stderr


def test_code_that_a_stage_depends_on_is_there():
    code = {dep for stage in EXPANDED.values() for dep in stage["deps"] if not dep.startswith("data/")}
    assert code
    assert [dep for dep in sorted(code) if not (ROOT / dep).exists()] == []
    assert all(dep.startswith("labelrel/") for dep in code)


def test_every_stage_depends_on_code():
    assert [n for n, s in EXPANDED.items() if not any(d.startswith("labelrel/") for d in s["deps"])] == []


@every_stage
def test_data_that_a_stage_reads_is_made_by_another(name):
    made = {out for other, stage in EXPANDED.items() if other != name for out in stage["outs"]}
    for dep in EXPANDED[name]["deps"]:
        if dep.startswith("data/"):
            assert dep in made or any(out.startswith(f"{dep}/") for out in made), dep


def test_no_two_stages_write_the_same():
    outs = [out for stage in EXPANDED.values() for out in stage["outs"]]
    assert len(outs) == len(set(outs))
    assert [(a, b) for a in outs for b in outs if b.startswith(f"{a}/")] == []


def test_stages_write_where_the_project_says():
    project = open_project(ROOT / "params.yaml")
    places = {"prepare": project.items, "fetch": project.models, "sample": project.answers, "score": project.scores}
    for name, path in places.items():
        assert EXPANDED[name]["outs"] == [path.relative_to(ROOT).as_posix()]
    folders = {
        "supervise": project.supervisor,
        "select": project.training,
        "align": project.align,
        "report": project.report,
    }
    for name, folder in folders.items():
        for member in (m for m in EXPANDED if m.partition("@")[0] == name):
            assert all((ROOT / out).is_relative_to(folder) for out in EXPANDED[member]["outs"]), member


def test_the_matrix_covers_every_method_and_seed():
    methods, seeds = PARAMS["select"]["methods"], PARAMS["align"]["seeds"]
    assert [n for n in EXPANDED if n.startswith("select@")] == [f"select@{m}" for m in methods]
    assert [n for n in EXPANDED if n.startswith("align@")] == [f"align@{m}-{s}" for m in methods for s in seeds]


@pytest.mark.parametrize("method", PARAMS["select"]["methods"])
def test_a_parameter_of_a_method_touches_only_its_select_stage(method):
    assert method in PARAMS["select"], f"select@{method} depends on select.{method}, which params.yaml lacks"
    assert rerun_by(f"select.{method}") == {f"select@{method}"}


WORDED = {"supervise", "sample"} | {n for n in EXPANDED if n.startswith(("select@", "align@"))}


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("report.bootstrap", {"report"}),
        ("score.temperature", {"score"}),
        ("sample.temperature", {"sample"}),
        ("sample.variants", {"sample"}),
        ("sample.engine", {"fetch", "supervise", "sample"}),  # another engine may need no supervisor, and has its floor
        ("sample.options", {"supervise", "sample"}),
        ("sample.mode", {"supervise", "sample"}),
        ("prompt.vary", WORDED),
        ("prompt.templates", WORDED),
        ("prepare.options", {"prepare"}),
        ("prepare.paraphrases", {"prepare"}),
        ("prepare.sizes.w2s", {"prepare"}),
        ("supervise.epochs", {"supervise"}),
        ("supervise.model", {"fetch", "supervise", "sample"}),
        ("align.epochs", {n for n in EXPANDED if n.startswith("align@")}),
        ("align.model", {"fetch"} | {n for n in EXPANDED if n.startswith("align@")}),
        ("select.methods", {"report"}),
        ("align.seeds", set()),
        ("base.seed", set(EXPANDED) - {"fetch", "score"}),
        ("base.threads", {"supervise", "sample"} | {n for n in EXPANDED if n.startswith("align@")}),
    ],
)
def test_a_change_reruns_what_it_touches(change, stages):
    assert rerun_by(change) == stages


def test_the_miniature_profile_has_the_same_keys():
    small = yaml.safe_load((ROOT / "tests" / "smoke" / "params.yaml").read_text(encoding="utf-8"))
    open_project(ROOT / "tests" / "smoke" / "params.yaml")

    def keys(document: dict[str, Any]) -> set[str]:
        return {leaf for leaf in leaves(document) if not leaf.startswith("select.")}

    assert keys(small) == keys(PARAMS)
    assert sum(small["prepare"]["sizes"].values()) < 60
    assert (small["align"]["model"], small["supervise"]["model"]) == (
        PARAMS["align"]["model"],
        PARAMS["supervise"]["model"],
    )
    for method in small["select"]["methods"]:
        assert small["select"][method] == PARAMS["select"][method]

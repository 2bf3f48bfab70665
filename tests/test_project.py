"""What may be said about a project before any work: names, references, what reads what."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelrel.errors import ConfigError
from labelrel.plugin import Params
from labelrel.project import Project, open_project
from labelrel.supervise import EngineKind, engines
from labelrel.tasks import tasks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def document() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def opened(tmp_path):
    def write_and_open(document: dict[str, Any], **options: Any) -> Project:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        return open_project(tmp_path / "params.yaml", **options)

    return write_and_open


def test_the_repositorys_params_open():
    assert open_project(ROOT / "params.yaml").root == ROOT


def test_every_place_is_inside_the_project(opened, document, tmp_path):
    project = opened(document)
    places = {name: getattr(project, name) for name, value in vars(Project).items() if isinstance(value, property)}
    assert set(places.values()) - {project.data} == {p for p in places.values() if p.parent == project.data}
    assert project.data == tmp_path.resolve() / "data"
    assert len(set(places.values())) == len(places)


def test_the_report_reads_where_the_stages_write(opened, document):
    project = opened(document)
    sources = project.sources()
    assert {f.name: getattr(sources, f.name) for f in fields(sources)} == {
        f.name: getattr(project, "supervisor" if f.name == "supervise" else f.name) for f in fields(sources)
    }


def test_what_the_command_line_gives_wins(opened, document):
    project = opened(document, overrides={"base.seed": 7, "sample.variants": 2, "align.model": None})
    assert (project.config.base.seed, project.config.sample.variants) == (7, 2)
    assert project.config.align.model == document["align"]["model"]
    assert project.config.base.threads == document["base"]["threads"]


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        ({"sample.variants": 0}, r"^sample\.variants: .*greater than or equal to 1"),
        ({"prepare.task": "world_fact"}, "unknown task 'world_fact' in prepare.task; did you mean 'world_facts'"),
        ({"align.model": "smollm2"}, "align.model: unknown model 'smollm2'; did you mean 'smollm2-135m'"),
    ],
)
def test_what_the_command_line_gives_is_checked_too(opened, document, overrides, match):
    with pytest.raises(ConfigError, match=match) as caught:
        opened(document, overrides=overrides)
    assert "\n" not in str(caught.value)


def test_all_names_that_nobody_knows_are_told_at_once(opened, document, tmp_path):
    document["prepare"]["task"] = "word_facts"
    document["sample"]["engine"] = "transformer"
    document["supervise"]["model"] = "smollm2-135m@layer=3"
    document["align"]["model"] = str(tmp_path / "nowhere")
    document["score"]["methods"].append("entorpy")
    document["select"]["methods"].append("majorty")
    document["select"]["filter"]["quantil"] = 0.5
    with pytest.raises(ConfigError) as caught:
        opened(document)
    message = str(caught.value)
    for words in (
        "unknown task 'word_facts' in prepare.task; did you mean 'world_facts'",
        "unknown engine 'transformer' in sample.engine; did you mean 'transformers'",
        "supervise.model: unknown option '@layer=3'",
        "align.model: no such model folder",
        "unknown scoring method 'entorpy' in score.methods; did you mean 'entropy'",
        "unknown selection rule 'majorty' in params.yaml (select.methods); did you mean 'majority'",
        "unknown key select.filter.quantil; did you mean 'quantile'",
    ):
        assert words in message
    assert "\n" not in message


def test_options_that_engine_or_task_does_not_have_are_told_with_all_the_rest(opened, document, monkeypatch):
    class Mine(Params):
        base_url: str
        retries: int = 3

    kind = EngineKind(name="mine", function=lambda asking, params: None, params=Mine, tuned=False)
    monkeypatch.setitem(engines._entries, "mine", kind)
    document["sample"] |= {"engine": "mine", "options": {"retry": 1, "retries": "many"}}
    document["prepare"]["options"] = {"column": "x"}
    document["align"]["model"] = "smollm2"
    with pytest.raises(ConfigError) as caught:
        opened(document)
    message = str(caught.value)
    for words in (
        "unknown key sample.options.retry; did you mean 'retries'?",
        "sample.options.retries is wrong: input should be a valid integer, got 'many'",
        "sample.options.base_url is wrong: field required",
        "unknown key prepare.options.column; it has no parameters",
        "align.model: unknown model 'smollm2'",
    ):
        assert words in message
    assert "\n" not in message
    document["sample"]["options"] = {"base_url": "http://localhost"}
    document["prepare"]["options"] = {}
    document["align"]["model"] = "smollm2-135m"
    assert opened(document).config.sample.options == {"base_url": "http://localhost"}


def test_options_of_a_name_nobody_knows_are_not_judged(opened, document):
    document["sample"] |= {"engine": "openaii", "options": {"anything": 1}}
    with pytest.raises(ConfigError, match="unknown engine 'openaii'") as caught:
        opened(document)
    assert "sample.options" not in str(caught.value)


def test_order_needs_options_that_are_listed(opened, document):
    document["prompt"]["vary"] = "order"
    with pytest.raises(
        ConfigError,
        match=r"prompt\.vary is 'order', but task 'world_facts' has an order only where prompt\.options is 'listed'",
    ):
        opened(document)
    document["prompt"]["options"] = "listed"
    assert opened(document).config.prompt.vary == "order"


def test_order_of_answer_words_needs_no_list(opened, document, monkeypatch):
    binary = replace(tasks.get("world_facts"), name="binary", orders=lambda item: [])
    monkeypatch.setitem(tasks._entries, "binary", binary)
    document["prompt"]["vary"] = "order"
    document["prepare"]["task"] = "binary"
    assert opened(document).config.prompt.vary == "order"


def test_order_of_a_task_nobody_knows_is_told_once(opened, document):
    document["prompt"]["vary"] = "order"
    document["prepare"]["task"] = "word_facts"
    with pytest.raises(ConfigError, match="unknown task 'word_facts'") as caught:
        opened(document)
    assert "prompt.vary" not in str(caught.value)


def test_a_rule_that_reads_a_method_nobody_computes(opened, document):
    document["score"]["methods"].remove("crowdlab")
    document["select"]["cleanlab_filter"]["score"] = "agreement"
    with pytest.raises(ConfigError) as caught:
        opened(document)
    message = str(caught.value)
    assert "select.methods has 'cleanlab_weight', which reads 'crowdlab': add it to score.methods" in message
    assert "'cleanlab_filter', which reads 'agreement'" in message
    assert "'filter'" not in message


def test_parameters_of_a_rule_that_is_not_run_are_fine_but_checked(opened, document):
    document["select"]["methods"] = ["naive"]
    assert opened(document).config.select.methods == ["naive"]
    document["select"]["filter"] = {"quantile": 2}
    document["select"]["filtre"] = {}
    with pytest.raises(ConfigError) as caught:
        opened(document)
    assert "select.filter.quantile must lie in [0, 1], got 2" in str(caught.value)
    assert "unknown selection rule 'filtre'" in str(caught.value)


@pytest.mark.parametrize(("section", "key"), [("select", "methods"), ("align", "seeds"), ("score", "methods")])
def test_the_same_name_twice_is_a_mistake(opened, document, section, key):
    document[section][key] = [*document[section][key], document[section][key][0]]
    with pytest.raises(ConfigError, match=f"{section}.{key}"):
        opened(document)


def test_wrong_keys_and_wrong_names_are_told_together(opened, document):
    document["base"]["sed"] = 1
    document["sample"]["engine"] = "transformer"
    with pytest.raises(ConfigError) as caught:
        opened(document)
    assert "unknown engine 'transformer'" in str(caught.value)

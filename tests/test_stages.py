"""Training in stages on a real tiny model: who is asked again, what joins, and what it costs."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from labelrel import files, pipeline
from labelrel.align.objective import Objective
from labelrel.errors import InputError
from labelrel.models.load import LoadedModel
from labelrel.pipeline import stages
from labelrel.project import Project, open_project
from labelrel.schema import ANSWERS
from labelrel.tasks import tasks

ROOT = Path(__file__).resolve().parents[1]
WRONG = {"i00", "i01"}  # unanimous and wrong; what follows the colours is what a student may put right


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_task, tiny_items, make_model, tiny_tokenizer) -> Project:
    """Eight w2s items: two labelled wrong in one voice, four right in one voice, two of two minds."""
    monkeypatch.setitem(tasks._entries, "toy", tiny_task)
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["prepare"]["task"] = "toy"
    document["sample"] |= {"variants": 3, "splits": ["w2s"]}
    document["score"]["methods"] = ["share", "entropy", "reliability"]
    document["select"] = {
        "methods": ["filter", "two_stage", "rounds"],
        "filter": {"quantile": 0.5},
        "two_stage": {"rule": "filter", "then": {"relabel": "discarded"}},
        "rounds": {"rule": "majority", "then": {"relabel": "all", "times": 2}},
    }
    document["align"] |= {
        "model": "smollm2-135m",
        "epochs": 30,
        "batch_size": 4,
        "learning_rate": 0.01,
        "top_layers": 2,
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    project = open_project(tmp_path / "params.yaml")
    rows = []
    for number, (item, gold) in enumerate(tiny_items.filter(split="w2s").select("item_id", "gold_label").iter_rows()):
        label = str((int(gold) + 1) % 3) if item in WRONG else gold
        other = str((int(gold) + 2) % 3)
        votes = [label, other, label] if number >= 6 else [label] * 3
        rows += [(item, "weak", str(v), "p", vote, vote, 0.0, None) for v, vote in enumerate(votes)]
    files.write_table(project.items, tiny_items)
    files.write_table(project.answers, pl.DataFrame(rows, schema=ANSWERS, orient="row"))
    monkeypatch.setattr(
        importlib.import_module("labelrel.pipeline.align"),  # the package has a function of that name
        "load",
        lambda model, base, **options: LoadedModel(
            make_model(initializer_range=0.3), tiny_tokenizer, "tiny", "tiny-fingerprint"
        ),
    )
    pipeline.score(project, quiet=True)
    return project


def align(project: Project, method: str) -> dict[str, Any]:
    pipeline.select(project, method, quiet=True)
    pipeline.align(project, project.training / f"{method}.parquet", 0, track=False, quiet=True)
    return files.read_json(project.align / f"{method}-0" / "run.json")


def agreeable(project: Project) -> Project:
    """Return the project with a second stage that every discarded item joins."""
    document = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    document["select"]["two_stage"]["then"]["agreement"] = 0.3
    (project.root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return open_project(project.root / "params.yaml")


def test_the_rule_of_another_name_keeps_what_it_keeps(project):
    align(project, "filter")
    pipeline.select(project, "two_stage", quiet=True)
    kept = [files.read_table(project.training / f"{name}.parquet") for name in ("filter", "two_stage")]
    assert kept[0].equals(kept[1])
    assert kept[0].height == 6
    told = files.read_json(project.training / "two_stage.json")
    assert (told["rule"], told["loss"], told["then"]["relabel"]) == (
        "filter",
        {"name": "cross_entropy", "protocol": "default"},
        "discarded",
    )


def test_two_stages_ask_what_was_discarded_and_train_afresh(project):
    once, twice = align(project, "filter"), align(project, "two_stage")
    first, second = twice["stages"]
    assert (first["num_items"], first["asked"]) == (6, 2)
    assert second["num_items"] == twice["num_items"] == 6 + first["joined"]
    assert first["label_accuracy"] == pytest.approx(4 / 6)
    assert twice["num_examples_seen"] == 2 * once["num_examples_seen"]
    assert twice["seconds"] == pytest.approx(first["seconds"] + second["seconds"], abs=0.02)
    assert twice["params"]["loss.name"] == "cross_entropy"
    if first["joined"] == 0:  # what trains is the same, and so is the adapter
        adapters = [
            project.align / f"{name}-0" / "adapter/adapter_model.safetensors" for name in ("filter", "two_stage")
        ]
        assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_a_low_agreement_lets_all_discarded_items_join(project):
    told = align(agreeable(project), "two_stage")
    assert (told["stages"][0]["joined"], told["num_items"]) == (2, 8)


def test_rounds_make_the_student_the_supervisor(project):
    told = align(project, "rounds")
    assert [stage["num_items"] for stage in told["stages"]] == [8, 8, 8]
    assert [stage.get("asked") for stage in told["stages"]] == [8, 8, None]
    assert told["num_steps"] == 60
    # it learnt its labels by heart, the wrong ones too, and says them again
    assert told["stages"][0]["label_accuracy"] == 6 / 8
    assert told["stages"][1]["label_accuracy"] == pytest.approx(6 / 8, abs=0.26)


def test_nothing_is_left_behind_and_a_killed_second_stage_goes_on(project, monkeypatch):
    """Killed while the student is asked: the first stage is not trained again, and the result is the same."""
    project = agreeable(project)
    whole = align(project, "two_stage")
    adapter = project.align / "two_stage-0/adapter/adapter_model.safetensors"
    expected = adapter.read_bytes()
    assert not list((project.cache / "checkpoints").glob("*.safetensors"))
    assert not any(path.is_file() for path in (project.cache / "relabel").rglob("*"))
    adapter.unlink()

    relabel = stages.relabel

    def killed(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "relabel", killed)
    with pytest.raises(KeyboardInterrupt):
        align(project, "two_stage")
    assert len(list((project.cache / "checkpoints").glob("*.safetensors"))) == 1
    monkeypatch.setattr(stages, "relabel", relabel)
    steps = []
    backward = Objective.backward
    monkeypatch.setattr(
        Objective, "backward", lambda self, step, progress: steps.append(1) or backward(self, step, progress)
    )
    again = align(project, "two_stage")
    assert adapter.read_bytes() == expected
    assert len(steps) == whole["num_steps"] == again["num_steps"]  # those of the second stage alone


def test_methods_in_one_process_are_the_methods_in_one_each(project):
    """One model serves all: an adapter that stayed on it, or a changed weight, would show in the next method's."""
    alone = {}
    for method in ("two_stage", "filter"):
        align(project, method)
        folder = project.align / f"{method}-0"
        alone[method] = (folder / "adapter/adapter_model.safetensors").read_bytes()
        shutil.rmtree(folder)
    sources = [project.training / f"{method}.parquet" for method in alone]
    told = pipeline.align_each(project, sources, [0, 1], track=False, quiet=True)
    assert [(one["method"], one["seed"]) for one in told] == [(m, s) for m in alone for s in (0, 1)]
    for method, expected in alone.items():
        assert (project.align / f"{method}-0" / "adapter/adapter_model.safetensors").read_bytes() == expected
        assert (project.align / f"{method}-1" / "adapter/adapter_model.safetensors").read_bytes() != expected


def test_an_early_stop_needs_gold_labels_to_look_at(project):
    document = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    document["align"]["early_stop"] = {"every": 2, "patience": 1}
    (project.root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    items = files.read_table(project.items)
    dev = items.head(1).with_columns(
        item_id=pl.lit("dev"), split=pl.lit("gold_dev"), gold_label=pl.lit(None, pl.String)
    )
    files.write_table(project.items, pl.concat([items, dev]))
    with pytest.raises(InputError, match=r"early_stop looks at gold labels of split 'gold_dev', and it has none"):
        align(open_project(project.root / "params.yaml"), "filter")

"""The best adapter is in the registry, and answers as the model did that was evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from labelrel.tracking import GitState

TASK = "table"
QUESTIONS = [("Which is red?", ["rust", "sky", "moss"]), ("Which is green?", ["ruby", "lime"]), ("Which?", ["a", "b"])]


@pytest.fixture
def trained(
    tmp_path: Path,
    project: Path,
    run_folder: Callable[..., Path],
    tiny_model: Any,
    tiny_tokenizer: Any,
) -> tuple[Path, Any]:
    """A run's folder with a real adapter on a tiny model that lies in the project, and that model."""
    import torch

    from labelrel.align.lora import adapter_parameters, add_adapter, save_adapter
    from labelrel.config import Lora

    base = project / "models" / "tiny"
    if not base.exists():
        tiny_model.save_pretrained(base)
        tiny_tokenizer.save_pretrained(base)
        items = pl.DataFrame(
            {
                "item_id": ["t", "a", "b", "c"],
                "task": TASK,
                "split": ["w2s", "test", "test", "test"],
                "question": ["not this", *(q for q, _ in QUESTIONS)],
                "choices": [["x", "y"], *(c for _, c in QUESTIONS)],
                "gold_label": "0",
                "meta": [{"kind": "choice"}] * 4,
            }
        )
        (project / "data").mkdir(exist_ok=True)
        items.write_parquet(project / "data" / "items.parquet")
    folder = run_folder(
        "filter",
        [True, True],
        task=TASK,
        model="models/tiny",
        params={"prompt.options": "listed", "prompt.answer": "letter", "prompt.vary": "wording", "base.seed": 7}
        | {"prompt.templates": None, "align.top_layers": None},
    )
    model = add_adapter(tiny_model, Lora(), top_layers=None, seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in adapter_parameters(model):
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
    save_adapter(model, folder / "adapter", base="models/tiny")
    return folder, model


def expected(model: Any, tokenizer: Any) -> list[str]:
    """The options that the model itself finds most probable."""
    from labelrel.align.evaluate import item_prompts, predict
    from labelrel.config import Prompt
    from labelrel.models.decoder import Decoder
    from labelrel.tasks import Prompting, tasks

    prompting = Prompting(tasks.get(TASK), Prompt(options="listed", answer="letter"), 7)
    rows = [{"item_id": q, "split": "test", "question": q, "choices": c, "gold_label": None} for q, c in QUESTIONS]
    items = pl.DataFrame(rows, schema_overrides={"gold_label": pl.String})
    answers = predict(Decoder(model.eval()), prompting.task, items, item_prompts(prompting, tokenizer, items))["answer"]
    return [choices[int(answer)] for (_, choices), answer in zip(QUESTIONS, answers, strict=True)]


def test_best_adapter_answers_questions(
    tracker: Any, client: Any, trained: tuple[Path, Any], tiny_tokenizer: Any, row: Callable[..., dict[str, Any]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder, model = trained
    rows = [row("filter", 1.0), row("random", 1.0, role="control")]
    tracker.finish_comparison(TASK, "b1", rows=rows, folders={"filter": [folder]}, answer="")
    version = client.get_model_version_by_alias(TASK, "best")
    assert version.run_id == tracker.store.search(TASK, labelrel__method="filter")[0].info.run_id

    monkeypatch.chdir(tmp_path)  # whoever loads it stands elsewhere than in the project
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.store.uri)
    import mlflow

    loaded = mlflow.pyfunc.load_model(f"models:/{TASK}@best")
    asked = [{"question": question, "choices": choices} for question, choices in QUESTIONS]
    answers = loaded.predict(asked)  # as in the docs
    assert list(answers["answer"]) == expected(model, tiny_tokenizer)
    assert set(answers["label"]) <= {"0", "1", "2"}
    assert (answers["logprob"] < 0).all()
    assert loaded.predict([asked[2]])["answer"].tolist() == [answers["answer"][2]]
    assert [column.name for column in loaded.metadata.signature.inputs] == ["question", "choices"]
    assert loaded.input_example == [asked[0]]
    kept = {file.name for file in Path(client.download_artifacts(version.run_id, "model", str(tmp_path))).rglob("*")}
    assert {"served.py", "adapter_model.safetensors", "MLmodel", "input_example.json"} <= kept
    assert not {name for name in kept if name.endswith((".pkl", ".pickle"))}
    with pytest.raises(Exception, match="question"):
        loaded.predict([{"choices": ["a", "b"]}])


def test_same_adapter_is_registered_once(
    tracker: Any, client: Any, trained: tuple[Path, Any], row: Callable[..., dict[str, Any]]
) -> None:
    folder, _ = trained
    report = {"rows": [row("filter", 1.0)], "folders": {"filter": [folder]}, "answer": ""}
    tracker.finish_comparison(TASK, "b2", **report)
    first = client.get_model_version_by_alias(TASK, "best").version
    tracker.finish_comparison(TASK, "b2", **report)
    assert client.get_model_version_by_alias(TASK, "best").version == first

    parent = tracker.comparison_run(TASK, "b2")
    given: dict[str, Any] = {"role": "method", "seed": 42, "params": {}, "inputs": {}, "dvc_md5s": {}}
    with tracker.start_child(parent, method="filter", task=TASK, git=GitState(None, None), **given) as run:
        pass
    record = json.loads((folder / "run.json").read_text()) | {"mlflow_run_id": run.run_id}
    (folder / "run.json").write_text(json.dumps(record))
    tracker.finish_comparison(TASK, "b2", **report)
    again = client.get_model_version_by_alias(TASK, "best")
    assert (int(again.version), again.run_id) == (int(first) + 1, run.run_id)


def test_questions_that_are_none(tiny_model: Any, tiny_tokenizer: Any, tiny_prompting: Any) -> None:
    from labelrel.answering import Answering
    from labelrel.errors import InputError

    answering = Answering(tiny_model, tiny_tokenizer, tiny_prompting, {"subject": "fig"})
    with pytest.raises(InputError, match="question 1 is empty"):
        answering.answer([{"question": "What?"}, {"question": " "}])
    with pytest.raises(InputError, match="question 0 has 1 choices"):
        answering.answer([{"question": "What?", "choices": ["only"]}])


def test_open_and_closed_questions_come_back_in_order(
    tiny_model: Any, tiny_tokenizer: Any, tiny_prompting: Any
) -> None:
    from labelrel.answering import Answering

    answering = Answering(tiny_model, tiny_tokenizer, tiny_prompting, {"subject": "fig"})
    closed = {"question": "Colour?", "choices": ["red", "green"]}
    table = answering.answer([{"question": "What?", "choices": None}, closed, {"question": "What?"}])
    assert table["answer"][1] in ("red", "green")
    assert table["answer"][0] == table["answer"][2] or table["answer"].isna()[0]

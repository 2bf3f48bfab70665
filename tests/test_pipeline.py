"""Stages on a project made by hand, without any model: what they write, what they share, what they refuse."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import yaml

from labelrel import files, pipeline
from labelrel.align.evaluate import PREDICTIONS
from labelrel.errors import ConfigError, InputError, UnknownNameError
from labelrel.plugin import Params
from labelrel.project import Project, open_project
from labelrel.schema import ANSWERS, ITEMS, OPTIONS, TRAINING
from labelrel.scoring import Inputs
from labelrel.supervise.engines import Asking, EngineKind, Reply, engine, engines
from labelrel.supervise.variants import Query
from labelrel.tasks import Task, Wording, tasks
from labelrel.tasks.reading import read_choice
from labelrel.training_set import describe

ROOT = Path(__file__).resolve().parents[1]

TOY = Task(
    name="toy_sums",
    kind="choice",
    summary="even or odd",
    source="made up",
    load=lambda source, sizes, seed: made_items(),
    wordings=lambda item: [
        Wording(prompt, tuple(f" {choice}" for choice in item["choices"]))
        for prompt in (f"{item['item_id']}?", f"Say: {item['item_id']}", f"{item['item_id']} is")
    ],
    parse=lambda item, completion: read_choice(item["choices"], completion),
)

SPLITS = {"weak_train": ["k1", "k2"], "w2s": ["a", "b", "c", "d"], "gold_dev": ["g"], "test": ["t1", "t2"]}
# gold is 0 everywhere; the first answer is the one that "naive" takes
VOTES = {"a": "000", "b": "100", "c": "111", "d": "001", "g": "000"}


def made_items() -> pl.DataFrame:
    rows = [(i, TOY.name, split, f"Is {i} even?", ["even", "odd"], "0") for split, ids in SPLITS.items() for i in ids]
    return pl.DataFrame(rows, schema=ITEMS, orient="row")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    """A project after `sample`: items and answers, nothing scored."""
    monkeypatch.setitem(tasks._entries, TOY.name, TOY)
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["prepare"]["task"] = TOY.name
    document["score"]["methods"] = ["share", "entropy", "reliability"]
    document["select"]["methods"] = ["naive", "majority", "filter", "oracle", "ceiling"]
    document["supervise"]["variants"] = document["sample"]["variants"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    project = open_project(tmp_path / "params.yaml")
    files.write_table(project.items, made_items())
    write_answers(project, VOTES)
    return project


def test_methods_that_learn_from_gold_see_that_of_gold_dev_alone(project, monkeypatch):
    seen = []
    monkeypatch.setattr("labelrel.scoring.Inputs", lambda **given: seen.append(given["gold"]) or Inputs(**given))
    pipeline.score(project, quiet=True)
    assert [gold.rows() for gold in seen] == [[("g", "0")]]


def test_methods_named_on_the_command_line_need_no_rule_that_reads_them(project):
    assert pipeline.score(project, methods=["margin"], quiet=True)["methods"] == ["margin"]
    assert pl.read_parquet(project.scores)["method"].unique().to_list() == ["margin"]


def test_settings_of_a_method_come_from_its_section(project):
    def settings(text: str) -> Project:
        document = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
        document["score"] |= yaml.safe_load(text)
        (project.root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        return open_project(project.root / "params.yaml")

    with pytest.raises(ConfigError, match=r"score\.mace\.restarts is wrong: .* got 0"):
        settings("{mace: {restarts: 0}}")
    with pytest.raises(ConfigError, match="unknown scoring method 'mice' in score; did you mean 'mace'"):
        settings("{mace: {}, mice: {}}")


def write_answers(project: Project, votes: dict[str, str]) -> None:
    rows = [
        {"item_id": item, "annotator_id": "weak", "variant_id": str(n), "answer": answer}
        for item, cast in votes.items()
        for n, answer in enumerate(cast)
    ]
    files.write_table(
        project.answers, pl.DataFrame([{**dict.fromkeys(ANSWERS), **row} for row in rows], schema=ANSWERS)
    )


def with_settings(project: Project, section: str, **values: Any) -> Project:
    changed = getattr(project.config, section).model_copy(update=values)
    return Project(project.root, project.config.model_copy(update={section: changed}))


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --- score and select ----------------------------------------------------------------------------


def test_score_writes_the_methods_of_the_params(project):
    summary = pipeline.score(project, quiet=True)
    scores = files.read_table(project.scores)
    assert (
        scores["method"].unique(maintain_order=True).to_list()
        == summary["methods"]
        == ["share", "entropy", "reliability"]
    )
    assert scores.filter(method="share", item_id="b", answer="0")["share"].item() == pytest.approx(2 / 3)
    assert scores.height == summary["rows"] == 3 * 7  # items b and d have two answers, the others one
    assert pl.read_parquet_metadata(project.scores)["labelrel.label_probs"] == summary["label_probs"]


def test_settings_of_score_arrive(project):
    pipeline.score(project, quiet=True)
    cold = files.read_table(project.scores)
    pipeline.score(with_settings(project, "score", temperature=1.0), quiet=True)
    warm = files.read_table(project.scores)
    row = pl.col("item_id").eq("b") & pl.col("method").eq("reliability") & pl.col("weak_label")
    # softmax of (2/3, 1/3) / T is the logistic function of (1/3) / T
    assert cold.filter(row)["reliability"].item() == pytest.approx(1 / (1 + 2.718281828 ** (-1 / 3 / 0.2)))
    assert warm.filter(row)["reliability"].item() == pytest.approx(1 / (1 + 2.718281828 ** (-1 / 3)))


@pytest.mark.parametrize(
    ("rule", "ids", "answers", "kept", "right"),
    [
        ("naive", "abcd", "0110", 1.0, 0.5),
        ("majority", "abcd", "0010", 1.0, 0.75),
        ("filter", "ac", "01", 0.5, 0.5),  # the two unanimous ones, one of them wrong
        ("oracle", "abd", "000", 0.75, 1.0),
        ("ceiling", "abcd", "0000", 1.0, 1.0),
    ],
)
def test_select_writes_the_words_to_learn_and_what_it_kept(project, rule, ids, answers, kept, right):
    pipeline.score(project, quiet=True)
    summary = pipeline.select(project, rule, quiet=True)
    training = files.read_table(project.training / f"{rule}.parquet")
    assert training.schema == pl.Schema({**TRAINING, **OPTIONS})
    assert "".join(training["item_id"]) == ids
    assert "".join(training["answer"]) == answers
    assert training["prompt"].to_list() == [f"{i}?" for i in ids]
    assert training["target"].to_list() == [" even" if a == "0" else " odd" for a in answers]
    assert (summary["kept_fraction"], summary["label_accuracy"]) == (kept, right)
    beside = files.read_json(project.training / f"{rule}.json")
    assert {**beside, "out": summary["out"]} == summary
    assert beside["role"] == {"oracle": "control", "ceiling": "ceiling"}.get(rule, "method")
    assert (beside["num_items"], beside["num_rows"]) == (len(ids), len(ids))
    assert pl.read_parquet_metadata(project.training / f"{rule}.parquet")["labelrel.role"] == beside["role"]


def test_select_words_a_label_as_it_was_asked(project):
    """The paper's rules train on every variant, each in the wording that got the answer."""
    pipeline.score(project, quiet=True)
    paper = project.config.select.model_copy(update={"filter": {"protocol": "paper", "quantile": 0.5}})
    config = project.config.model_copy(update={"select": paper})
    pipeline.select(Project(project.root, config), "filter", quiet=True)
    training = files.read_table(project.training / "filter.parquet")
    assert training.filter(item_id="a")["prompt"].to_list() == ["a?", "Say: a", "a is"]
    assert files.read_json(project.training / "filter.json")["params"]["protocol"] == "paper"


def test_a_rule_that_keeps_nothing_writes_nothing(project):
    write_answers(project, dict.fromkeys(VOTES, "111"))
    pipeline.score(project, quiet=True)
    with pytest.raises(InputError, match="the training set of rule 'oracle' has no rows: the selection kept nothing"):
        pipeline.select(project, "oracle", quiet=True)
    assert not project.training.exists()


def test_select_does_not_know_a_rule(project):
    with pytest.raises(UnknownNameError, match="unknown selection rule 'filtr' in --rule; did you mean 'filter'"):
        pipeline.select(project, "filtr", quiet=True)


@pytest.mark.parametrize(
    ("missing", "call", "stage"),
    [
        ("items", lambda p: pipeline.score(p, quiet=True), "prepare"),
        ("answers", lambda p: pipeline.score(p, quiet=True), "sample"),
        ("items", lambda p: pipeline.select(p, "naive", quiet=True), "prepare"),
        ("answers", lambda p: pipeline.select(p, "naive", quiet=True), "sample"),
        ("scores", lambda p: pipeline.select(p, "naive", quiet=True), "score"),
        ("items", lambda p: pipeline.supervise(p, quiet=True), "prepare"),
        ("items", lambda p: pipeline.sample(p, quiet=True), "prepare"),
        ("items", lambda p: pipeline.align(p, p.training / "naive.parquet", 0, track=False, quiet=True), "prepare"),
        (
            "training",
            lambda p: pipeline.align(p, p.training / "filter.parquet", 0, track=False, quiet=True),
            "select --rule filter",
        ),
        ("scores", lambda p: pipeline.report(p, track=False, quiet=True), "score"),
    ],
)
def test_a_missing_file_names_the_stage_that_makes_it(project, missing, call, stage):
    if missing not in ("scores", "training"):
        getattr(project, missing).unlink()
    before = everything(project.root)
    with pytest.raises(InputError, match=rf"no such file: .*; .*`labelrel {stage}`"):
        call(project)
    assert everything(project.root) == before


# --- what makes two runs comparable --------------------------------------------------------------


def test_comparison_stays_where_only_the_selection_differs(project):
    expected = pipeline.comparison_id(project)
    pipeline.score(project, quiet=True)
    pipeline.select(project, "filter", quiet=True)
    for other in (
        with_settings(project, "select", filter={"quantile": 0.1}),
        with_settings(project, "select", methods=["naive"]),
        with_settings(project, "score", temperature=1.0),
        with_settings(project, "report", bootstrap=100),
        with_settings(project, "align", seeds=[1, 2]),
    ):
        assert pipeline.comparison_id(other) == expected


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("prompt", {"vary": "paraphrase"}),
        ("prompt", {"options": "listed"}),
        ("prompt", {"templates": ["{question} so"]}),
        ("align", {"epochs": 1.0}),
        ("align", {"batch_size": 2}),
        ("align", {"learning_rate": 1e-3}),
        ("align", {"top_layers": None}),
        ("align", {"model": "smollm2-135m@layers=12"}),
        ("base", {"seed": 43}),
        ("base", {"threads": 1}),
    ],
)
def test_comparison_changes_with_what_all_runs_share(project, section, values):
    assert pipeline.comparison_id(with_settings(project, section, **values)) != pipeline.comparison_id(project)


def test_comparison_changes_with_items_and_answers(project):
    seen = [pipeline.comparison_id(project)]
    write_answers(project, {**VOTES, "a": "001"})
    seen.append(pipeline.comparison_id(project))
    files.write_table(project.items, files.read_table(project.items).head(8))
    seen.append(pipeline.comparison_id(project))
    assert len(set(seen)) == 3


# --- align and supervise, with the training replaced by a note of what it was given ---------------


class Training:
    """Stands in for `labelrel.align.run.run` and `write_run`; keeps what they were called with."""

    def __init__(self, steps: int = 0) -> None:
        self.steps = steps
        self.given: dict[str, Any] = {}
        self.folder: Path | None = None
        self.record: dict[str, Any] = {}
        self.loaded: list[str] = []
        self.size = 135_000_000

    def run(self, *arguments: Any, **options: Any) -> Any:
        self.given = self.signature.bind(*arguments, **options).arguments
        for number in range(1, self.steps + 1):
            if "on_step" in options:
                options["on_step"](SimpleNamespace(step=number, loss=1.0 / number, learning_rate=1e-3))
        predictions = pl.DataFrame({"correct": [True, False, None]})
        return SimpleNamespace(predictions=predictions, seconds=1.5, looks=None, trained=SimpleNamespace(num_tokens=12))

    def write_run(self, folder: Path, outcome: Any, record: dict[str, Any], *, base: str) -> None:
        self.folder, self.record = folder, record
        assert base == self.loaded[-1]


@pytest.fixture
def training(monkeypatch) -> Training:
    from labelrel.align import run as module

    training = Training()
    training.signature = inspect.signature(module.run)  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "run", training.run)
    monkeypatch.setattr(module, "write_run", training.write_run)

    def load(model: str, base: Any, **options: Any) -> Any:
        training.loaded.append(model)
        return SimpleNamespace(num_parameters=training.size)

    for stage in ("supervise", "align"):
        monkeypatch.setattr(importlib.import_module(f"labelrel.pipeline.{stage}"), "load", load)
    return training


class Tracker:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"history": []}
        self.run_id = "run-1"

    def comparison_run(self, task: str, comparison: str) -> str:
        self.told |= {"task": task, "comparison": comparison}
        return "parent"

    def start_child(self, parent: Any, **options: Any) -> Any:
        self.told |= options
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def log_history(self, rows: list[dict[str, float]]) -> None:
        self.told["history"].append([row["step"] for row in rows])

    def log_metrics(self, metrics: dict[str, float | None]) -> None:
        self.told["metrics"] = metrics

    def log_dataset(self, *arguments: Any) -> None:
        self.told.setdefault("datasets", []).append(arguments[1:])

    log_table_sample = log_artifacts = log_looks = log_stages = lambda self, *arguments: None


def write_external(project: Project, name: str = "mine.parquet", **columns: Any) -> Path:
    path = project.root / name
    rows = pl.DataFrame(
        {"item_id": ["a", "a", "z"], "prompt": ["Q"] * 3, "target": [" x"] * 3, "weight": [1.0, 0.5, 0.0]}
    )
    files.write_any_table(path, rows.with_columns(**columns))
    return path


@pytest.mark.parametrize("name", ["mine.parquet", "mine.jsonl"])
def test_align_takes_a_training_set_from_elsewhere(project, training, name):
    source = write_external(project, name)
    summary = pipeline.align(project, source, 5, track=False, quiet=True)
    assert training.folder == project.align / "mine-5"
    assert (summary["method"], summary["seed"], summary["test_accuracy"]) == ("mine", 5, 0.5)
    record = training.record
    assert (record["method"], record["role"], record["seed"]) == ("mine", "method", 5)
    assert (record["num_rows"], record["num_items"], record["mlflow_run_id"]) == (3, 2, None)
    assert record["comparison"] == pipeline.comparison_id(project)
    assert record["inputs"]["training"] == {"path": name, "sha256": files.digest(source)}
    assert set(record["inputs"]) == {"items", "answers", "training"}  # nothing was scored
    assert training.given["training"]["weight"].to_list() == [1.0, 0.5, 0.0]


def test_what_is_known_of_a_training_set_from_elsewhere(project):
    source = write_external(project)
    assert describe(source, files.read_table(source)) == {
        "role": "method", "num_items": 2, "label_accuracy": None, "kept_fraction": None,
        "loss": {"name": "cross_entropy"}, "then": None,
    }  # fmt: skip


def test_align_gives_every_method_the_same_budget_pool_and_test_items(project, training):
    pipeline.score(project, quiet=True)
    seen = []
    for rule in ("majority", "filter"):
        pipeline.select(project, rule, quiet=True)
        pipeline.align(project, project.training / f"{rule}.parquet", 0, track=False, quiet=True)
        given = training.given
        assert given["pool"]["item_id"].to_list() == SPLITS["w2s"]
        assert given["test"]["item_id"].to_list() == SPLITS["test"]
        assert given["budget"].num_items == 4  # of the pool, however few the rule keeps
        seen.append((given["budget"], given["lora"], given["top_layers"], given["seed"], given["cache"]))
        assert training.record["role"] == "method"
    assert seen[0] == seen[1]
    assert training.loaded == ["smollm2-135m"] * 2


def test_align_tells_the_tracker_everything(project, training, monkeypatch):
    tracker = Tracker()
    monkeypatch.setattr("labelrel.tracking.open_tracker", lambda root, track: tracker)
    training.steps = 45
    pipeline.score(project, quiet=True)
    pipeline.select(project, "oracle", quiet=True)
    pipeline.align(project, project.training / "oracle.parquet", 3, quiet=True)
    told = tracker.told
    assert (told["task"], told["comparison"]) == (TOY.name, pipeline.comparison_id(project))
    assert (told["method"], told["role"], told["seed"]) == ("oracle", "control", 3)
    assert [step for block in told["history"] for step in block] == list(range(1, 46))
    assert len(told["history"]) == 3
    assert told["metrics"] == {
        "test/accuracy": 0.5,
        "test/accuracy_lo": 0.0,
        "test/accuracy_hi": 1.0,
        "labels/accuracy": 1.0,
        "labels/kept_fraction": 0.75,
        "cost/seconds": 1.5,
        "cost/tokens": 12,
    }
    assert [entry[0] for entry in told["datasets"]] == ["training", "test items"]
    assert told["params"]["align.lora.rank"] == project.config.align.lora.rank
    assert (told["params"]["rule"], told["params"]["loss.name"]) == ("oracle", "cross_entropy")
    assert set(told["inputs"]) == set(told["dvc_md5s"]) == {"items", "answers", "scores", "training"}
    assert training.record["mlflow_run_id"] == "run-1"


def test_a_strong_model_smaller_than_the_weak_one_is_told(project, training, capsys):
    files.write_json(project.supervisor / "run.json", {"num_parameters": 135_000_000})
    source = write_external(project)
    pipeline.align(project, source, 0, track=False)
    assert "warning" not in capsys.readouterr().err
    training.size = 134_000_000
    pipeline.align(project, source, 0, track=False)
    assert (
        "the strong model has 134 million weights, fewer than the supervisor's 135 million" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"weight": pl.lit(-1.0)}, r"mine\.parquet: weight -1.0 of item a is not a finite number of at least 0"),
        ({"weight": pl.lit(0.0)}, "every weight is 0"),
        ({"target": pl.lit(" ")}, "3 rows have no target"),
    ],
)
def test_align_refuses_what_cannot_be_learnt(project, training, columns, match):
    source = write_external(project, **columns)
    with pytest.raises(InputError, match=match):
        pipeline.align(project, source, 0, track=False, quiet=True)
    assert training.loaded == []


def test_align_takes_a_csv(project, training):
    pipeline.align(project, write_external(project, "mine.csv"), 0, track=False, quiet=True)
    assert training.given["training"]["weight"].to_list() == [1.0, 0.5, 0.0]


def test_align_with_some_other_json_beside(project, training):
    source = write_external(project)
    files.write_json(source.with_suffix(".json"), {"note": "mine"})
    pipeline.align(project, source, 0, track=False, quiet=True)


def test_supervise_teaches_gold_in_every_wording_asked_for(project, training):
    summary = pipeline.supervise(project, quiet=True)
    given = training.given
    assert given["training"]["item_id"].to_list() == ["k1"] * 3 + ["k2"] * 3
    assert given["training"]["prompt"].to_list()[:3] == ["k1?", "Say: k1", "k1 is"]
    assert given["training"]["target"].unique().to_list() == [" even"]
    assert given["test"]["item_id"].to_list() == SPLITS["test"]
    assert given["budget"].num_items == 2
    assert training.folder == project.supervisor
    assert (training.record["method"], training.record["role"], training.record["comparison"]) == (
        "floor",
        "floor",
        None,
    )
    assert training.loaded == [project.config.supervise.model] == [summary["model"]]
    assert summary["test_accuracy"] == 0.5


def test_supervise_needs_gold_labels(project, training):
    unknown = pl.when(pl.col("split") != "weak_train").then("gold_label").alias("gold_label")
    files.write_table(project.items, files.read_table(project.items).with_columns(unknown))
    with pytest.raises(InputError, match="no item of split 'weak_train' has a gold label"):
        pipeline.supervise(project, quiet=True)
    assert training.loaded == []


def stage_module(name: str) -> Any:
    """Return the file of some stages; the package has functions of the same names."""
    return importlib.import_module(f"labelrel.pipeline.{name}")


def test_sample_needs_a_tuned_supervisor(project, monkeypatch):
    loaded = []
    monkeypatch.setattr(stage_module("supervise"), "load", lambda model, base: loaded.append(model))
    project.answers.unlink()
    with pytest.raises(InputError, match="holds no adapter"):
        pipeline.sample(project, quiet=True)
    assert not project.answers.exists()
    assert loaded == []


def test_supervise_teaches_open_items_what_the_task_says(project, training, monkeypatch):
    """A wording without options, and the task's own text for a label."""
    open_task = replace(
        TOY,
        wordings=lambda item: [Wording(w.prompt) for w in TOY.wordings({**item, "choices": []})],
        target=lambda item, answer: f" = {answer}",
    )
    monkeypatch.setitem(tasks._entries, TOY.name, open_task)
    items = made_items().with_columns(choices=pl.lit(None, pl.List(pl.String)))
    files.write_table(project.items, items)
    pipeline.supervise(project, quiet=True)
    assert training.given["training"]["target"].unique().to_list() == [" = 0"]
    assert training.given["prompting"].task is open_task


def test_supervise_teaches_letters_where_they_are_asked_for(project, training):
    listed = with_settings(project, "prompt", options="listed", answer="letter", vary="order")
    pipeline.supervise(with_settings(listed, "supervise", variants=2), quiet=True)
    taught = training.given["training"].filter(item_id="k1")
    # gold is "even": A in its own order, B when the order is turned
    assert taught["target"].to_list() == [" A", " B"]
    assert ["A. even" in prompt for prompt in taught["prompt"]] == [True, False]
    assert ["B. even" in prompt for prompt in taught["prompt"]] == [False, True]
    assert training.given["prompting"].settings == listed.config.prompt


# --- engines that are asked as they are ----------------------------------------------------------


class Asked(Params):
    """Settings of the engine below."""

    mood: str = "dull"


class Oracle:
    """Says what `said` makes of a query's prompt; notes how it was opened and what it was asked."""

    name = "oracle"
    block = 4

    def __init__(self) -> None:
        self.opened: list[tuple[Asking, Asked]] = []
        self.queries: list[Query] = []
        self.fail_at: int | None = None
        self.said = lambda query: " odd" if query.variant_id == "1" else " even"

    @property
    def key(self) -> object:
        asking, params = self.opened[-1]
        return [asking.mode, asking.temperature, params.mood]

    def ask(self, queries):
        if self.fail_at is not None and len(self.queries) >= self.fail_at:
            raise ConnectionError("gone")
        self.queries += queries
        texts = [self.said(query) for query in queries]
        return [Reply(text, query.read(text).answer, None, None) for query, text in zip(queries, texts, strict=True)]


@pytest.fixture
def oracle(project, monkeypatch) -> Oracle:
    """An engine that needs no tuned supervisor, as the project's."""
    oracle = Oracle()
    monkeypatch.setattr(engines, "_entries", dict(engines._entries))

    @engine("oracle", Asked, tuned=False)
    def open_oracle(asking, params):
        """Know everything."""
        oracle.opened.append((asking, params))
        return oracle

    return oracle


@pytest.fixture
def asked(project, oracle) -> Project:
    return with_settings(project, "sample", engine="oracle", options={"mood": "bright"}, mode="generate")


@pytest.fixture
def nothing_loads(monkeypatch):
    def load(model, base):
        raise AssertionError("no local model is needed")

    for stage in ("supervise", "align"):
        monkeypatch.setattr(stage_module(stage), "load", load)


@pytest.mark.usefixtures("nothing_loads")
def test_floor_of_an_engine_that_is_not_tuned_is_its_answers_to_the_test_items(asked, oracle):
    oracle.said = lambda query: " odd" if query.item["item_id"] == "t2" else " even"
    summary = pipeline.supervise(asked, quiet=True)
    assert [(q.item["item_id"], q.variant_id, q.prompt) for q in oracle.queries] == [
        ("t1", "0", "t1?"),
        ("t2", "0", "t2?"),
    ]
    assert everything(asked.supervisor) == {"predictions.parquet", "run.json"}
    predictions = files.read_table(asked.supervisor / "predictions.parquet")
    assert predictions.schema == PREDICTIONS
    assert predictions.select("item_id", "answer", "gold_label", "correct").rows() == [
        ("t1", "0", "0", True),
        ("t2", "1", "0", False),
    ]
    assert summary["test_accuracy"] == 0.5
    assert summary["model"] == "oracle"


@pytest.mark.usefixtures("nothing_loads")
def test_floor_that_cannot_be_read_is_wrong(asked, oracle):
    oracle.said = lambda query: "" if query.item["item_id"] == "t1" else " even"
    pipeline.supervise(asked, quiet=True)
    predictions = files.read_table(asked.supervisor / "predictions.parquet")
    assert predictions.select("answer", "correct").rows() == [(None, False), ("0", True)]


@pytest.mark.usefixtures("nothing_loads")
def test_floor_is_recorded_as_the_tuned_one_is(asked, oracle, project, monkeypatch):
    pipeline.supervise(asked, quiet=True)
    record = files.read_json(asked.supervisor / "run.json")
    assert (record["method"], record["role"], record["task"], record["model"]) == ("floor", "floor", TOY.name, "oracle")
    assert (record["num_rows"], record["num_items"], record["tokens"], record["comparison"]) == (0, 0, None, None)
    assert record["seconds"] >= 0
    assert record["inputs"]["items"] == {"path": "data/items.parquet", "sha256": files.digest(asked.items)}
    assert record["params"]["prompt.vary"] == "wording"
    tuned = Training()
    module = importlib.import_module("labelrel.align.run")
    tuned.signature = inspect.signature(module.run)  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "run", tuned.run)
    monkeypatch.setattr(module, "write_run", tuned.write_run)
    monkeypatch.setattr(
        stage_module("supervise"),
        "load",
        lambda model, base: tuned.loaded.append(model) or SimpleNamespace(num_parameters=1),
    )
    pipeline.supervise(project, quiet=True)
    assert set(tuned.record) == set(record) - {"seconds", "tokens"}  # which `write_run` adds


@pytest.mark.usefixtures("nothing_loads")
def test_floor_takes_the_best_answer_and_the_engines_settings(asked, oracle):
    pipeline.supervise(asked, quiet=True)
    ((asking, params),) = oracle.opened
    assert (asking.temperature, asking.mode, asking.seed) == (0, "generate", asked.config.base.seed)
    assert (asking.max_new_tokens, asking.model) == (
        asked.config.sample.max_new_tokens,
        asked.config.supervise.model,
    )
    assert params == Asked(mood="bright")
    assert not (asked.cache / "floor").exists()  # the blocks are gone when the table is safe


@pytest.mark.usefixtures("nothing_loads")
def test_interrupted_floor_leaves_nothing_half_done_and_goes_on(asked, oracle, monkeypatch):
    oracle.block, oracle.fail_at = 1, 1
    with pytest.raises(ConnectionError):
        pipeline.supervise(asked, quiet=True)
    assert not asked.supervisor.exists()
    oracle.fail_at = None
    pipeline.supervise(asked, quiet=True)
    assert [query.item["item_id"] for query in oracle.queries] == ["t1", "t2"]


@pytest.mark.usefixtures("nothing_loads")
def test_sample_asks_an_engine_that_is_not_tuned_without_any_adapter(asked, oracle, capsys):
    asked.answers.unlink()
    summary = pipeline.sample(asked, quiet=False)
    ((asking, params),) = oracle.opened
    assert (asking.temperature, asking.mode, params.mood) == (asked.config.sample.temperature, "generate", "bright")
    assert asking.cache == asked.cache / "oracle"
    answers = files.read_table(asked.answers)
    assert answers.schema == ANSWERS
    assert answers["item_id"].to_list() == [i for i in "abcdg" for _ in range(3)]
    assert answers["annotator_id"].unique().to_list() == ["oracle"]
    assert answers["answer"].to_list() == ["0", "1", "0"] * 5
    assert (summary["items"], summary["answers"], summary["unread"]) == (5, 15, {})
    assert "could not be read" not in capsys.readouterr().err
    assert not (asked.cache / "sample").exists()


def test_answers_that_cannot_be_read_are_told_by_cause(asked, oracle, capsys):
    said = {"0": " even", "1": "", "2": "I am sorry"}
    oracle.said = lambda query: "who knows" if query.item["item_id"] == "a" else said[query.variant_id]
    summary = pipeline.sample(asked, quiet=False)
    assert summary["unread"] == {"empty": 4, "refuses": 4, "names no option": 3}
    assert files.read_table(asked.answers)["answer"].null_count() == 11
    told = "sample: 11 answers could not be read: empty (4), refuses (4), names no option (3)"
    assert told in capsys.readouterr().err


def test_sample_goes_on_where_it_stopped(asked, oracle):
    asked.answers.unlink()
    oracle.fail_at = 6
    with pytest.raises(ConnectionError):
        pipeline.sample(asked, quiet=True)
    assert not asked.answers.exists()
    oracle.fail_at = None
    pipeline.sample(asked, quiet=True)
    assert [(q.item["item_id"], q.variant_id) for q in oracle.queries] == [(i, v) for i in "abcdg" for v in "012"]


def test_sample_asks_in_the_words_of_the_project(asked, oracle):
    listed = with_settings(asked, "prompt", options="listed", answer="letter", vary="order")
    oracle.said = lambda query: " A"
    pipeline.sample(with_settings(listed, "sample", engine="oracle", options={}, variants=2), quiet=True)
    # "A" is the first option as listed: even in the item's own order, odd in the other
    assert files.read_table(asked.answers)["answer"].to_list() == ["0", "1"] * 5


def test_unknown_option_of_an_engine_asks_nobody(asked, oracle):
    wrong = with_settings(asked, "sample", options={"mod": "x"})
    with pytest.raises(ConfigError, match=r"unknown key sample\.options\.mod; did you mean 'mood'"):
        pipeline.sample(wrong, quiet=True)
    assert oracle.opened == []


def test_fetch_brings_no_supervisor_for_an_engine_that_asks_somebody_else(project, asked, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        stage_module("items"),
        "fetch_model",
        lambda reference, *, quiet: fetched.append(reference) or {"weights_sha256": {}},
    )
    other = with_settings(asked, "supervise", model="gemma3-270m")
    pipeline.fetch(other, quiet=True)
    assert fetched == ["smollm2-135m"]
    pipeline.fetch(with_settings(project, "supervise", model="gemma3-270m"), quiet=True)
    assert fetched[1:] == ["gemma3-270m", "smollm2-135m"]


# --- paraphrases ---------------------------------------------------------------------------------


def test_paraphrase_keeps_what_says_the_same_in_other_words(asked, oracle, capsys):
    made = {
        ("a", "0"): " Would you call a even?",
        ("a", "1"): " Would you call a even?",  # said twice
        ("a", "2"): " Is a even, too?",
        ("b", "0"): " Is B even",  # the question itself
        ("b", "1"): "",
        ("b", "2"): " Is b even or 7?",  # another number
        ("c", "0"): ' "Is it so that c is even?"',
    }
    oracle.said = lambda query: made.get((query.item["item_id"], query.variant_id), "")
    summary = pipeline.paraphrase(asked, count=3, quiet=False)
    out = asked.root / "paraphrases.jsonl"
    assert summary == {"items": 5, "asked": 15, "accepted": 3, "out": str(out)}
    assert pl.read_ndjson(out).rows() == [
        ("a", "Would you call a even?"),
        ("a", "Is a even, too?"),
        ("c", '"Is it so that c is even?"'),
    ]
    assert "3 of 15 accepted" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_loads")
def test_paraphrase_asks_for_text_with_the_question_in_the_prompt(asked, oracle):
    oracle.said = lambda query: f" Tell me now: {query.item['question']}"
    choosing = with_settings(asked, "sample", mode="choice")
    pipeline.paraphrase(choosing, count=2, out=asked.root / "mine.csv", quiet=True)
    ((asking, _),) = oracle.opened
    assert asking.mode == "generate"
    assert asking.temperature == asked.config.sample.temperature
    assert [(q.item["item_id"], q.variant_id, q.options) for q in oracle.queries[:3]] == [
        ("a", "0", None), ("a", "1", None), ("b", "0", None),
    ]  # fmt: skip
    assert "Question: Is a even?\n" in oracle.queries[0].prompt
    assert pl.read_csv(asked.root / "mine.csv").rows()[:2] == [
        ("a", "Tell me now: Is a even?"), ("b", "Tell me now: Is b even?"),
    ]  # fmt: skip
    assert not (asked.cache / "paraphrase").exists()


def test_paraphrases_that_are_all_useless_write_nothing(asked, oracle):
    oracle.said = lambda query: " " + query.item["question"]
    with pytest.raises(InputError, match="none of 20 paraphrases by oracle keeps to its question; ask a better model"):
        pipeline.paraphrase(asked, quiet=True)
    assert not (asked.root / "paraphrases.jsonl").exists()


def test_local_model_writes_paraphrases_as_it_was_before_tuning(project, monkeypatch):
    """No adapter is needed, and none is put on."""
    loaded = SimpleNamespace(model="plain", tokenizer="words", fingerprint="f")
    monkeypatch.setattr(stage_module("supervise"), "load", lambda model, base: loaded)
    seen = []

    local = Oracle()
    local.said = lambda query: f" So: {query.item['question']}"

    @dataclass(frozen=True, kw_only=True)
    class Kind(EngineKind):
        def open(self, asking, options):
            seen.append(asking.supervisor())
            local.opened.append((asking, Asked()))
            return local

    kind = engines.get("transformers")
    monkeypatch.setitem(engines._entries, "transformers", Kind(name=kind.name, function=kind.function, tuned=True))
    pipeline.paraphrase(project, count=1, quiet=True)
    (supervisor,) = seen
    assert (supervisor.model, supervisor.name) == ("plain", project.config.supervise.model)
    with pytest.raises(InputError, match="holds no adapter"):
        pipeline.sample(project, quiet=True)


# --- prepare -------------------------------------------------------------------------------------


def with_paraphrases(project: Project, *rows: tuple[str, str], name: str = "mine.csv") -> Project:
    table = pl.DataFrame(rows, schema={"item_id": pl.String, "paraphrase": pl.String}, orient="row")
    files.write_any_table(project.root / name, table)
    return with_settings(project, "prepare", paraphrases=name)


@pytest.mark.parametrize("name", ["mine.csv", "mine.jsonl", "mine.parquet"])
def test_prepare_gives_each_item_its_questions_in_other_words(project, capsys, name):
    changed = with_paraphrases(
        project,
        ("b", "Can b be halved?"),
        ("a", "Can a be halved?"),
        ("a", "Is A even"),  # the question itself
        ("a", "Can a be halved?"),  # once more
        ("a", "Does a leave nothing when halved?"),
        ("b", "Are b and 12 even?"),  # another number
        ("nobody", "Who?"),
        name=name,
    )
    summary = pipeline.prepare(changed)
    items = dict(files.read_table(project.items).select("item_id", "paraphrases").iter_rows())
    assert items["a"] == ["Can a be halved?", "Does a leave nothing when halved?"]
    assert items["b"] == ["Can b be halved?"]
    assert items["c"] == []
    assert summary["paraphrases"] == {
        "accepted": 3,
        "rejected": {"says the same": 1, "said twice": 1, "changes a number": 1},
        "without": 7,
    }
    told = capsys.readouterr().err
    assert "prepare: 3 paraphrases accepted (rejected: " in told
    assert "; 7 items have none" in told


def test_items_are_asked_in_their_own_number_of_other_words(asked, oracle):
    changed = with_paraphrases(asked, ("a", "Can a be halved?"), ("a", "Does 2 go into a?"), ("c", ""))
    pipeline.prepare(changed, quiet=True)
    by_question = replace(TOY, wordings=lambda item: [Wording(f"{item['question']} It is", (" even", " odd"))])
    tasks._entries[TOY.name] = by_question  # put back by the fixture of the project
    pipeline.sample(with_settings(changed, "prompt", vary="paraphrase"), quiet=True)
    answers = files.read_table(asked.answers)
    assert answers.filter(item_id="a")["prompt"].to_list() == ["Is a even? It is", "Can a be halved? It is"]
    assert answers.filter(item_id="b")["prompt"].to_list() == ["Is b even? It is"]
    assert answers.height == 6


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([("a", "Is a even?"), ("b", "Is b even?")], r"has no usable paraphrase of any item \(rejected: \{'says the"),
        ([("x", "Who?")], r"no usable paraphrase of any item \(rejected: none; item_id of the first item: k1\)"),
    ],
)
def test_table_without_a_usable_paraphrase_changes_nothing(project, rows, match):
    before = project.items.read_bytes()
    with pytest.raises(InputError, match=match):
        pipeline.prepare(with_paraphrases(project, *rows), quiet=True)
    assert project.items.read_bytes() == before


def test_table_of_paraphrases_that_is_not_there(project):
    absent = with_settings(project, "prepare", paraphrases="no.csv")
    with pytest.raises(InputError, match=r"no such file: .*no\.csv \(prepare\.paraphrases\); `labelrel paraphrase`"):
        pipeline.prepare(absent, quiet=True)


def test_prepare_without_paraphrases_has_no_such_column(project):
    assert "paraphrases" not in pipeline.prepare(project, quiet=True)
    assert "paraphrases" not in files.read_table(project.items).columns


def test_options_of_the_task_arrive_and_are_checked(project, monkeypatch):
    class Mine(Params):
        column: str = "x"

    given = []
    own = replace(TOY, params=Mine, load=lambda source, sizes, seed, params: given.append(params) or made_items())
    monkeypatch.setitem(tasks._entries, TOY.name, own)
    pipeline.prepare(with_settings(project, "prepare", options={"column": "y"}), quiet=True)
    assert given == [Mine(column="y")]
    with pytest.raises(ConfigError, match=r"unknown key prepare\.options\.colum; did you mean 'column'"):
        pipeline.prepare(with_settings(project, "prepare", options={"colum": "y"}), quiet=True)


def test_fetch_brings_every_network_once(project, monkeypatch):
    asked = []

    def fetch_model(reference: str, *, quiet: bool) -> dict[str, Any]:
        asked.append(reference)
        return {"weights_sha256": {"model.safetensors": "f" * 64}}

    monkeypatch.setattr(stage_module("items"), "fetch_model", fetch_model)
    pipeline.fetch(project, quiet=True)
    assert asked == ["smollm2-135m"]  # the weak supervisor is the same network, cut
    assert files.read_json(project.models) == {"smollm2-135m": {"model.safetensors": "f" * 64}}

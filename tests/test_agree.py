"""`agree`: real crowds against crowd-kit, who differs from the rest, and tables that cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from labelrel.agree import AgreeOptions, agree, agree_table, show_agreement
from labelrel.errors import ConfigError, InputError
from labelrel.scoring.frames import read_answers

CROWD = Path(__file__).resolve().parents[1] / "../shared/data/crowd"
COLUMNS = {"item_id": "question", "annotator_id": "worker"}


def votes_of(rows: list[tuple[object, ...]], *columns: str):
    return read_answers(pl.DataFrame(rows, schema=columns, orient="row"))


def few(**options):
    return AgreeOptions(resamples=20, **options)


@pytest.mark.parametrize("name", ["d_Duck_Identification", "s4_Dog_data"])
def test_alpha_agrees_with_crowd_kit(name):
    path = CROWD / f"{name}.answer.csv"
    if not path.is_file():
        pytest.skip(f"the crowd data are not here: {path}")
    from crowdkit.metrics.data import alpha_krippendorff

    found = agree_table(path, few(columns=COLUMNS))
    rows = pl.read_csv(path).rename({"question": "task", "answer": "label"}).to_pandas()
    assert found["agreement"]["krippendorff_alpha"]["value"] == pytest.approx(alpha_krippendorff(rows), abs=1e-9)


def test_what_is_told_of_a_crowd():
    path = CROWD / "d_Duck_Identification.answer.csv"
    if not path.is_file():
        pytest.skip(f"the crowd data are not here: {path}")
    found = agree_table(path, few(columns=COLUMNS, top=3))
    assert (found["answers"], found["items"], found["annotators"], found["variants"]) == (4212, 108, 39, None)
    assert (found["distinct_answers"], found["abstained"], found["notes"]) == (2, 0, [])
    assert len(found["by_annotator"]) == 39
    rates = [row["agreement"] for row in found["by_annotator"]]
    assert rates == sorted(rates)
    assert all(row["low"] < row["agreement"] < row["high"] for row in found["by_annotator"])
    # 39 answers each, so no item is more disputed than 20 to 19
    assert [row["votes"] for row in found["disputed"]] == ["0 x20, 1 x19", "1 x20, 0 x19", "0 x20, 1 x19"]
    json.dumps(found, allow_nan=False)


ROWS = [
    ("q1", "ann", "A"), ("q1", "bob", "A"), ("q1", "cem", "B"),
    ("q2", "ann", "A"), ("q2", "bob", "A"), ("q2", "cem", "B"),
    ("q3", "ann", "B"), ("q3", "bob", "B"), ("q3", "cem", "B"),
    ("q4", "ann", "A"), ("q4", "bob", None),
]  # fmt: skip


def test_each_annotator_against_the_others():
    found = agree(votes_of(ROWS, "item_id", "annotator_id", "answer"), few())
    cem, ann, bob = found["by_annotator"]
    # cem: ann and bob say A A, A A, B B, and cem B B B: agrees on one of three
    assert [cem[k] for k in ("annotator_id", "answers", "abstained", "compared", "undecided")] == ["cem", 3, 0, 3, 0]
    assert cem["agreement"] == pytest.approx(1 / 3)
    # the others' shares on q1 to q3 make A 2, B 1; cem gave A 0, B 3: half of (2 + 2) over 3 answers
    assert cem["bias"] == pytest.approx(2 / 3)
    assert (cem["favours"], cem["favours_given"], cem["favours_expected"]) == ("B", 3, pytest.approx(1))
    # ann: on q1 and q2 bob and cem are one against one; on q4 nobody else has an answer
    assert [ann[k] for k in ("annotator_id", "answers", "compared", "undecided", "agreement")] == ["ann", 4, 1, 2, 1]
    assert [bob[k] for k in ("annotator_id", "answers", "abstained")] == ["bob", 3, 1]
    assert found["abstained"] == 1


def test_the_most_disputed_items_by_entropy_then_answers_then_id():
    rows = [
        ("calm", "A"),
        ("calm", "A"),
        ("even", "A"),
        ("even", "B"),
        ("tilted", "A"),
        ("tilted", "A"),
        ("tilted", "B"),
    ]
    rows += [("large", "A"), ("large", "B"), ("large", "A"), ("large", "B"), ("also", "A"), ("also", "B")]
    found = agree(votes_of(rows, "item_id", "answer"), few())["disputed"]
    assert [row["item_id"] for row in found] == ["large", "also", "even", "tilted"]
    assert found[0] == {"item_id": "large", "answers": 4, "entropy": pytest.approx(np.log(2)), "votes": "A x2, B x2"}
    assert len(agree(votes_of(rows, "item_id", "answer"), few(top=1))["disputed"]) == 1


def test_an_item_of_many_answers_is_told_in_short():
    rows = [("q", f"{n:02}") for n in range(13)]
    (found,) = agree(votes_of(rows, "item_id", "answer"), few())["disputed"]
    assert found["votes"].startswith("00 x1, 01 x1, ")
    assert found["votes"].endswith("09 x1, … (3 more)")


def test_a_variant_that_prefers_the_first_choice_stands_out():
    rng = np.random.default_rng(0)
    rows = []
    for item in range(60):
        truth = str(rng.integers(4))
        for variant in range(5):
            rows.append((f"q{item}", str(variant), "0" if variant == 3 and rng.random() < 0.6 else truth))
    found = agree(votes_of(rows, "item_id", "variant_id", "answer"), few())
    odd, *others = found["by_variant"]
    assert (odd["variant_id"], odd["favours"]) == ("3", "0")
    assert odd["bias"] > 3 * max(0.01, odd["bias_by_chance"])
    assert odd["choice_shares"][0] > 0.5
    assert odd["p_uniform"] < 1e-6
    assert all(row["agreement"] == 1 for row in others)
    assert len(found["choices"]["choice_shares"]) == 4
    assert found["notes"] == [
        "there is one annotator: nobody else to compare it with; kappa and alpha tell how far its own answers to an "
        "item agree"
    ]
    assert found["by_annotator"][0]["agreement"] is None
    assert found["agreement"]["krippendorff_alpha"]["value"] > 0.5


@pytest.mark.parametrize(
    ("answers", "choices", "expected"),
    [
        (["0", "1", "2"], None, 3),
        (["0", "2"], None, None),  # perhaps choices, perhaps numbers: nobody said
        (["0", "2"], 4, 4),
        (["0", "5"], 4, None),
        (["7", "12"], None, None),
        (["A", "B"], None, None),
        (["00", "1"], None, None),
        (["0"], None, None),
    ],
)
def test_what_counts_as_choice_indices(answers, choices, expected):
    rows = [("q", str(n), answer) for n, answer in enumerate(answers)]
    found = agree(votes_of(rows, "item_id", "annotator_id", "answer"), few(choices=choices))["choices"]
    assert (found and len(found["choice_shares"])) == expected


def test_shares_against_equal_ones_only_where_there_are_enough_answers():
    rows = [("q", str(n), str(n % 2)) for n in range(9)]
    found = agree(votes_of(rows, "item_id", "annotator_id", "answer"), few())["choices"]
    assert found == {"choice_shares": [5 / 9, 4 / 9], "chi_square": None, "p_uniform": None}  # 4.5 expected


def test_one_answer_per_item():
    found = agree(votes_of([("q1", "ann", "A"), ("q2", "bob", "B")], "item_id", "annotator_id", "answer"), few())
    assert set(found["agreement"].values()) == {None}
    assert found["notes"][0].startswith("no item has two answers: agreement, kappa and alpha cannot be computed")
    assert [row["agreement"] for row in found["by_annotator"]] == [None, None]
    assert [row["bias"] for row in found["by_annotator"]] == [None, None]
    assert found["disputed"] == []


def test_no_answer_that_could_be_parsed():
    frame = pl.DataFrame({"item_id": ["q1", "q1"], "answer": [None, None]}, schema_overrides={"answer": pl.String})
    found = agree(read_answers(frame), few())
    assert found["notes"] == ["no answer could be parsed: nothing can be computed"]
    assert set(found["agreement"].values()) == {None}
    assert (found["abstained"], found["disputed"], found["choices"]) == (2, [], None)


def test_every_answer_the_same():
    found = agree(votes_of([("q", "a", "A"), ("q", "b", "A")], "item_id", "annotator_id", "answer"), few())
    assert found["agreement"]["observed"]["value"] == 1
    assert found["agreement"]["fleiss_kappa"] is None
    assert "without any variation" in found["notes"][0]


def test_order_of_rows_does_not_matter():
    rows = [(f"q{n % 7}", f"w{n}", "ABC"[n * n % 3]) for n in range(40)]
    first, second = (agree(votes_of(r, "item_id", "annotator_id", "answer"), few()) for r in (rows, rows[::-1]))
    for key in ("by_annotator", "disputed"):
        assert first[key] == second[key]
    for name, found in first["agreement"].items():
        assert found["value"] == pytest.approx(second["agreement"][name]["value"], abs=1e-12)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [("q", "ann", None)]])
def test_it_is_told_as_aligned_text(rows, capsys):
    frame = pl.DataFrame(
        rows, schema={"item_id": pl.String, "annotator_id": pl.String, "answer": pl.String}, orient="row"
    )
    found = agree(read_answers(frame), few())
    show_agreement(found)
    printed = capsys.readouterr().out
    json.dumps(found, allow_nan=False)
    assert "krippendorff_alpha" in printed
    assert all(note in printed for note in found["notes"])
    assert ("most disputed items" in printed) == bool(found["disputed"])


def test_many_annotators_are_cut_on_the_screen_only(capsys):
    rows = [("q", f"w{n:02}", "A") for n in range(30)]
    found = agree(votes_of(rows, "item_id", "annotator_id", "answer"), few())
    show_agreement(found)
    printed = capsys.readouterr().out
    assert len(found["by_annotator"]) == 30
    assert "the 20 least agreeing of 30" in printed
    assert "w19" in printed
    assert "w20" not in printed


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "has no column 'item_id'"),
        ({"item_id": "question", "annotator_id": "wroker"}, "has no column 'wroker'"),
        ({"item_id": "question", "annotator_id": "question"}, "one column cannot be two things"),
    ],
)
def test_columns_that_cannot_be(columns, message, tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("question,worker,answer\nq1,w1,A\n")
    with pytest.raises(InputError, match=message):
        agree_table(path, few(columns=columns))


def test_a_table_without_rows(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("item_id,answer\n")
    with pytest.raises(InputError, match="at least one answer is needed"):
        agree_table(path)


@pytest.mark.parametrize("bad", [{"choices": 1}, {"top": -1}, {"confidence": 1.0}, {"resamples": 0}])
def test_impossible_options(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        AgreeOptions(**bad)

"""Labels that spread over the options, worked by hand."""

from __future__ import annotations

import math

import polars as pl
import pytest

from labelrel.errors import InputError
from labelrel.scoring import score
from labelrel.selection import select

VOTES = {"sure": "11111", "most": "20000", "half": "11133", "short": "00011"}
CHOICES = {"sure": "abcd", "most": "abcd", "half": "abcd", "short": "ab"}


def tables(
    votes: dict[str, str] = VOTES,
    choices: dict[str, str] = CHOICES,
    gold_dev: dict[str, tuple[str, str]] | None = None,
    methods: tuple[str, ...] = ("share", "reliability"),
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Scores, answers and items; gold_dev: item → (votes, gold label)."""
    known = gold_dev or {}
    rows = [
        (i, "ann", str(v), a)
        for i, r in {**votes, **{k: v for k, (v, _) in known.items()}}.items()
        for v, a in enumerate(r)
    ]
    answers = pl.DataFrame(rows, schema=["item_id", "annotator_id", "variant_id", "answer"], orient="row")
    items = pl.DataFrame(
        [(i, "w2s", list(choices[i]), None) for i in votes]
        + [(i, "gold_dev", list(next(iter(choices.values()))), gold) for i, (_, gold) in known.items()],
        schema={"item_id": pl.String, "split": pl.String, "choices": pl.List(pl.String), "gold_label": pl.String},
        orient="row",
    )
    return score(answers, list(methods), items=items), answers, items


def probs(name: str, made: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], **params: object) -> dict[str, list[float]]:
    found = select(name, *made, seed=0, params=params)
    assert (found["weight"] == 1).all()
    return dict(found.select("item_id", "option_probs").rows())


def test_soft_labels_are_the_shares_of_the_votes():
    assert probs("soft_labels", tables()) == {
        "sure": [0.0, 1.0, 0.0, 0.0],
        "most": [0.8, 0.0, 0.2, 0.0],
        "half": [0.0, 0.6, 0.0, 0.4],
        "short": [0.6, 0.4],
    }


def test_soft_labels_of_another_score_are_its_label_qualities_normalised():
    found = probs("soft_labels", tables(), score="reliability")
    odds = math.exp(0.8 / 0.2 - 0.2 / 0.2)
    assert found["most"] == pytest.approx([odds / (1 + odds), 0, 1 / (1 + odds), 0])


def test_smoothing_takes_as_much_as_the_label_is_doubtful():
    found = probs("label_smoothing", tables())
    quality = 1 / (1 + math.exp(-1))  # votes 3 : 2 at T = .2
    assert found["half"] == pytest.approx([(1 - quality) / 4, quality + (1 - quality) / 4, *[(1 - quality) / 4] * 2])
    assert found["short"] == pytest.approx([quality + (1 - quality) / 2, (1 - quality) / 2])
    assert found["sure"] == [0, 1, 0, 0]


GOLD = {"g1": ("0000", "0"), "g2": ("1111", "1"), "g3": ("0000", "2"), "g4": ("3333", "3"), "g5": ("1112", "1")}


def test_interchangeable_options_share_one_error_rate():
    """4 of 5 gold items are right, with half an error and half a success added: 1.5 of 6 are wrong."""
    different = {item: "".join(reversed(text)) if item == "most" else text for item, text in CHOICES.items()}
    found = probs("forward_correction", tables(choices=different, gold_dev=GOLD))
    assert found["sure"] == pytest.approx([0.25 / 3, 0.75, 0.25 / 3, 0.25 / 3])
    assert found["short"] == pytest.approx([0.75, 0.25])


def test_classes_have_a_matrix_of_their_own():
    """All items have the same options; the true 2 was called 0, so label 0 speaks for 2 as well."""
    votes = {item: row for item, row in VOTES.items() if item != "short"}
    found = probs("forward_correction", tables(votes, gold_dev=GOLD), prior=1.0)
    even = [0.75, *[0.25 / 3] * 3]
    # column 0 of the counts: (1 of 1 true 0, 0 of 2 true 1, 1 of 1 true 2, 0 of 1 true 3)
    assert found["most"] == pytest.approx([(1 + even[0]) / 2, (0 + even[1]) / 3, (1 + even[2]) / 2, (0 + even[3]) / 2])


def test_rows_of_a_class_matrix_sum_to_one():
    votes = {"a": "000", "b": "111", "c": "222", "d": "333"}
    found = probs("forward_correction", tables(votes, dict.fromkeys(votes, "wxyz"), GOLD))
    columns = [found[item] for item in votes]  # of label 0, 1, 2, 3
    assert [sum(column[k] for column in columns) for k in range(4)] == pytest.approx([1.0] * 4)


def test_the_matrix_may_come_from_dawid_skene_without_any_gold():
    votes = {f"q{n}": row for n, row in enumerate(["000", "111", "001", "110", "000", "111"])}
    made = tables(votes, dict.fromkeys(votes, "ab"), methods=("share", "dawid_skene"))
    found = probs("forward_correction", made, noise="dawid_skene")
    assert all(row[int(label)] > 0.5 for row, label in zip(found.values(), "010101", strict=True))


def test_no_gold_label_is_told():
    with pytest.raises(InputError, match=r"needs gold labels in split 'gold_dev'.*noise to dawid_skene"):
        select("forward_correction", *tables(), seed=0)


@pytest.mark.parametrize("name", ["soft_labels", "label_smoothing", "forward_correction"])
def test_open_questions_have_no_options_to_spread_over(name):
    scores, answers, items = tables(gold_dev=GOLD)
    items = items.with_columns(choices=pl.lit(None, pl.List(pl.String)))
    with pytest.raises(InputError, match=f"rule '{name}' spreads a label over the options.*4 of 4 items"):
        select(name, scores, answers, items, seed=0)

"""No item is scored with its own gold label: neither by a model fitted with gold, nor by the ensemble."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.scoring import methods, score
from labelrel.scoring.encode import ABSTAINED
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.gold import FOLDS, cross_fit, fold_of


def make_votes(num_items: int = 120, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Five annotators, of whom two are right .9 and three are right .45 of the time; 3 classes; gold of all items."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=num_items)
    rows = [
        (f"q{i}", f"w{j}", str(truth[i] if rng.random() < skill else (truth[i] + rng.integers(1, 3)) % 3))
        for i in range(num_items)
        for j, skill in enumerate([0.9, 0.9, 0.45, 0.45, 0.45])
    ]
    votes = pl.DataFrame(rows, schema=["item_id", "annotator_id", "answer"], orient="row")
    gold = pl.DataFrame({"item_id": [f"q{i}" for i in range(num_items)], "gold_label": [str(t) for t in truth]})
    return votes, gold


VOTES, GOLD = make_votes()
SOME_GOLD = GOLD[:60]

learns_from_gold = pytest.mark.parametrize("name", [n for n in methods if methods.get(n).uses_gold])


def flipped(gold: pl.DataFrame, item: str) -> pl.DataFrame:
    label = pl.col("gold_label").replace_strict({"0": "1", "1": "2", "2": "0"})
    return gold.with_columns(pl.when(pl.col("item_id") == item).then(label).otherwise("gold_label").alias("gold_label"))


@learns_from_gold
def test_an_items_own_gold_label_changes_nothing_of_its_scores(name):
    mine = pl.col("item_id") == "q7"
    plain = score(VOTES, [name], gold=SOME_GOLD)
    lied = score(VOTES, [name], gold=flipped(SOME_GOLD, "q7"))
    assert_frame_equal(lied.filter(mine), plain.filter(mine), check_exact=True)
    assert not lied.filter(~mine)["score"].equals(plain.filter(~mine)["score"])  # but of others', or it is not read


@learns_from_gold
def test_gold_of_items_that_nobody_answered_is_ignored(name):
    more = pl.concat([SOME_GOLD, pl.DataFrame({"item_id": ["elsewhere"], "gold_label": ["0"]})])
    assert_frame_equal(score(VOTES, [name], gold=more), score(VOTES, [name], gold=SOME_GOLD), check_exact=True)


@learns_from_gold
def test_a_gold_label_that_nobody_gave_is_no_answer_but_breaks_nothing(name):
    odd = SOME_GOLD.with_columns(
        pl.when(pl.col("item_id") == "q7").then(pl.lit("zebra")).otherwise("gold_label").alias("gold_label")
    )
    scores = score(VOTES, [name], gold=odd)
    assert scores.filter("weak_label").height == 120
    assert scores["score"].is_finite().all()


@pytest.mark.parametrize("name", [n for n in methods if set(methods.get(n).needs) <= {"answers", "annotators"}])
def test_a_method_that_does_not_say_it_learns_from_gold_does_not(name):
    if not methods.get(name).uses_gold:
        assert_frame_equal(score(VOTES, [name], gold=SOME_GOLD), score(VOTES, [name]), check_exact=True)


def test_folds_are_of_similar_size_and_do_not_depend_on_the_table():
    ids = pl.Series([f"q{i}" for i in range(1000)])
    fold = fold_of(ids)
    sizes = np.bincount(fold, minlength=FOLDS)
    assert sizes.min() > 150  # 200 each, standard deviation 13
    assert (fold_of(ids[::-1])[::-1] == fold).all()


def test_cross_fit_takes_each_item_from_the_fit_without_it():
    ids = pl.Series(["a", "b", "c", "d"])
    gold = pl.DataFrame({"item_id": ["a", "b", "c", "x"], "gold_label": ["0", "1", "new", "0"]})
    fold = dict(zip(ids, fold_of(ids), strict=True))

    def fit(given: pl.DataFrame | None) -> Fitted:
        """A "model" whose every probability counts the gold labels it was given; 2 pairs per item but for c."""
        number = 0 if given is None else given.height
        names = pl.Series(["0", "1", *([] if given is None or "new" not in given["gold_label"] else ["new"])])
        return Fitted(
            offsets=np.array([0, 2, 4, 4, 6]),
            probs=np.full(6, number / 10),
            best=np.array([len(names) - 1, 0, ABSTAINED, 1], dtype=np.int32),
            best_prob=np.full(4, float(number)),
            classes=names,
            annotators=pl.DataFrame({"annotator": ["w"], "seen": [number]}),
        )

    whole = cross_fit(ids, gold, fit)
    assert whole.annotators["seen"].to_list() == [3]  # x is nobody's item
    expected = {name: 3 - sum(fold[other] == fold[name] for other in "abc") for name in "abc"}
    assert whole.best_prob.tolist() == [expected["a"], expected["b"], expected["c"], 3]
    assert whole.probs.tolist() == [expected["a"] / 10] * 2 + [expected["b"] / 10] * 2 + [0.3] * 2
    # the code of a's label is translated: its fit knows "new" only if c lies in another fold
    assert whole.classes[int(whole.best[0])] == ("1" if fold["a"] == fold["c"] else "new")
    assert whole.best[2] == ABSTAINED


def test_a_method_that_needs_gold_says_so():
    with pytest.raises(InputError, match="'ensemble' learns from gold labels and there are none; give some"):
        score(VOTES, ["ensemble"])


@pytest.mark.parametrize(
    ("gold", "match"),
    [
        (GOLD.drop("gold_label"), "gold has no column 'gold_label'"),
        (GOLD.with_columns(gold_label=pl.lit(None, pl.String)), "gold has no gold label"),
        (pl.concat([GOLD, GOLD[:2]]), "2 items with more than one gold label: q0, q1"),
    ],
)
def test_gold_that_cannot_be_is_told(gold, match):
    with pytest.raises(InputError, match=match):
        score(VOTES, ["share"], gold=gold)


@learns_from_gold
def test_gold_of_a_table_in_which_nobody_answered(name):
    silent = VOTES.with_columns(answer=pl.lit(None, pl.String))
    if "gold" in methods.get(name).needs:
        with pytest.raises(InputError, match="at least 10 are needed"):
            score(silent, [name], gold=SOME_GOLD)
    else:
        assert score(silent, [name], gold=SOME_GOLD)["score"].null_count() == 120

"""What every model of the annotators promises, whatever it believes about them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import polars as pl
import pytest
from crowd_tables import accuracy, inputs_of, labels, make_answers, posteriors, table
from polars.testing import assert_frame_equal

from labelrel.errors import InputError
from labelrel.scoring import methods
from labelrel.scoring.annotators import finish as finish_module
from labelrel.scoring.annotators.finish import NOBODY, Posterior, Unvoted, finish, likelier_unvoted
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import read_table
from labelrel.scoring.base import Inputs
from labelrel.scoring.fitted import Fitted

NAMES = [name for name in methods if methods.get(name).fit is not None]
every_model = pytest.mark.parametrize("name", NAMES)
QUICK: dict[str, Any] = {"mace": {"restarts": 2}}


def fit(name: str, inputs: Inputs, **params: Any) -> Fitted:
    model = methods.get(name)
    assert model.fit is not None
    return model.fit(inputs, model.parse(QUICK.get(name, {}) | params, name))


def frame(rows: list[tuple[str, str, str | None]]) -> pl.DataFrame:
    schema = {"item_id": pl.String, "annotator_id": pl.String, "answer": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_models_are_registered_in_their_order():
    assert NAMES == ["majority", "wawa", "dawid_skene", "one_coin", "glad", "mace", "mmsr"]
    assert [n for n in NAMES if methods.get(n).uses_gold] == ["wawa", "dawid_skene", "one_coin", "glad", "mace"]


@every_model
def test_shapes_and_ranges(name):
    answers, _ = table("sparse")
    inputs = inputs_of(answers)
    fitted = fit(name, inputs)
    votes = inputs.votes
    assert fitted.offsets[0] == 0
    assert fitted.offsets[-1] == len(fitted.probs) == posteriors(inputs, fitted).height
    assert ((fitted.probs >= 0) & (fitted.probs <= 1)).all()
    assert (np.add.reduceat(fitted.probs, np.unique(fitted.offsets[:-1])) < 1 + 1e-7).all()
    silent = np.diff(fitted.offsets) == 0
    assert silent.any()
    assert ((fitted.best == -1) == silent).all()
    assert (np.isnan(fitted.best_prob) == silent).all()
    assert fitted.classes[: len(votes.answers)].to_list() == votes.answers.to_list()
    assert fitted.annotators["annotator"].to_list() == votes.raters[1].to_list()
    assert fitted.annotators["num_answers"].sum() == answers["answer"].is_not_null().sum()


@every_model
def test_order_of_rows_does_not_matter(name):
    answers, _ = table("sparse")
    shuffled = answers.sample(fraction=1, shuffle=True, seed=3)
    plain, other = (
        posteriors(inputs, fit(name, inputs)).sort("item_id", "answer")
        for inputs in map(inputs_of, (answers, shuffled))
    )
    assert_frame_equal(plain, other, abs_tol=1.5e-9)
    assert labels(inputs_of(answers), fit(name, inputs_of(answers))) == labels(
        inputs_of(shuffled), fit(name, inputs_of(shuffled))
    )


@every_model
def test_names_of_answers_do_not_matter(name):
    answers, _ = make_answers(60, 9, 4, 5, abstain=0.1, seed=11)
    names = {"a": "δ", "b": "zz", "c": "B", "d": ""}
    renamed = answers.with_columns(pl.col("answer").replace(names))
    inputs = inputs_of(answers)
    plain = posteriors(inputs, fit(name, inputs)).with_columns(pl.col("answer").replace(names))
    inputs = inputs_of(renamed)
    assert_frame_equal(
        plain.sort("item_id", "answer"), posteriors(inputs, fit(name, inputs)).sort("item_id", "answer"), abs_tol=1e-6
    )


@every_model
def test_an_abstention_or_an_unanswered_item_changes_nothing(name):
    answers, _ = make_answers(50, 8, 3, 4, seed=12)
    silent = frame([("q0001", "w001", None), ("nobody", "w001", None), ("nobody", "w002", None)])
    inputs = inputs_of(answers)
    plain = posteriors(inputs, fit(name, inputs))
    inputs = inputs_of(pl.concat([answers, silent]))
    fitted = fit(name, inputs)
    assert fitted.best[-1] == -1
    assert_frame_equal(plain, posteriors(inputs, fitted), abs_tol=1.5e-9)


@every_model
def test_an_annotator_who_never_answers_has_no_rating(name):
    answers, _ = make_answers(50, 8, 3, 4, seed=12)
    fitted = fit(name, inputs_of(pl.concat([answers, frame([("q0000", "zoe", None)])])))
    assert fitted.annotators.row(-1) == ("zoe", 0, None)


@every_model
def test_annotators_who_agree_are_believed(name):
    rows = [(f"q{i}", annotator, "ab"[i % 2]) for i in range(8) for annotator in "rst"]
    fitted = fit(name, inputs_of(frame(rows)))
    assert fitted.probs.min() > 0.8
    assert fitted.best.tolist() == [0, 1] * 4


@every_model
def test_a_single_answer_is_certain_to_be_the_likeliest(name):
    fitted = fit(name, inputs_of(frame([(f"q{i}", annotator, "yes") for i in range(4) for annotator in "rst"])))
    assert fitted.best.tolist() == [0] * 4
    assert fitted.probs.min() > 0.5


@every_model
@pytest.mark.parametrize("annotators", ["r", "rstu"], ids=["one annotator", "one answer per item"])
def test_one_answer_per_item_has_a_result_or_one_line(name, annotators):
    rows = [(f"q{i}", annotators[i % len(annotators)], "aab"[i % 3]) for i in range(12)]
    if name == "mmsr":
        with pytest.raises(InputError, match="no two annotators share an item"):
            fit(name, inputs_of(frame(rows)))
        return
    fitted = fit(name, inputs_of(frame(rows)))
    assert fitted.best.tolist() == [0, 0, 1] * 4
    assert (fitted.probs > 0.3).all()


@every_model
def test_no_answer_at_all(name):
    inputs = inputs_of(frame([("q0", "r", None), ("q1", "s", None)]))
    if name == "mmsr":
        with pytest.raises(InputError, match="no two annotators share an item"):
            fit(name, inputs)
        return
    fitted = fit(name, inputs)
    assert (len(fitted.probs), fitted.best.tolist()) == (0, [-1, -1])
    assert fitted.offsets.tolist() == [0, 0, 0]
    assert fitted.annotators.drop("annotator", "num_answers").null_count().row(0) == (2,)


@every_model
def test_gold_of_other_items_and_strange_labels_do_no_harm(name):
    answers, truth = make_answers(40, 8, 3, 4, seed=13)
    answers = pl.concat([answers, frame([("silent", "w001", None)])])
    gold = pl.concat(
        [
            truth.head(3),
            pl.DataFrame({"item_id": ["q0010", "silent", "nowhere"], "gold_label": ["new", "newer", "newest"]}),
        ]
    )
    fitted = fit(name, inputs_of(answers, gold))
    assert np.isfinite(fitted.probs).all()
    assert fitted.best[-1] == -1
    assert "newest" not in fitted.classes.to_list()


@every_model
def test_two_rows_of_one_annotator_in_an_item(name):
    rows = [(f"q{i}", annotator, "ab"[(i + (annotator == "t")) % 2]) for i in range(6) for annotator in "rrsstt"]
    fitted = fit(name, inputs_of(frame(rows)))
    assert np.isfinite(fitted.probs).all()
    assert fitted.annotators["num_answers"].to_list() == [12, 12, 12]


@every_model
def test_variants_are_annotators_of_their_own(name):
    answers, _ = make_answers(40, 4, 3, 4, seed=14)
    answers = answers.with_columns(annotator_id=pl.lit("llm"), variant_id=pl.col("annotator_id"))
    fitted = fit(name, inputs_of(answers))
    assert fitted.annotators["annotator"].to_list() == ["llm/w000", "llm/w001", "llm/w002", "llm/w003"]


@every_model
def test_blocks_and_lanes_change_no_more_than_rounding(name, monkeypatch):
    answers, truth = make_answers(150, 12, 3, 4, abstain=0.1, seed=15)
    gold = truth.gather_every(10)
    whole = fit(name, inputs_of(answers, gold))

    def in_small_blocks(inputs: Inputs, lanes: Lanes, *, use_cells: bool = False, rows: int = 0):
        return read_table(inputs, lanes, use_cells=use_cells, rows=37)

    monkeypatch.setattr(import_module(f"labelrel.scoring.annotators.{name}"), "read_table", in_small_blocks)
    parts = fit(name, inputs_of(answers, gold))
    assert np.abs(whole.probs - parts.probs).max() < 1e-6
    assert whole.best.tolist() == parts.best.tolist()


def test_more_choices_make_agreement_stronger_evidence():
    answers, _ = make_answers(100, 8, 3, 4, seed=16)
    for name in ("one_coin", "glad", "mmsr"):
        three, nine = (fit(name, inputs_of(answers, choices=k)) for k in (3, 9))
        assert nine.best_prob.mean() > three.best_prob.mean()


@pytest.mark.parametrize("name", ["one_coin", "glad", "mmsr"])
def test_more_choices_of_an_item_make_agreement_stronger_evidence_there(name):
    answers, truth = make_answers(60, 8, 3, 4, seed=16)
    found = []
    for mine in (3, 9):
        choices = [[*"abcdefghi"][:mine], *[[*"abcdefghi"]] * 59]
        found.append(fit(name, inputs_of(answers, items=truth.select("item_id", choices=pl.Series(choices)))))
    assert found[1].best_prob[0] > found[0].best_prob[0] + 1e-6


def test_ties_are_broken_as_in_the_tally():
    rows = [(f"q{i}", annotator, answer) for i in range(200) for annotator, answer in (("r", "a"), ("s", "b"))]
    inputs = inputs_of(frame(rows))
    fitted = fit("majority", inputs)
    counts = inputs.counts
    assert (fitted.best[counts.item[counts.weak_label]] == counts.answer[counts.weak_label]).all()
    assert 60 < int((fitted.best == 0).sum()) < 140  # 100 +- 7: no class is favoured
    equal = fit("one_coin", inputs, iterations=1)
    assert equal.best.tolist() == fitted.best.tolist()


def finished(
    rows: list[tuple[str, str, str | None]], probs: list[float], unvoted: Unvoted = NOBODY, **gold: str
) -> Any:
    known = pl.DataFrame({"item_id": list(gold), "gold_label": list(gold.values())}) if gold else None
    inputs = inputs_of(frame(rows), known)
    with Lanes() as lanes:
        found = read_table(inputs, lanes)
        fitted = finish(inputs.votes, found, [Posterior(np.array(probs), unvoted)], found.annotators(), lanes)
    return labels(inputs, fitted), fitted.best_prob.tolist()


def test_of_equally_likely_answers_the_one_with_more_votes_is_kept():
    rows = [("p", "r", "a"), ("p", "s", "b"), ("p", "t", "b"), ("q", "r", "a"), ("q", "s", "a"), ("q", "t", "b")]
    nearly = 0.5 - 1e-12  # not less than .5 to 9 decimals
    assert finished(rows, [0.5, nearly, nearly, 0.5]) == ({"p": "b", "q": "a"}, [0.5, 0.5])


def test_a_likelier_class_without_votes_is_the_label():
    rows = [("p", "r", "a"), ("q", "r", "b"), ("u", "r", "c")]
    unvoted = Unvoted(np.array([0, 0, 1]), np.array([1, 2, 0]), np.array([0.3, 0.5, 0.6]))
    assert finished(rows, [0.2, 0.4, 0.9], unvoted) == ({"p": "c", "q": "a", "u": "c"}, [0.5, 0.6, 0.9])


def test_unvoted_classes_are_looked_for_only_where_they_can_win():
    inputs = inputs_of(frame([("p", "r", "a"), ("q", "r", "b"), ("u", "r", "c")]))
    with Lanes() as lanes:
        block = read_table(inputs, lanes).blocks[0]
    found = likelier_unvoted(block, np.array([0.2, 0.1, 0.9]), np.array([0.4, 0.3, 0.05]), np.array([1.0, 2.0, 0.5]))
    # p: b .8 (a is voted for, c has .2, no more than a); q: a .3 and c .15, b is voted for; u: nothing above .9
    assert list(zip(found.item, found.code, found.prob.round(9), strict=True)) == [
        (0, 1, 0.8),
        (1, 0, 0.3),
        (1, 2, 0.15),
    ]


def test_an_item_with_fewer_choices_than_classes_gets_no_unvoted_label():
    choices = pl.DataFrame({"item_id": ["p", "q", "u"], "choices": [[*"ab"], [*"abc"], [*"abc"]]})
    inputs = inputs_of(frame([("p", "r", "a"), ("q", "r", "b"), ("u", "r", "c")]), items=choices)
    with Lanes() as lanes:
        block = read_table(inputs, lanes).blocks[0]
    found = likelier_unvoted(block, np.full(3, 0.1), np.full(3, 0.5), np.ones(3))
    assert set(found.item) == {1, 2}  # nobody says which of the classes p cannot have


def test_worse_than_chance_turns_a_label_round():
    """Two classes, known liars: gold makes their answer evidence against itself."""
    rows = [(f"q{i:02d}", annotator, "ab"[i % 2]) for i in range(40) for annotator in "rst"]
    gold = pl.DataFrame({"item_id": [f"q{i:02d}" for i in range(30)], "gold_label": ["ba"[i % 2] for i in range(30)]})
    for name in ("dawid_skene", "one_coin"):
        inputs = inputs_of(frame(rows), gold)
        found = labels(inputs, fit(name, inputs))
        assert [found[f"q{i:02d}"] for i in range(30, 40)] == ["b", "a"] * 5


@pytest.mark.parametrize("name", ["dawid_skene", "one_coin", "glad", "mace", "mmsr"])
def test_models_beat_the_majority_where_annotators_differ(name):
    answers, truth = make_answers(400, 12, 3, 5, accuracy=(0.35, 0.98), seed=17)
    inputs = inputs_of(answers)
    best, vote = (accuracy(labels(inputs, fit(n, inputs)), truth) for n in (name, "majority"))
    assert best > vote + 0.01


def test_rounding_is_to_nine_decimals():
    assert finish_module.rounded(np.array([1 / 3, 1 + 1e-15, -1e-15])).tolist() == [0.333333333, 1.0, 0.0]

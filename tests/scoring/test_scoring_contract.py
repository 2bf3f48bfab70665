"""What every scoring method promises; a new one is covered by being registered."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.schema import SCORES, check_scores
from labelrel.scoring import methods, score

NUM_ITEMS, NUM_CHOICES = 40, 4


def make_answers(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """40 items, 2 annotators with 3 variants each, 4 choices, some abstentions, one item without an answer; gold."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(NUM_CHOICES, size=NUM_ITEMS)
    rows = []
    for i in range(NUM_ITEMS):
        for annotator in ("ann", "bob"):
            for variant in range(3):
                logits = rng.normal(size=NUM_CHOICES) + 1.5 * (np.arange(NUM_CHOICES) == truth[i])
                logprobs = logits - np.log(np.exp(logits).sum())
                silent = rng.random() < 0.1 or i == 7
                index = int(rng.choice(NUM_CHOICES, p=np.exp(logprobs)))
                answer, logprob = (None, None) if silent else (str(index), float(logprobs[index]))
                meaning = None if silent else "ab"[index // 2]  # 0 and 1 mean the same, and 2 and 3
                tokens = 1 + index
                rows.append((f"q{i:02d}", annotator, str(variant), answer, logprobs.tolist(), logprob, tokens, meaning))
    schema = ["item_id", "annotator_id", "variant_id", "answer", *EXTRA]
    gold = pl.DataFrame({"item_id": [f"q{i:02d}" for i in range(NUM_ITEMS)], "gold_label": truth.astype(str)})
    return pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1, shuffle=True, seed=seed), gold


EXTRA = ["choice_logprobs", "answer_logprob", "num_tokens", "meaning"]
ANSWERS, GOLD = make_answers()
WITHOUT_PROBS = ANSWERS.drop(EXTRA)
ITEMS = pl.DataFrame(
    {"item_id": [f"q{i:02d}" for i in range(NUM_ITEMS)], "choices": [[*"ABCD"]] * NUM_ITEMS},
)


def scored(name: str, answers: pl.DataFrame = ANSWERS, *, items: pl.DataFrame | None = ITEMS) -> pl.DataFrame:
    """Score with one method, with gold where it cannot be without."""
    gold = GOLD if "gold" in methods.get(name).needs else None
    return score(answers, [name], items=items, gold=gold)


def lives_on(name: str, *inputs: str) -> bool:
    return set(methods.get(name).needs) <= set(inputs)


every_method = pytest.mark.parametrize("name", list(methods))
every_table = pytest.mark.parametrize(
    ("name", "answers"),
    [(name, ANSWERS) for name in methods]
    + [(name, WITHOUT_PROBS) for name in methods if not {"logprobs", "meanings"} & set(methods.get(name).needs)],
    ids=lambda value: value if isinstance(value, str) else "all" if value is ANSWERS else "votes",
)


def by_item(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("item_id", "num_votes", "answer", descending=[False, True, False])


@every_table
def test_schema_ids_and_order(name, answers):
    scores = check_scores(scored(name, answers))
    assert scores.schema == SCORES
    assert scores["method"].unique().to_list() == [name]
    assert scores["item_id"].unique(maintain_order=True).equals(answers["item_id"].unique(maintain_order=True))
    votes = scores.filter(pl.col("num_votes") > 0).select("item_id", "answer", "num_votes")
    counted = answers.drop_nulls("answer").group_by("item_id", "answer").agg(num_votes=pl.len().cast(pl.Int64))
    assert_frame_equal(votes, counted, check_row_order=False)


@every_table
def test_one_weak_label_per_answered_item_and_quality_in_the_unit_interval(name, answers):
    scores = scored(name, answers)
    weak = scores.group_by("item_id").agg(pl.col("weak_label").sum())
    assert dict(weak.iter_rows()) == {f"q{i:02d}": int(i != 7) for i in range(NUM_ITEMS)}
    assert scores.filter("weak_label")["label_quality"].is_between(0, 1).all()  # and not null
    assert scores["label_quality"].drop_nulls().is_between(0, 1).all()
    assert scores.filter(pl.col("item_id") == "q07").select("score", "label_quality").row(0) == (None, None)
    assert scores.filter(pl.col("item_id") != "q07")["score"].is_finite().all()


@every_method
def test_score_of_an_item_is_repeated_on_its_rows(name):
    if methods.get(name).unit == "item":
        scores = scored(name)
        assert scores.group_by("item_id").agg(pl.col("score").n_unique())["score"].max() == 1


@every_method
def test_direction_of_the_score_is_the_one_declared(name):
    scores = scored(name).filter("weak_label")
    sign = 1 if methods.get(name).higher_is_better else -1
    rank = pl.corr(sign * pl.col("score"), pl.col("label_quality"), method="spearman")
    assert scores.select(rank).item() > 0.9


@every_table
def test_deterministic_and_input_untouched(name, answers):
    before = answers.clone()
    state = np.random.get_state()[1].copy()
    assert_frame_equal(scored(name, answers, items=None), scored(name, answers, items=None), check_exact=True)
    assert_frame_equal(answers, before, check_exact=True)
    assert (np.random.get_state()[1] == state).all()


@every_table
def test_row_order_does_not_matter(name, answers):
    shuffled = answers.sample(fraction=1, shuffle=True, seed=5)
    expected = by_item(scored(name, answers))
    exact = methods.get(name).fit is None  # a fit sums over items in the order of the table
    assert_frame_equal(by_item(scored(name, shuffled)), expected, check_exact=exact, abs_tol=1e-9)


@every_method
def test_scores_of_a_subset_are_a_subset_of_the_scores(name):
    if methods.get(name).item_wise:
        some = pl.col("item_id") < "q15"
        subset = scored(name, ANSWERS.filter(some))
        assert_frame_equal(subset, scored(name).filter(some), check_exact=True)


@pytest.mark.parametrize("name", [m for m in methods if lives_on(m, "answers", "annotators")])
def test_names_of_answers_do_not_matter_to_vote_methods(name):
    names = {"0": "delta", "1": "alpha", "2": "beta", "3": "gamma"}
    renamed = ANSWERS.with_columns(pl.col("answer").replace(names))
    columns = ["item_id", "num_votes", "share", "reliability", "score", "tie"]
    plain, other = score(ANSWERS, [name]), score(renamed, [name])
    exact = methods.get(name).fit is None
    order = ["item_id", "num_votes", "share", "score"]
    assert_frame_equal(
        other.select(columns).sort(order), plain.select(columns).sort(order), check_exact=exact, abs_tol=1e-9
    )
    untied = ~pl.col("tie") & pl.col("weak_label")
    expected = plain.filter(untied).with_columns(pl.col("answer").replace(names))
    assert_frame_equal(other.filter(untied), expected, check_exact=exact, abs_tol=1e-9)


@every_method
def test_documented(name):
    method = methods.get(name)
    assert method.name == name
    assert len(method.source) > 20, "docstring without a Source line"
    assert 20 < len(method.summary) < 120


def test_methods_are_scored_in_the_order_asked_and_once():
    scores = score(ANSWERS, ["reliability", "share", "reliability"])
    assert scores["method"].unique(maintain_order=True).to_list() == ["reliability", "share"]
    assert scores.height == 2 * score(ANSWERS, ["share"]).height


def test_no_methods_given_means_those_that_need_only_answers():
    assert score(ANSWERS)["method"].unique(maintain_order=True).to_list() == [
        "share",
        "entropy",
        "miller_madow",
        "margin",
        "reliability",
    ]

"""The adapters equal cleanlab called by hand, and mend what it leaves open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from labelrel.errors import ConfigError, InputError
from labelrel.scoring import label_probs_source, methods, score

CROWD = Path(__file__).resolve().parents[2] / "../shared/data/crowd"

# 4 items, 3 variants, 3 classes
LABELS = np.array([[0, 0, 1], [2, 2, 2], [1, 0, 1], [0, 1, 2]])
PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3]])


def long(labels: np.ndarray, probs: np.ndarray | None = None) -> pl.DataFrame:
    rows = [
        (f"q{i}", str(v), str(label), None if probs is None else np.log(probs[i]).tolist())
        for i, row in enumerate(labels)
        for v, label in enumerate(row)
    ]
    schema = {
        "item_id": pl.String,
        "variant_id": pl.String,
        "answer": pl.String,
        "choice_logprobs": pl.List(pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize("name", ["self_confidence", "normalized_margin", "confidence_weighted_entropy"])
def test_rank_scores_equal_cleanlab(name):
    from cleanlab.rank import get_label_quality_scores

    scores = score(long(LABELS, PROBS), [name])
    items = scores["item_id"].str.slice(1).cast(pl.Int64).to_numpy()
    expected = get_label_quality_scores(scores["answer"].cast(pl.Int64).to_numpy(), PROBS[items], method=name)
    np.testing.assert_allclose(scores["score"].to_numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(scores["label_quality"].to_numpy(), expected, rtol=1e-12)


def test_self_confidence_is_the_probability_of_the_answer():
    scores = score(long(LABELS, PROBS), ["self_confidence"])
    assert scores.filter(item_id="q0").select("answer", "score").rows() == [
        ("0", pytest.approx(0.7)),
        ("1", pytest.approx(0.2)),
    ]


def test_probabilities_are_averaged_over_variants():
    rows = [("q", "0", "0", [np.log(0.9), np.log(0.1)]), ("q", "1", "1", [np.log(0.5), np.log(0.5)])]
    answers = pl.DataFrame(rows, schema=["item_id", "variant_id", "answer", "choice_logprobs"], orient="row")
    by_answer = dict(score(answers, ["self_confidence"]).select("answer", "score").iter_rows())
    assert by_answer == {"0": pytest.approx((0.9 + 0.5) / 2), "1": pytest.approx((0.1 + 0.5) / 2)}


@pytest.mark.parametrize(("name", "consensus"), [("crowdlab", "best_quality"), ("agreement", "majority_vote")])
@pytest.mark.parametrize("probs", [PROBS, None], ids=["choice_logprobs", "vote_shares"])
def test_consensus_equals_cleanlab(name, consensus, probs):
    from cleanlab.multiannotator import get_label_quality_multiannotator

    shares = np.stack([np.mean(np.equal(LABELS, k), axis=1) for k in range(3)], axis=1)
    expected = get_label_quality_multiannotator(
        LABELS.astype(float), shares if probs is None else probs, quality_method=name, consensus_method=consensus
    )["label_quality"]
    weak = score(long(LABELS, probs), [name]).filter("weak_label")
    assert weak["answer"].cast(pl.Int64).to_list() == expected["consensus_label"].to_list()
    np.testing.assert_allclose(weak["score"].to_numpy(), expected["consensus_quality_score"].to_numpy(), rtol=1e-12)
    assert weak["label_quality"].equals(weak["score"].alias("label_quality"))


FILTERS = ["prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given"]
FILTERS += ["low_normalized_margin", "low_self_confidence"]


def noisy(num_items: int = 150, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """One label per item, a third of them wrong, and a classifier's probabilities, mostly right."""
    rng = np.random.default_rng(0)
    truth = rng.integers(num_classes, size=num_items)
    labels = np.where(rng.random(num_items) < 1 / 3, rng.integers(num_classes, size=num_items), truth)
    logits = rng.normal(size=(num_items, num_classes)) + 2.5 * (np.arange(num_classes) == truth[:, None])
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("filter_by", FILTERS)
def test_confident_learning_equals_cleanlab(filter_by):
    from cleanlab.filter import find_label_issues

    labels, probs = noisy()
    scores = score(long(labels[:, None], probs), ["confident_learning"], params=by_filter(filter_by))
    order = scores["item_id"].str.slice(1).cast(pl.Int64).to_numpy()
    issue = find_label_issues(labels, probs, filter_by=filter_by, n_jobs=1)
    assert 0 < issue.sum() < len(issue)
    assert scores["score"].to_list() == np.where(issue, 0.0, 1.0)[order].tolist()
    assert scores["label_quality"].equals(scores["score"].alias("label_quality"))


def by_filter(name: str) -> dict[str, dict[str, str]]:
    return {"confident_learning": {"filter_by": name}}


def test_confident_learning_knows_all_of_cleanlabs_filters():
    import inspect
    import re

    from cleanlab import filter as theirs

    listed = re.search(r"assert filter_by in \[(.*?)\]", inspect.getsource(theirs.find_label_issues), re.S)
    assert set(re.findall(r'"(\w+)"', listed[1])) == set(FILTERS)
    with pytest.raises(ConfigError, match=r"confident_learning\.filter_by .*'prune_by_class'.* got 'prune'"):
        score(long(LABELS, PROBS), ["confident_learning"], params=by_filter("prune"))


def test_confident_learning_judges_the_weak_label_and_stands_on_every_row():
    # the votes say 1, the probabilities 0: an issue of answer 1, on the row of answer 0 too
    labels = np.array([[0, 0, 0]] * 5 + [[1, 1, 1]] * 5 + [[1, 1, 0]])
    probs = np.array([[0.9, 0.1]] * 5 + [[0.1, 0.9]] * 5 + [[0.95, 0.05]])
    scores = score(long(labels, probs), ["confident_learning"])
    last = scores.filter(item_id="q10").select("answer", "weak_label", "score", "label_quality").rows()
    assert last == [("1", True, 0.0, 0.0), ("0", False, 0.0, None)]
    assert scores.filter(pl.col("item_id") != "q10")["score"].to_list() == [1.0] * 10


@pytest.mark.parametrize("filter_by", FILTERS)
def test_a_single_class_can_not_be_confused(filter_by):
    answers = pl.DataFrame({"item_id": ["q", "q", "r"], "answer": ["2", "2", "2"]})
    scores = score(answers, ["confident_learning"], params=by_filter(filter_by))
    assert scores.select("score", "label_quality", "weak_label").rows() == [(None, None, True)] * 2


def test_confident_learning_leaves_out_items_without_an_answer():
    labels, probs = noisy(30)
    answers = long(labels[:, None], probs)
    silent = answers.with_columns(pl.when(pl.col("item_id") != "q3").then("answer").alias("answer"))
    scores = score(silent, ["confident_learning"])
    assert scores.filter(item_id="q3").select("score", "label_quality").row(0) == (None, None)
    rest = answers.filter(pl.col("item_id") != "q3")
    assert scores.filter(pl.col("item_id") != "q3").equals(score(rest, ["confident_learning"]))
    # in the paper's protocol "no answer" is a weak label, and none that can be an issue
    assert score(silent, ["confident_learning"], protocol="paper").filter(item_id="q3")["score"].to_list() == [None]


def test_no_method_here_is_item_wise():
    # the number of classes of texts is the table's: ln 3 and not ln 2 turns x = H / ln K / p
    texts = pl.DataFrame({"item_id": [*"qqqr"], "answer": ["cat", "cat", "dog", "owl"]})
    name = "confidence_weighted_entropy"
    assert score(texts, [name])["score"][0] != score(texts.filter(item_id="q"), [name])["score"][0]
    adapters = ["self_confidence", "normalized_margin", name, "confident_learning", "crowdlab", "agreement"]
    assert not any(methods.get(adapter).item_wise for adapter in adapters)


@pytest.mark.parametrize("table", ["d_Duck_Identification", "s4_Dog_data"])
def test_on_crowd_labels_all_adapters_equal_cleanlab(table):
    from cleanlab import filter as issues
    from cleanlab import multiannotator, rank

    file = CROWD / f"{table}.answer.csv"
    if not file.is_file():
        pytest.skip(f"the crowd data set is not here: {file}")
    answers = pl.read_csv(file, infer_schema=False).rename({"question": "item_id", "worker": "annotator_id"})
    item_ids, workers, classes = (sorted(answers[column].unique()) for column in ("item_id", "annotator_id", "answer"))
    codes = [{name: code for code, name in enumerate(names)} for names in (item_ids, workers, classes)]
    rows = answers.select("item_id", "annotator_id", "answer").rows()
    item, worker, answer = np.array([[code[name] for code, name in zip(codes, row, strict=True)] for row in rows]).T
    wide = np.full((len(item_ids), len(workers)), np.nan)
    wide[item, worker] = answer
    assert np.isfinite(wide).sum() == answers.height  # each worker answered an item once
    shares = np.stack([(wide == k).sum(axis=1) for k in range(len(classes))], axis=1).astype(float)
    shares /= shares.sum(axis=1, keepdims=True)

    def ours(name: str, **params: str) -> pl.DataFrame:
        frame = score(answers, [name], params={name: params}).filter("weak_label").sort("item_id")
        assert frame["item_id"].to_list() == item_ids
        return frame

    given = np.array([classes.index(answer) for answer in ours("share")["answer"]])
    for name in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        expected = rank.get_label_quality_scores(given, shares, method=name)
        np.testing.assert_allclose(ours(name)["score"].to_numpy(), expected, rtol=0, atol=1e-9)
    for name in FILTERS:
        found = issues.find_label_issues(given, shares, filter_by=name, n_jobs=1)
        assert ours("confident_learning", filter_by=name)["score"].to_list() == np.where(found, 0.0, 1.0).tolist()
    for name, consensus in (("crowdlab", "best_quality"), ("agreement", "majority_vote")):
        np.random.seed(0)  # for cleanlab's last ties, drawn after all others
        expected = multiannotator.get_label_quality_multiannotator(
            wide, shares, quality_method=name, consensus_method=consensus, verbose=False
        )["label_quality"]
        got = ours(name)
        assert [classes.index(answer) for answer in got["answer"]] == expected["consensus_label"].to_list()
        np.testing.assert_allclose(got["score"].to_numpy(), expected["consensus_quality_score"], rtol=0, atol=1e-9)


def test_certain_answers_have_the_best_quality_where_cleanlab_says_zero():
    scores = score(
        pl.DataFrame({"item_id": ["q", "q", "r", "r"], "answer": ["0", "0", "0", "1"]}), ["confidence_weighted_entropy"]
    )
    assert scores.filter(item_id="q").select("score", "label_quality").row(0) == (0.0, 1.0)
    assert scores.filter(item_id="r").select((pl.col("score") == pl.col("label_quality")).all()).item()


def test_agreement_names_answers_that_were_given():
    # cleanlab's "best_quality" moves the votes of q1 into column 0 because the item lacks classes
    scores = score(long(LABELS), ["agreement"]).filter("weak_label")
    assert scores.filter(item_id="q1").select("answer", "score").row(0) == ("2", 1.0)


def test_consensus_without_votes_gets_a_row_of_its_own():
    labels = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 1, 2]] * 3)
    probs = np.full((15, 4), 0.01)
    probs[np.arange(15), labels[:, 0]] = 0.97
    probs[4::5] = [0.01, 0.01, 0.01, 0.97]  # three-way ties, while the model is sure of a fourth answer
    scores = score(long(labels, probs), ["crowdlab"])
    added = scores.filter(pl.col("num_votes") == 0)
    assert added["item_id"].to_list() == ["q4", "q9", "q14"]
    assert added.select("answer", "num_answers", "share", "reliability", "weak_label").unique().rows() == [
        ("3", 3, 0.0, None, True)
    ]
    assert scores["item_id"].unique(maintain_order=True).to_list() == [f"q{i}" for i in range(15)]


def test_number_of_classes_comes_from_the_items():
    # p = (2/3, 1/3): normalised entropy .6365 / ln K, so four choices make a smaller x than two
    answers = pl.DataFrame({"item_id": ["q"] * 3, "answer": ["0", "0", "1"]})
    items = pl.DataFrame({"item_id": ["q", "other"], "choices": [["a", "b", "c", "d"], ["a", "b"]]})
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    for given, k in ((items, 4), (None, 2)):
        x = entropy / np.log(k) / (2 / 3)
        got = score(answers, ["confidence_weighted_entropy"], items=given).filter("weak_label")["score"].item()
        assert got == pytest.approx(np.log1p(x) / x)


def test_number_of_classes_comes_from_the_user_where_items_do_not_tell():
    from labelrel.scoring.classes import class_groups
    from labelrel.scoring.frames import read_answers

    def sizes(answers: list[str], items: pl.DataFrame | None = None, choices: int | None = 4) -> dict[str, list[str]]:
        rows = pl.DataFrame({"item_id": [f"q{i}" for i in range(len(answers))], "answer": answers})
        groups = class_groups(read_answers(rows).frame(), items, choices)
        return {item: group.classes for group in groups for item in group.item_ids}

    assert sizes(["0", "1"]) == {"q0": ["0", "1", "2", "3"], "q1": ["0", "1", "2", "3"]}
    assert sizes(["0", "1"], choices=None) == {"q0": ["0", "1"], "q1": ["0", "1"]}
    # counted from 1, so no item has indices, not even the one without a "4"
    assert sizes(["1", "4"]) == {"q0": ["1", "4"], "q1": ["1", "4"]}
    items = pl.DataFrame({"item_id": ["q0", "q1"], "choices": [["a", "b"], None]})
    assert sizes(["0", "1"], items) == {"q0": ["0", "1"], "q1": ["0", "1", "2", "3"]}
    assert sizes(["0", "cat"], items) == {"q0": ["0", "1"], "q1": ["cat"]}


def test_items_with_different_numbers_of_choices_are_scored_apart():
    halves = PROBS[:2, :2] / PROBS[:2, :2].sum(axis=1, keepdims=True)
    binary = long(LABELS[:2] % 2, halves).with_columns(pl.format("two-{}", "item_id").alias("item_id"))
    answers = pl.concat([long(LABELS, PROBS), binary])
    both = score(answers, ["self_confidence", "crowdlab"])
    three = score(long(LABELS, PROBS), ["self_confidence", "crowdlab"])
    assert both.filter(~pl.col("item_id").str.starts_with("two-")).equals(three)


def test_text_answers_are_classes_of_the_whole_table():
    answers = pl.DataFrame({"item_id": [*"aaabbb"], "answer": ["cat", "cat", "dog", "owl", "owl", "owl"]})
    scores = score(answers, ["self_confidence", "crowdlab"]).filter("weak_label")
    assert scores["answer"].to_list() == ["cat", "owl"] * 2
    assert scores.filter(method="self_confidence")["score"].to_list() == pytest.approx([2 / 3, 1])


def test_single_class_table_is_scored():
    scores = score(pl.DataFrame({"item_id": ["q", "q"], "answer": ["yes", "yes"]}), ["normalized_margin", "crowdlab"])
    assert scores["label_quality"].to_list() == pytest.approx([1, 1])


@pytest.mark.parametrize("pattern", ["01", "010011"], ids=["every item tied", "one item not"])
@pytest.mark.parametrize("name", ["crowdlab", "agreement"])
def test_last_ties_are_broken_the_same_way_and_quietly(name, pattern):
    # pairs of answers per item: with "01" there is no majority anywhere, and cleanlab alone fails
    answers = pl.DataFrame({"item_id": [f"q{i // 2}" for i in range(48)], "answer": [*pattern] * (48 // len(pattern))})
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = score(answers, [name])  # warnings are errors here
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(99)
    assert first.equals(score(answers, [name]))
    assert first.filter("weak_label")["item_id"].n_unique() == 24


def test_source_of_the_probabilities_is_told():
    with_probs = long(LABELS, PROBS)
    assert label_probs_source(with_probs) == "choice_logprobs"
    assert label_probs_source(long(LABELS)) == "vote_shares"
    assert label_probs_source(with_probs.drop("choice_logprobs")) == "vote_shares"
    one_item_lacks = with_probs.with_columns(
        pl.when(pl.col("item_id") != "q0").then("choice_logprobs").alias("choice_logprobs")
    )
    assert label_probs_source(one_item_lacks) == "vote_shares"
    assert score(one_item_lacks, ["self_confidence"])["score"][0] == pytest.approx(2 / 3)


def logprobs(*rows: list[float] | None, answers: str = "01") -> pl.DataFrame:
    return pl.DataFrame(
        {"item_id": ["q"] * len(rows), "answer": [*answers][: len(rows)], "choice_logprobs": list(rows)},
        schema_overrides={"choice_logprobs": pl.List(pl.Float64)},
    )


HALF = float(np.log(0.5))


@pytest.mark.parametrize(
    ("answers", "items", "match"),
    [
        (logprobs([-0.1, -0.1]), None, "of item q are no log-probabilities: their exponentials sum to 1.81, not 1"),
        (logprobs([float("nan"), HALF]), None, "sum to nan"),
        (logprobs([float("inf"), HALF]), None, "sum to inf"),
        (logprobs([None, 0.0]), None, "or one is missing"),
        (logprobs([HALF, HALF], [0.0]), None, "differ in length between rows"),
        (logprobs([HALF, HALF], answers="7"), None, "no choice index, such as '7'.*0 to 1"),
        (
            logprobs([HALF, HALF]),
            pl.DataFrame({"item_id": ["q"], "choices": [["a", "b", "c"]]}),
            "item q has 3 choices but choice_logprobs of 2",
        ),
    ],
)
def test_bad_probabilities_are_told_in_one_line(answers, items, match):
    with pytest.raises(InputError, match=match):
        score(answers, ["self_confidence"], items=items)


@pytest.mark.parametrize("name", ["crowdlab", "agreement"])
def test_one_answer_per_item_cannot_be_compared(name):
    with pytest.raises(InputError, match=f"'{name}' compares annotators, but no item has two parsed answers"):
        score(pl.DataFrame({"item_id": ["a", "b"], "answer": ["0", "1"]}), [name])


def test_open_answers_without_end_are_refused_with_a_way_out(monkeypatch):
    from labelrel.scoring import classes

    monkeypatch.setattr(classes, "_MOST_CELLS", 10)
    answers = pl.DataFrame({"item_id": [*"aabbcc"], "answer": [*"123456"]})
    with pytest.raises(InputError, match=r"3 items with 6 classes are too many.*share, entropy"):
        score(answers, ["self_confidence"])


def test_a_majority_is_found_whatever_order_polars_returns_the_counts_in():
    rows = [("q1", "v0", "a"), ("q1", "v1", "b"), ("q1", "v2", "a"), ("q2", "v0", "b"), ("q2", "v1", "a")]
    table = pl.DataFrame(rows, schema=["item_id", "annotator_id", "answer"], orient="row")
    first = score(table, ["crowdlab", "agreement"])
    for _ in range(20):
        assert_frame_equal(score(table, ["crowdlab", "agreement"]), first, check_exact=True)

"""GLAD: its objective and gradient, crowd-kit's solution below ours, gold, abilities."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest
from crowd_tables import (
    accuracy,
    crowdkit,
    difference,
    for_crowdkit,
    inputs_of,
    labels,
    make_answers,
    run_crowdkit,
    table,
)

from labelrel.scoring.annotators.glad import GladParams, glad
from labelrel.scoring.annotators.glad_climb import State, climb, marginal, maximise
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs


def read(inputs: Inputs) -> Table:
    with Lanes() as lanes:
        return read_table(inputs, lanes)


def value_at(inputs: Inputs, ability: np.ndarray, easiness: np.ndarray) -> float:
    with Lanes() as lanes:
        return marginal(read(inputs), lanes, State(ability, easiness))[0]


def test_objective_by_hand():
    answers = pl.DataFrame({"item_id": ["q", "q"], "annotator_id": ["r", "s"], "answer": ["a", "b"]})
    ability, easiness = np.array([1.0, 2.0]), np.array([0.5])
    # K = 3: r is right by sigmoid(e^.5), s by sigmoid(2 e^.5); a wrong answer has half of the rest; priors 1/3
    r, s = 1 / (1 + np.exp(-np.exp(0.5))), 1 / (1 + np.exp(-2 * np.exp(0.5)))
    both = r * (1 - s) / 2 + (1 - r) / 2 * s + (1 - r) / 2 * (1 - s) / 2
    expected = np.log(both / 3) - (2 - 1) ** 2 / 2 - (0.5 - 1) ** 2 / 2
    assert value_at(inputs_of(answers, choices=3), ability, easiness) == pytest.approx(expected)


def test_gradient_is_the_slope_of_the_objective():
    answers, truth = make_answers(30, 8, 4, 4, abstain=0.2, seed=2)
    gold = truth.gather_every(5).with_columns(gold_label=pl.Series(["a", "z", "b", "c", "a", "z"]))
    found = read(inputs_of(answers, gold, choices=6))
    x = np.random.default_rng(0).normal(size=8 + found.num_answered)
    with Lanes() as lanes:

        def value(point: np.ndarray) -> float:
            return marginal(found, lanes, State(point[:8], point[8:]))[0]

        _, slope = marginal(found, lanes, State(x[:8], x[8:]))
        steps = 1e-6 * np.eye(len(x))
        numeric = [(value(x + step) - value(x - step)) / 2e-6 for step in steps]
    assert slope.flat() == pytest.approx(numeric, abs=1e-6)


@cache
def small(name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables that crowd-kit fits in a second."""
    if name == "adversaries":
        return make_answers(40, 8, 4, 4, accuracy=(0.05, 0.7), seed=2)
    if name == "binary":
        return make_answers(40, 8, 2, 4, abstain=0.1, seed=3)
    answers, truth = table(name)
    some = truth["item_id"].head(15).to_list()
    return answers.filter(pl.col("item_id").is_in(some)), truth


SMALL = ["adversaries", "binary", "d_Duck_Identification", "s4_Dog_data"]


@cache
def crowdkit_glad(name: str):
    """Return crowd-kit's fit; it is slow."""
    return run_crowdkit(crowdkit.GLAD(n_iter=3), for_crowdkit(small(name)[0]))


@pytest.mark.parametrize("name", SMALL)
def test_em_takes_crowdkit_s_way(name):
    answers, truth = small(name)
    inputs = inputs_of(answers)
    theirs = crowdkit_glad(name)
    fitted = glad(inputs, GladParams(iterations=3))
    # conjugate gradients make more of the last bits of a sum with every step
    assert difference(inputs, fitted, theirs.probas_) < 1e-4
    with Lanes() as lanes:
        _, last, history = climb(read(inputs), lanes, 3, 1e-5)
    assert len(history) == len(theirs.loss_history_)
    abilities = theirs.alphas_.reindex(inputs.votes.raters[1].to_list()).fillna(1.0).to_numpy()
    assert last.ability == pytest.approx(abilities, abs=5e-3)
    assert accuracy(labels(inputs, fitted), truth) >= accuracy(theirs.labels_.to_dict(), truth) - 0.005


@pytest.mark.parametrize("name", SMALL)
def test_the_direct_way_ends_no_lower_than_crowdkit_s_and_than_ours(name):
    inputs = inputs_of(small(name)[0])
    theirs = crowdkit_glad(name)
    found = read(inputs)
    items = inputs.votes.item_ids.gather(np.concatenate([block.items for block in found.blocks])).to_list()
    ability = theirs.alphas_.reindex(found.raters.to_list()).fillna(1.0).to_numpy()
    with Lanes() as lanes:
        top = marginal(found, lanes, maximise(found, lanes, 200, 1e-9))[0]
        there = marginal(found, lanes, State(ability, theirs.betas_.reindex(items).to_numpy()))[0]
        ours = marginal(found, lanes, climb(found, lanes, 3, 1e-5)[1])[0]
    assert top >= there
    assert top >= ours


@pytest.mark.parametrize("seed", range(4))
def test_rounds_of_em_never_decrease_the_penalised_likelihood(seed):
    answers, truth = make_answers(60, 8, 3, 4, abstain=0.2, accuracy=(0.1, 0.95), seed=seed)
    found = read(inputs_of(answers, truth.head(6) if seed % 2 else None))
    with Lanes() as lanes:
        old, _, history = climb(found, lanes, 12, -np.inf)
        assert history[-1] == pytest.approx(marginal(found, lanes, old)[0])
    assert len(history) == 12
    assert np.diff(history).min() > -1e-9


def test_the_maximum_is_flat():
    found = read(inputs_of(table("s4_Dog_data")[0]))
    with Lanes() as lanes:
        value, slope = marginal(found, lanes, maximise(found, lanes, 200, 1e-9))
        start, steep = marginal(found, lanes, State.start(found))
    assert value > start + 10
    assert np.abs(slope.flat()).max() < np.abs(steep.flat()).max() / 100


def test_more_steps_climb_higher():
    found = read(inputs_of(table("sparse")[0]))
    with Lanes() as lanes:
        values = [marginal(found, lanes, maximise(found, lanes, steps, 0.0))[0] for steps in (1, 3, 10, 40)]
    assert np.diff(values).min() > 0


@pytest.mark.parametrize("way", ["em", "direct"])
def test_order_of_rows_changes_nothing_at_all(way):
    answers, _ = make_answers(80, 10, 4, 3, abstain=0.1, seed=8)
    shuffled = answers.sample(fraction=1, shuffle=True, seed=1)
    plain, other = (glad(inputs_of(a), GladParams(climb=way)) for a in (answers, shuffled))
    assert plain.annotators.equals(other.annotators)
    of_plain = dict(zip(inputs_of(answers).votes.item_ids, plain.best_prob, strict=True))
    assert dict(zip(inputs_of(shuffled).votes.item_ids, other.best_prob, strict=True)) == pytest.approx(
        of_plain, abs=0, nan_ok=True
    )


def test_abilities_follow_accuracies():
    answers, truth = make_answers(400, 10, 3, 5, accuracy=(0.2, 0.95), seed=9)
    fitted = glad(inputs_of(answers), GladParams())
    right = (
        answers.join(truth, on="item_id")
        .group_by("annotator_id")
        .agg((pl.col("answer") == pl.col("gold_label")).mean())
    )
    both = fitted.annotators.join(right, left_on="annotator", right_on="annotator_id")
    assert both.select(pl.corr("ability", "answer", method="spearman")).item() > 0.95


def test_gold_is_its_item_s_posterior():
    answers, truth = make_answers(60, 8, 3, 4, seed=6)
    inputs = inputs_of(answers, truth.head(20))
    fitted = glad(inputs, GladParams())
    found = labels(inputs, fitted)
    assert all(found[item] == label for item, label in truth.head(20).iter_rows())
    assert (fitted.best_prob[:20] == 1).all()

"""MACE: crowd-kit's rounds from the same start, a step by hand, restarts, likelihood, gold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from crowd_tables import (
    ALL,
    REAL,
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

from labelrel.scoring.annotators import mace as module
from labelrel.scoring.annotators.finish import finish
from labelrel.scoring.annotators.lanes import Lanes
from labelrel.scoring.annotators.mace import MaceParams, Model, State, climb, mace
from labelrel.scoring.annotators.table import Table, read_table
from labelrel.scoring.base import Inputs
from labelrel.scoring.fitted import Fitted


def read(inputs: Inputs, params: MaceParams) -> tuple[Table, Model]:
    with Lanes() as lanes:
        found = read_table(inputs, lanes, use_cells=True)
    return found, Model(found.cells, len(found.raters), found.most_possible, params)


def fit_from(inputs: Inputs, start: State, params: MaceParams) -> Fitted:
    found, model = read(inputs, params)
    with Lanes() as lanes:
        state, _ = climb(found.blocks, model, start, params, lanes)
        posteriors = [module._posterior(block, model, state) for block in found.blocks]
        return finish(inputs.votes, found, posteriors, found.annotators(), lanes)


def by_appearance(column: pl.Series) -> dict[str, str]:
    return {name: f"{number:05d}" for number, name in enumerate(column.unique(maintain_order=True))}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("method", ["vb", "em"])
def test_rounds_from_the_same_start_are_crowdkit_s(name, method):
    answers = table(name)[0].drop_nulls("answer")
    # crowd-kit numbers names by appearance in one place and by the alphabet in another: make both the same
    annotators, names = by_appearance(answers["annotator_id"]), by_appearance(answers["answer"])
    answers = answers.with_columns(pl.col("annotator_id").replace(annotators), pl.col("answer").replace(names))
    inputs = inputs_of(answers)
    params = MaceParams(iterations=15, method=method, tolerance=0.0)
    theirs = crowdkit.MACE(n_restarts=1, n_iter=15, method=method)
    theirs._initialize(len(annotators), len(names))
    _, model = read(inputs, params)
    strategy = theirs.thetas_[model.cells.rater, model.cells.answer]
    start = State(theirs.spamming_[:, 0], theirs.spamming_[:, 1], strategy)
    fitted = fit_from(inputs, start, params)
    assert difference(inputs, fitted, run_crowdkit(theirs, for_crowdkit(answers)).probas_) < 1e-7


@pytest.mark.parametrize("name", REAL)
def test_restarts_are_as_accurate_as_crowdkit_s(name):
    answers, truth = table(name)
    inputs = inputs_of(answers)
    theirs = run_crowdkit(crowdkit.MACE(n_restarts=1, n_iter=50), for_crowdkit(answers))
    ours = accuracy(labels(inputs, mace(inputs, MaceParams(restarts=3))), truth)
    assert ours >= accuracy(theirs.labels_.to_dict(), truth) - 0.005


def test_one_expectation_by_hand():
    answers = pl.DataFrame({"item_id": ["q", "q"], "annotator_id": ["r", "s"], "answer": ["a", "b"]})
    # theta .8 and .5, xi 1/2: r is right by .8 + .2/2 = .9 and wrong by .1, s by .75 and .25
    start = State(np.array([0.2, 0.5]), np.array([0.8, 0.5]), np.array([0.5, 0.5]))
    inputs = inputs_of(answers)
    found, model = read(inputs, MaceParams())
    with Lanes() as lanes:
        right, likelihood = module._expect(found.blocks, model, start, np.ones(2), lanes)
    a, b = 0.9 * 0.25 / 2, 0.1 * 0.75 / 2
    assert right.tolist() == pytest.approx([a / (a + b), b / (a + b)])
    assert likelihood == pytest.approx(np.log(a + b))


def test_em_step_by_hand():
    answers = pl.DataFrame({"item_id": ["p", "q"], "annotator_id": ["r", "r"], "answer": ["a", "b"]})
    _, model = read(inputs_of(answers), MaceParams(method="em", smoothing=0.5))
    state = model.maximise(np.array([0.25, 0.5]), np.array([0.75, 0.5]))
    # spam .75 + .5 of 2 + 1, know 1.25 + .5; strategy (.25 + .5) and (.5 + .5) of .75 + 1
    assert (state.spam[0], state.know[0]) == pytest.approx((1.25 / 3, 1.75 / 3))
    assert state.strategy.tolist() == pytest.approx([0.75 / 1.75, 1 / 1.75])


@pytest.mark.parametrize("seed", range(8))
def test_em_never_decreases_the_smoothed_likelihood(seed):
    answers, truth = make_answers(40, 8, 3, 4, abstain=0.2, accuracy=(0.2, 0.95), seed=seed)
    inputs = inputs_of(answers, truth.head(4) if seed % 2 else None)
    add = 0.3
    params = MaceParams(method="em", smoothing=add, iterations=1, tolerance=0.0)
    found, model = read(inputs, params)
    state, values = model.start(np.random.default_rng(seed)), []
    for _ in range(25):
        state, history = climb(found.blocks, model, state, params)
        unused = model.possible - np.bincount(model.cells.rater, minlength=model.num_raters)
        total = np.bincount(model.cells.rater, state.strategy, model.num_raters)
        rest = np.log(np.where(unused > 0, (1 - total) / np.maximum(unused, 1), 1.0))  # answers never given share it
        penalty = np.log(state.spam).sum() + np.log(state.know).sum() + np.log(state.strategy).sum() + unused @ rest
        values.append(history[-1] + add * penalty)
    assert np.diff(values).min() > -1e-8


def test_stops_when_competences_stand_still():
    inputs = inputs_of(table("dense")[0])
    found, model = read(inputs, MaceParams())
    start = model.start(np.random.default_rng(0))
    lengths = [len(climb(found.blocks, model, start, MaceParams(iterations=200, tolerance=t))[1]) for t in (1e-2, 1e-5)]
    assert lengths[0] < lengths[1] < 200


def test_the_likeliest_restart_is_kept():
    inputs = inputs_of(table("sparse")[0])
    params = MaceParams(restarts=4, iterations=8)
    found, model = read(inputs, params)
    ends = [climb(found.blocks, model, model.start(np.random.default_rng([0, k])), params) for k in range(4)]
    likelihoods = [history[-1] for _, history in ends]
    assert len(set(likelihoods)) == 4
    best = ends[int(np.argmax(likelihoods))][0]
    expected = np.where(found.num_rows > 0, best.know, np.nan)
    assert mace(inputs, params).annotators["competence"].to_numpy() == pytest.approx(expected, nan_ok=True)


def test_restarts_on_a_sample_end_where_restarts_on_all_do(monkeypatch):
    inputs = inputs_of(make_answers(1500, 12, 3, 4, seed=4)[0])
    params = MaceParams(iterations=300, restarts=2, tolerance=1e-8)
    whole = mace(inputs, params)
    monkeypatch.setattr(module, "_ALL", 1000)
    monkeypatch.setattr(module, "_SAMPLE", 1000)
    with Lanes() as lanes:
        found, _ = read(inputs, params)
        drawn = module._sample(inputs.votes.item_ids, found, lanes)
    assert 700 < sum(len(block.index) for block in drawn) < 1300
    assert np.abs(mace(inputs, params).probs - whole.probs).max() < 1e-4


def test_gold_is_its_item_s_posterior():
    answers, truth = make_answers(60, 8, 3, 4, seed=6)
    gold = truth.head(20).with_columns(gold_label=pl.lit("nobody said this"))
    inputs = inputs_of(answers, gold)
    fitted = mace(inputs, MaceParams(restarts=2))
    found = labels(inputs, fitted)
    assert {found[item] for item in gold["item_id"]} == {"nobody said this"}
    assert (fitted.probs[: fitted.offsets[20]] == 0).all()


def test_a_spammer_has_no_competence():
    answers, _ = make_answers(200, 6, 4, 5, accuracy=(0.8, 0.9), seed=7)
    same = answers.unique("item_id", maintain_order=True).with_columns(annotator_id=pl.lit("zzz"), answer=pl.lit("a"))
    fitted = mace(inputs_of(pl.concat([answers, same])), MaceParams(restarts=3))
    competence = dict(fitted.annotators.select("annotator", "competence").iter_rows())
    assert competence.pop("zzz") < 0.05
    assert min(competence.values()) > 0.6

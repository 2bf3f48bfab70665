"""Answers, real and made up, as tables and as crowd-kit takes them; and crowd-kit's answers to them."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from labelrel.scoring.base import Inputs
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.frames import read_answers

CROWD = Path(__file__).resolve().parents[3] / "../shared/data/crowd"
REAL = ("d_Duck_Identification", "s4_Dog_data")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # crowd-kit's imports are not ours to mend
    from crowdkit import aggregation as crowdkit


def make_answers(
    num_items: int = 200,
    num_annotators: int = 20,
    num_classes: int = 4,
    per_item: int = 5,
    *,
    abstain: float = 0.0,
    accuracy: tuple[float, float] = (0.4, 0.9),
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return answers of annotators with one accuracy each, and the truth; each item has `per_item` of them."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(num_classes, size=num_items)
    skill = rng.uniform(*accuracy, num_annotators)
    item = np.repeat(np.arange(num_items), per_item)
    annotator = np.argsort(rng.random((num_items, num_annotators)), axis=1)[:, :per_item].ravel()
    wrong = (truth[item] + rng.integers(1, num_classes, size=len(item))) % num_classes
    answer = np.where(rng.random(len(item)) < skill[annotator], truth[item], wrong)
    answers = pl.DataFrame(
        {
            "item_id": [f"q{i:04d}" for i in item],
            "annotator_id": [f"w{a:03d}" for a in annotator],
            "answer": ["abcdefgh"[a] for a in answer],
        }
    )
    silent = pl.Series(rng.random(len(item)) < abstain)
    answers = answers.with_columns(answer=pl.when(silent).then(None).otherwise("answer"))
    gold = {"item_id": [f"q{i:04d}" for i in range(num_items)], "gold_label": ["abcdefgh"[c] for c in truth]}
    return answers, pl.DataFrame(gold)


@cache
def table(name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return answers and truth of a data set by name."""
    if name == "dense":
        return make_answers()
    if name == "sparse":  # some items lose all their answers
        return make_answers(200, 40, 6, 3, abstain=0.25, seed=1)
    if not CROWD.is_dir():
        pytest.skip("the crowd data sets are not beside this checkout")
    answers = pl.read_csv(CROWD / f"{name}.answer.csv", infer_schema=False)
    truth = pl.read_csv(CROWD / f"{name}.truth.csv", infer_schema=False)
    return (
        answers.rename({"question": "item_id", "worker": "annotator_id"}),
        truth.rename({"question": "item_id", "truth": "gold_label"}),
    )


ALL = (*REAL, "dense", "sparse")


def inputs_of(answers: pl.DataFrame, gold: pl.DataFrame | None = None, **settings: Any) -> Inputs:
    return Inputs(votes=read_answers(answers), gold=gold, **settings)


def for_crowdkit(answers: pl.DataFrame) -> Any:
    """Return the answers as crowd-kit's pandas table."""
    columns = answers.drop_nulls("answer").select(task="item_id", worker="annotator_id", label="answer")
    return columns.to_pandas().astype(object)


def run_crowdkit(model: Any, *arguments: Any, **keywords: Any) -> Any:
    """Return the fitted model; its warnings are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(*arguments, **keywords)


@cache
def crowdkit_mmsr(name: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return crowd-kit's skills and labels for a table; they are slow to get."""
    theirs = for_crowdkit(table(name)[0])
    model = run_crowdkit(crowdkit.MMSR(), theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.skills_.to_dict(), model.predict(theirs).to_dict()


def posteriors(inputs: Inputs, fitted: Fitted) -> pl.DataFrame:
    """Return `item_id, answer, prob` of every observed pair."""
    votes = inputs.votes
    pairs = votes.frame().drop_nulls("answer").unique(["item_id", "answer"]).select("item_id", "answer")
    place = pl.DataFrame({"item_id": votes.item_ids}).with_row_index("place")
    code = pl.DataFrame({"answer": votes.answers}).with_row_index("code")
    ordered = pairs.join(place, on="item_id").join(code, on="answer").sort("place", "code")
    assert ordered.height == len(fitted.probs)
    assert (np.repeat(np.arange(votes.num_items), np.diff(fitted.offsets)) == ordered["place"].to_numpy()).all()
    return ordered.select("item_id", "answer", prob=pl.Series(fitted.probs))


def difference(inputs: Inputs, fitted: Fitted, theirs: Any) -> float:
    """Return how far the posteriors of observed pairs are from crowd-kit's table, at the most."""
    ours = posteriors(inputs, fitted)
    rows = theirs.index.get_indexer(ours["item_id"].to_list())
    columns = theirs.columns.get_indexer(ours["answer"].to_list())
    assert (rows >= 0).all()
    assert (columns >= 0).all()
    return float(np.abs(theirs.to_numpy()[rows, columns] - ours["prob"].to_numpy()).max())


def labels(inputs: Inputs, fitted: Fitted) -> dict[str, str]:
    """Return item → likeliest label of the answered items."""
    answered = fitted.best >= 0
    names = fitted.classes.gather(fitted.best[answered])
    return dict(zip(inputs.votes.item_ids.filter(pl.Series(answered)), names, strict=True))


def accuracy(found: dict[str, str], truth: pl.DataFrame) -> float:
    """Return the share of the labelled items that are right."""
    gold = dict(truth.iter_rows())
    known = [item for item in found if item in gold]
    return float(np.mean([found[item] == gold[item] for item in known]))

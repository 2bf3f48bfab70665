"""How good the scores are on the items they were made for; gold serves for this report only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from labelrel.errors import InputError
from labelrel.evaluate.agreement import wilson
from labelrel.evaluate.calibration import calibration_bins, ece
from labelrel.evaluate.metrics import augrc, aurc, auroc, risk_coverage
from labelrel.evaluate.reliability import risk_coverage_interval
from labelrel.files import read_table
from labelrel.report.runs import Sources
from labelrel.schema import check_items, check_scores

SPLIT = "w2s"
EXAMPLES = 6
LONGEST = 400  # characters of a question that are shown: some are whole stories
NUM_BINS = 10
MOST_LEVELS = 16  # five votes have 7 patterns; twenty have hundreds, more than bars can be told apart


def read_labels(sources: Sources) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read items and scores.

    Raises:
        InputError: a stage has not been run, or its table is broken.
    """
    for path, stage in ((sources.items, "prepare"), (sources.scores, "score")):
        if not path.is_file():
            raise InputError(f"no such file: {path}; run `labelrel {stage}` first.")
    items = check_items(read_table(sources.items), str(sources.items))
    return items, check_scores(read_table(sources.scores), str(sources.scores))


def with_gold(scores: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Join scored answers to the weak-labelled items that have a gold label.

    Returns:
        One row per scored answer with a gold label to hold it against: the columns of the scores table,
        `question, choices, gold_label` and `correct`. Called with the weak labels alone, one row per
        (method, item).
    """
    known = items.filter((pl.col("split") == SPLIT) & pl.col("gold_label").is_not_null())
    joined = scores.join(known.select("item_id", "question", "choices", "gold_label"), on="item_id", how="inner")
    return joined.with_columns(correct=pl.col("answer") == pl.col("gold_label")).filter(pl.col("correct").is_not_null())


def score_table(labels: pl.DataFrame) -> pl.DataFrame:
    """Return one row per scoring method: how well its label quality tells right labels from wrong ones.

    Args:
        labels: weak labels as `with_gold` returns them.

    Returns:
        `method, num_items, num_scored` (items whose label quality is not null), `label_accuracy`,
        `auroc` (.5 says nothing; null where all labels are right or all wrong), `aurc` and `augrc`
        (lower is better).
    """
    rows = []
    for (method,), group in labels.group_by("method", maintain_order=True):
        scored = group.filter(pl.col("label_quality").is_not_null())
        quality, correct = scored["label_quality"].to_numpy(), scored["correct"].to_numpy()
        rows.append(
            {
                "method": method,
                "num_items": group.height,
                "num_scored": scored.height,
                "label_accuracy": group["correct"].mean(),
                "auroc": auroc(quality, correct) if scored.height else None,
                "aurc": aurc(quality, correct) if scored.height else None,
                "augrc": augrc(quality, correct) if scored.height else None,
            }
        )
    kinds = {"method": pl.String, "num_items": pl.Int64, "num_scored": pl.Int64}
    numbers = dict.fromkeys(("label_accuracy", "auroc", "aurc", "augrc"), pl.Float64)
    return pl.DataFrame(rows, schema={**kinds, **numbers})


def risk_curves(labels: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return scoring method → its risk-coverage curve, for methods that score at least one item."""
    scored = labels.filter(pl.col("label_quality").is_not_null())
    return {
        str(method): risk_coverage(group["label_quality"].to_numpy(), group["correct"].to_numpy())
        for (method,), group in scored.group_by("method", maintain_order=True)
    }


def risk_bands(
    labels: pl.DataFrame, names: Sequence[str], *, confidence: float, resamples: int, seed: int
) -> dict[str, pl.DataFrame]:
    """Return scoring method → its risk-coverage curve with intervals, the item being what is drawn.

    Args:
        labels: weak labels as `with_gold` returns them.
        names: the scoring methods.
        confidence: level of the intervals, in (0, 1).
        resamples: number of bootstrap draws of items.
        seed: of the draws.

    Returns:
        Tables as `risk_coverage_interval` returns them.
    """
    bands = {}
    for name in names:
        scored = _scored(labels, name)
        bands[name] = risk_coverage_interval(
            scored["label_quality"].to_numpy(),
            scored["correct"].to_numpy(),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
    return bands


class Diagram(NamedTuple):
    """A reliability diagram.

    Attributes:
        bins: `bin, num_labels, probability` (mean label quality), `accuracy, low, high` (its Wilson
            interval), bins of about equal size, ties whole.
        ece: expected calibration error over these bins.
        num_labels: labels it rests on.
    """

    bins: pl.DataFrame
    ece: float
    num_labels: int


def diagram(labels: pl.DataFrame, name: str, *, confidence: float) -> Diagram:
    """Hold a method's label quality against how often the label is right.

    Args:
        labels: weak labels as `with_gold` returns them.
        name: a scoring method that scored at least one of them.
        confidence: level of the intervals, in (0, 1).

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2; equal mass: Nguyen & O'Connor 2015.
    """
    scored = _scored(labels, name)
    quality, correct = scored["label_quality"].to_numpy(), scored["correct"].to_numpy()
    bins = calibration_bins(quality, correct, num_bins=NUM_BINS, binning="mass")
    right = bins["accuracy"] * bins["num_labels"]
    ends = [wilson(float(r), int(n), confidence) for r, n in zip(right, bins["num_labels"], strict=True)]
    low, high = (pl.Series([end[i] for end in ends if end], dtype=pl.Float64) for i in (0, 1))
    error = ece(quality, correct, num_bins=NUM_BINS, binning="mass")
    return Diagram(bins.with_columns(low=low, high=high), error, scored.height)


def _scored(labels: pl.DataFrame, name: str) -> pl.DataFrame:
    return labels.filter((pl.col("method") == name) & pl.col("label_quality").is_not_null())


def entropy_bars(scores: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Count right and wrong answers per level of vote entropy, as the paper's figure 3 does.

    The unit is the answer: an item counts once per vote.

    Args:
        scores: a scores table; its rows of method `entropy` are read.
        items: the items table.

    Returns:
        `entropy` (nats, to two decimals, or to a quarter where there are more than `MOST_LEVELS`),
        `right`, `wrong`, `accuracy`; rising entropy. Empty where `entropy` was not scored.

    Source: Guo & Yang 2024 (arXiv 2406.19032), figure 3.
    """
    votes = with_gold(scores.filter((pl.col("method") == "entropy") & pl.col("score").is_not_null()), items)
    # an entropy is never negative, but rounding can leave a -0.0, which would stand on the axis
    level = pl.col("score").round(2).abs()
    if votes.select(level.n_unique()).item() > MOST_LEVELS:
        level = (pl.col("score") * 4).round().abs() / 4
    right = pl.col("num_votes").filter("correct").sum()
    wrong = pl.col("num_votes").filter(~pl.col("correct")).sum()
    bars = votes.group_by(entropy=level).agg(right=right, wrong=wrong).sort("entropy")
    return bars.with_columns(accuracy=pl.col("right") / (pl.col("right") + pl.col("wrong")))


def reliability_cells(votes: pl.DataFrame) -> pl.DataFrame:
    """Return the mean reliability of answers per (answer, gold label) of choice items, as the paper's figure 4 has it.

    The unit is the answer, as in `entropy_bars`, since the paper trains on every answer with its weight.

    Args:
        votes: scored answers as `with_gold` returns them; the first scoring method's rows are read, for
            reliability belongs to the votes and is the same for all.

    Returns:
        `answer, gold_label` (choice indices), `reliability`, `num_answers`. Empty where items are open.

    Source: Guo & Yang 2024 (arXiv 2406.19032), figures 4 and 6.
    """
    index = pl.col("answer", "gold_label").cast(pl.Int64, strict=False)
    chosen = (
        _given(votes).filter(pl.col("choices").is_not_null()).with_columns(index).drop_nulls(["answer", "gold_label"])
    )
    return chosen.group_by("answer", "gold_label").agg(_mean_reliability(), _num_answers()).sort("answer", "gold_label")


def open_reliability(votes: pl.DataFrame) -> pl.DataFrame:
    """Return the mean reliability of right and of wrong answers to open items, which have no few labels to cross.

    Args:
        votes: as in `reliability_cells`, and with the same unit.

    Returns:
        `correct`, `reliability`, `num_answers`, right answers first. Empty where no item is open.
    """
    opened = _given(votes).filter(pl.col("choices").is_null())
    return opened.group_by("correct").agg(_mean_reliability(), _num_answers()).sort("correct", descending=True)


def _given(votes: pl.DataFrame) -> pl.DataFrame:
    """Return the answers that somebody gave, once each."""
    first = votes["method"][0] if votes.height else ""
    return votes.filter((pl.col("method") == first) & (pl.col("num_votes") > 0) & pl.col("reliability").is_not_null())


def _mean_reliability() -> pl.Expr:
    return ((pl.col("reliability") * pl.col("num_votes")).sum() / pl.col("num_votes").sum()).alias("reliability")


def _num_answers() -> pl.Expr:
    return pl.col("num_votes").sum().alias("num_answers")


def shared_choices(items: pl.DataFrame) -> list[str] | None:
    """Return the choices, where all weak-labelled items have the same ones in the same order, else null."""
    lists = items.filter(pl.col("split") == SPLIT)["choices"]
    if lists.is_empty() or lists.null_count() or lists.n_unique() > 1:
        return None
    return [str(word) for word in lists[0]]


def examples(labels: pl.DataFrame) -> pl.DataFrame:
    """Return labels worth a look: the wrong ones that their votes agree on most.

    Returns:
        At most `EXAMPLES` rows of `item_id, question, weak_label, gold_label, share`, with choices
        in words and long texts cut.
    """
    if labels.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(["item_id", "question", "weak_label", "gold_label"], pl.String))
    wrong = labels.filter((pl.col("method") == labels["method"][0]) & ~pl.col("correct"))
    return (
        wrong.sort("share", "item_id", descending=[True, False])
        .head(EXAMPLES)
        .select(
            "item_id",
            cut(pl.col("question")).alias("question"),
            cut(in_words("answer")).alias("weak_label"),
            cut(in_words("gold_label")).alias("gold_label"),
            "share",
        )
    )


def in_words(column: str) -> pl.Expr:
    """Return the choice that an index column names, or the answer itself where the item is open."""
    index = pl.col(column).cast(pl.Int64, strict=False)
    return pl.coalesce(pl.col("choices").list.get(index, null_on_oob=True), pl.col(column)).alias(column)


def cut(text: pl.Expr, longest: int = LONGEST) -> pl.Expr:
    """Return a text, or its beginning where it is longer than so many characters."""
    long = text.str.len_chars() > longest
    return pl.when(long).then(pl.concat_str(text.str.head(longest), pl.lit(" …"))).otherwise(text)

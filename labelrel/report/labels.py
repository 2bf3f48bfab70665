"""How good the scores are on the items they were made for; gold serves for this report only."""

from __future__ import annotations

import polars as pl

from labelrel.errors import InputError
from labelrel.evaluate.metrics import augrc, aurc, auroc, risk_coverage
from labelrel.files import read_table
from labelrel.report.collect import Sources
from labelrel.schema import check_items, check_scores

SPLIT = "w2s"
EXAMPLES = 6
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


def reliability_cells(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the mean reliability of the weak label per (weak label, gold label) of choice items.

    Args:
        labels: weak labels as `with_gold` returns them; the first scoring method's rows are read.

    Returns:
        `answer, gold_label` (choice indices), `reliability`, `num_items`. Empty where items are open.
    """
    if labels.is_empty():
        return pl.DataFrame(schema={"answer": pl.Int64, "gold_label": pl.Int64, "reliability": pl.Float64})
    one = labels.filter((pl.col("method") == labels["method"][0]) & pl.col("choices").is_not_null())
    index = pl.col("answer", "gold_label").cast(pl.Int64, strict=False)
    cells = one.with_columns(index).drop_nulls(["answer", "gold_label"]).group_by("answer", "gold_label")
    return cells.agg(pl.col("reliability").mean(), num_items=pl.len()).sort("answer", "gold_label")


def examples(labels: pl.DataFrame) -> pl.DataFrame:
    """Return labels worth a look: the wrong ones that their votes agree on most.

    Returns:
        At most `EXAMPLES` rows of `item_id, question, weak_label, gold_label, share`, with choices
        in words.
    """
    if labels.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(["item_id", "question", "weak_label", "gold_label"], pl.String))
    wrong = labels.filter((pl.col("method") == labels["method"][0]) & ~pl.col("correct"))
    return (
        wrong.sort("share", "item_id", descending=[True, False])
        .head(EXAMPLES)
        .select("item_id", "question", _in_words("answer").alias("weak_label"), _in_words("gold_label"), "share")
    )


def _in_words(column: str) -> pl.Expr:
    index = pl.col(column).cast(pl.Int64, strict=False)
    return pl.coalesce(pl.col("choices").list.get(index, null_on_oob=True), pl.col(column)).alias(column)

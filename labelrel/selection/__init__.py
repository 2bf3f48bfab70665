"""Scores → training set: which items train, with which label, and how much each counts.

A rule is one registered function of a `Pool`, the items of one split. Only a control may see gold
labels of those items; `select` hands them to nobody else. A rule that needs a few gold labels to set a
threshold reads those of split gold_dev, whose items never train.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from labelrel.errors import InputError, some
from labelrel.schema import check_scores, require_columns, require_split
from labelrel.selection import labels as _labels  # noqa: F401  (these modules register their rules, listed in this order)
from labelrel.selection import paper as _paper  # noqa: F401
from labelrel.selection import quality as _quality  # noqa: F401
from labelrel.selection import soft as _soft  # noqa: F401
from labelrel.selection import target as _target  # noqa: F401

# isort: split
from labelrel.selection import controls as _controls  # noqa: F401
from labelrel.selection.base import Params, Pool, Rule, rules
from labelrel.selection.treatment import Then, Treatment, check_section, treatment

__all__ = ["Rule", "Then", "Treatment", "check_params", "reads", "rules", "select", "treatment"]

SELECTED = pl.Schema(
    {
        "item_id": pl.String(),
        "variant_id": pl.String(),
        "answer": pl.String(),
        "weight": pl.Float64(),
        "option_probs": pl.List(pl.Float64()),
    }
)
"""One row per training example. `variant_id` is the wording to train on, null for the canonical one;
`option_probs` has a number per option of the item where the label is spread, null where `answer` is all."""

_log = logging.getLogger(__name__)


def select(
    name: str,
    scores: pl.DataFrame,
    answers: pl.DataFrame,
    items: pl.DataFrame,
    *,
    split: str = "w2s",
    seed: int,
    params: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Choose the training examples of one rule.

    Args:
        name: of the method: a registered rule, or a name of the user's whose parameters name one.
        scores: a scores table.
        answers: the answers that were scored.
        items: an items table; its order is that of the result.
        split: only its items are considered.
        seed: of everything that is drawn.
        params: the method's section of `select`; what is not given takes its default.

    Returns:
        The columns of `SELECTED`, one row per training example, in order of items and then of
        variants. Items without a parsed answer are left out, and their number is logged. Empty
        where the rule keeps nothing.

    Raises:
        UnknownNameError: no such rule.
        ConfigError: impossible parameters, all told at once.
        InputError: an empty split, a missing column, or scores that lack an answered item or a method
            that the rule reads.
    """
    wanted = treatment(name, params)
    rule = wanted.rule
    settings = rule.parse(wanted.params, f"select.{name}")
    check_scores(scores)
    require_columns(answers, ["item_id", "variant_id", "answer"], "answers")
    reads_any = rule.reads_gold or rule.reads_gold_dev
    require_columns(items, ["item_id", "split", *["gold_label"] * reads_any], "items")
    if rule.reads_gold_dev and split == "gold_dev":
        raise InputError(f"rule '{name}' sets its threshold on split 'gold_dev' and cannot choose from it too.")
    pool = _pool(rule, scores, answers, require_split(items, split), seed)
    if rule.reads_gold_dev:
        pool = replace(pool, gold_dev=_gold_dev(scores, items))
    chosen: pl.DataFrame = rule.function(pool, settings)
    absent = {c: t for c, t in SELECTED.items() if c in ("variant_id", "option_probs") and c not in chosen.columns}
    chosen = chosen.with_columns(pl.lit(None, t).alias(c) for c, t in absent.items())
    position = pool.items.select("item_id").with_row_index("position")
    return (
        chosen.select(pl.col(c).cast(t) for c, t in SELECTED.items())
        .join(position, on="item_id", how="inner", maintain_order="left")
        .sort("position", _variant_number(), "variant_id", "answer", nulls_last=True)
        .drop("position")
    )


def check_params(name: str, params: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with the parameters of a rule, one line each.

    Args:
        name: the method; one that is no rule and names none is a line too.
        params: what params.yaml says under `select.NAME`.

    Returns:
        Lines such as "select.filter.quantile must lie in [0, 1], got 1.5"; empty where all is well.
    """
    return check_section(name, params)


def reads(name: str, params: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the scoring methods whose rows a rule needs, so that a missing one is told before any work.

    Raises:
        UnknownNameError: no such rule.
        ConfigError: impossible parameters.
    """
    wanted = treatment(name, params)
    settings: Params = wanted.rule.parse(wanted.params, f"select.{name}")
    return settings.reads()


def _variant_number() -> pl.Expr:
    """Variant "10" comes after "9"; names that are no numbers come last, by the alphabet."""
    return pl.col("variant_id").cast(pl.Int64, strict=False)


def _gold_dev(scores: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    gold = items.filter(pl.col("split") == "gold_dev").select("item_id", "gold_label").drop_nulls("gold_label")
    return gold.join(scores, on="item_id", how="inner", maintain_order="left").select(*scores.columns, "gold_label")


def _pool(rule: Rule, scores: pl.DataFrame, answers: pl.DataFrame, items: pl.DataFrame, seed: int) -> Pool:
    mine = items.select("item_id")
    order = ["annotator_id"] if "annotator_id" in answers.columns else []
    rows = (
        mine.join(answers, on="item_id", how="inner", maintain_order="left")
        .sort(_variant_number(), "variant_id", *order, nulls_last=True, maintain_order=True)
        .select("item_id", "variant_id", "answer")
    )
    parsed = rows.filter(pl.col("answer").is_not_null())
    unscored = parsed.join(scores, on="item_id", how="anti")["item_id"].unique(maintain_order=True)
    if len(unscored):
        raise InputError(f"scores has no rows for {len(unscored)} answered items ({some(unscored)}); score again.")
    silent = mine.join(parsed, on="item_id", how="anti")["item_id"]
    if len(silent):
        _log.info("%d of %d items have no parsed answer and are left out (%s)", len(silent), len(mine), some(silent))
    return Pool(
        items=items if rule.reads_gold else items.drop("gold_label", strict=False),
        answers=parsed,
        first=rows.unique("item_id", keep="first", maintain_order=True),
        scores=mine.join(scores, on="item_id", how="inner", maintain_order="left"),
        seed=seed,
    )

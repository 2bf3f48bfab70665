"""Answers → scores: how reliable is each weak label?

`score` takes any table of answers and returns the scores table; a method is one registered function:
arithmetic on the votes (`votes.py`), on probabilities, a model of the annotators (`annotators/`), or an
adapter to a library (`cleanlab_adapters.py`). The score of an item never depends on its own gold label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import polars as pl

from labelrel.scoring.base import Inputs, Method, methods
from labelrel.scoring.canonical import canonicalise
from labelrel.scoring.classes import label_probs_source
from labelrel.scoring.encode import Encoder, Votes
from labelrel.scoring.frames import EXTRA, Frame, as_answers, read_answers, read_gold, read_items, whole_columns
from labelrel.scoring.scorer import Scorer, check_settings, resolve
from labelrel.scoring.tally import Protocol, tally_votes

for _family in ("votes", "probabilities", "annotators", "cleanlab_adapters", "meaning", "ensemble"):
    import_module(f"{__name__}.{_family}")  # each registers its methods, which are listed in this order

__all__ = [
    "EXTRA", "Encoder", "Inputs", "Method", "Scorer", "Votes", "as_answers", "canonicalise", "check_settings",
    "label_probs_source", "methods", "read_answers", "read_gold", "read_items", "resolve", "score", "tally_votes",
    "whole_columns",
]  # fmt: skip


def score(
    answers: Frame,
    methods: Sequence[str] | None = None,
    *,
    items: Frame | None = None,
    gold: Frame | None = None,
    choices: int | None = None,
    protocol: Protocol = "default",
    temperature: float | Literal["auto"] = 0.2,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> pl.DataFrame:
    """Score every distinct answer of every item with each of the methods.

    Args:
        answers: polars, pandas or pyarrow, one row per answer: `item_id` and `answer` (null =
            abstained or unparsable), and where known `annotator_id`, `variant_id` (else the running
            number within item and annotator), `choice_logprobs`, `answer_logprob`, `num_tokens` and
            `meaning`.
        methods: registered names; None means those that are arithmetic on the votes.
        items: `item_id` and `choices`, so that the number of classes is known.
        gold: `item_id` and `gold_label` of some items, for methods that learn from them. The items
            with gold are scored by a model that has not seen their own (5 folds).
        choices: number of classes of every item, where `items` does not say it.
        protocol: `paper` counts "no answer" as one more answer, with votes of its own; see
            `tally_votes`. The tie-break then still names one `weak_label`, which the paper's
            rules do not read: they train on every answer.
        temperature: T of `reliability`, above 0. The paper takes 0.2, and 1 for two answers per
            item, where any T gives the same; "auto" takes 1 / n.
        params: method → its parameters; those not given take their defaults.

    Returns:
        The columns of `schema.SCORES`; one row per (method, item, distinct answer), methods as
        asked, items by first appearance, then descending votes, then answer. `share` and
        `reliability` do not depend on the method. An item without a parsed answer stays, as one
        row with null scores.

    Raises:
        UnknownNameError: a method that is not registered.
        ConfigError: no methods, an unknown protocol, an impossible parameter, or a temperature that
            is not above 0.
        InputError: a table that cannot be what it is said to be, or one that a method cannot score.

    Example:
        >>> votes = pl.DataFrame({"item_id": ["q1", "q1", "q1"], "answer": ["7", "7", "8"]})
        >>> score(votes, ["share"]).select("answer", "num_votes", "weak_label").rows()
        [('7', 2, True), ('8', 1, False)]
    """
    chosen = resolve(methods, params)
    check_settings(protocol, temperature, choices)
    table = read_answers(answers)
    inputs = Inputs(
        votes=table,
        items=read_items(items, table.item_ids),
        gold=read_gold(gold),
        choices=choices,
        protocol=protocol,
        temperature=temperature,
    )
    return pl.concat(Scorer(inputs, chosen).frames())

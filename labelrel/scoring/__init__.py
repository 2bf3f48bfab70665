"""Answers → scores: how reliable is each weak label?

`score` takes any table of answers and returns the scores table; a method is one registered function
of the votes (`votes.py`) or an adapter to a library (`cleanlab_adapters.py`). No gold label is ever
an input here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from labelrel.errors import ConfigError
from labelrel.schema import SCORES
from labelrel.scoring import votes  # first: methods are listed in order of registration

# isort: split
from labelrel.scoring import cleanlab_adapters as _cleanlab_adapters  # noqa: F401  (registers its methods)
from labelrel.scoring.base import Inputs, Method, methods
from labelrel.scoring.classes import label_probs_source
from labelrel.scoring.frames import Frame, read_answers, read_items
from labelrel.scoring.tally import Protocol, tally_votes

__all__ = ["Method", "label_probs_source", "methods", "score", "tally_votes"]


def score(
    answers: Frame,
    methods: Sequence[str] | None = None,
    *,
    items: Frame | None = None,
    protocol: Protocol = "default",
    temperature: float = 0.2,
) -> pl.DataFrame:
    """Score every distinct answer of every item with each of the methods.

    Args:
        answers: polars, pandas or pyarrow, one row per answer: `item_id` and `answer` (null =
            abstained or unparsable), and where known `annotator_id`, `variant_id` (else the running
            number within item and annotator) and `choice_logprobs`.
        methods: registered names; None means all that need nothing but the answers.
        items: `item_id` and `choices`, so that the number of classes is known.
        protocol: `paper` counts "no answer" as one more answer, with votes of its own; see
            `tally_votes`. The tie-break then still names one `weak_label`, which the paper's
            rules do not read: they train on every answer.
        temperature: T of `reliability`, above 0. The paper takes 0.2, and 1 for two answers per item.

    Returns:
        The columns of `schema.SCORES`; one row per (method, item, distinct answer), methods as
        asked, items by first appearance, then descending votes, then answer. `share` and
        `reliability` do not depend on the method. An item without a parsed answer stays, as one
        row with null scores.

    Raises:
        UnknownNameError: a method that is not registered.
        ConfigError: no methods, an unknown protocol, or a temperature that is not above 0.
        InputError: a table that cannot be what it is said to be, or one that a method cannot score.

    Example:
        >>> votes = pl.DataFrame({"item_id": ["q1", "q1", "q1"], "answer": ["7", "7", "8"]})
        >>> score(votes, ["share"]).select("answer", "num_votes", "weak_label").rows()
        [('7', 2, True), ('8', 1, False)]
    """
    chosen = _resolve(methods)
    if protocol not in ("default", "paper"):
        raise ConfigError(f"unknown protocol {protocol!r}; allowed: default, paper.")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature must be above 0, got {temperature!r}.")
    table = read_answers(answers)
    tally = tally_votes(table, protocol=protocol)
    inputs = Inputs(
        answers=table,
        tally=tally.with_columns(reliability=votes.reliability_expr(temperature)),
        items=read_items(items, table),
    )
    frames = [entry.function(inputs).with_columns(pl.lit(entry.name).alias("method")) for entry in chosen]
    return pl.concat([frame.select(pl.col(c).cast(t) for c, t in SCORES.items()) for frame in frames])


def _resolve(names: Sequence[str] | None) -> list[Method]:
    if names is None:
        return [m for m in map(methods.get, methods) if m.needs == ("answers",)]
    if isinstance(names, str):
        raise ConfigError(f"methods must be a list of names, got the text {names!r}; write [{names!r}].")
    if not names:
        raise ConfigError(f"no scoring method given; known: {', '.join(methods)}.")
    return [methods.get(name) for name in dict.fromkeys(names)]

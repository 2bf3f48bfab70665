"""Answers → scores: how reliable is each weak label?

`score` takes any table of answers and returns the scores table; a method is one registered function:
arithmetic on the votes (`votes.py`), on probabilities, a model of the annotators (`annotators/`), or an
adapter to a library (`cleanlab_adapters.py`). The score of an item never depends on its own gold label.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from labelrel.errors import ConfigError
from labelrel.schema import SCORES
from labelrel.scoring import votes  # noqa: F401  (first: methods are listed in order of registration)

# isort: split
from labelrel.scoring import cleanlab_adapters as _cleanlab_adapters  # noqa: F401
from labelrel.scoring.base import Inputs, Method, methods
from labelrel.scoring.classes import label_probs_source
from labelrel.scoring.encode import pieces
from labelrel.scoring.frames import Frame, read_answers, read_gold, read_items
from labelrel.scoring.tally import Protocol, tally_votes

__all__ = ["Method", "label_probs_source", "methods", "score", "score_votes", "tally_votes"]


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
            item; "auto" takes 1 for two and else 1 / n.
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
    return pl.concat([frame for entry, settings in chosen for frame in score_pieces(inputs, entry, settings)])


def score_votes(inputs: Inputs, chosen: Sequence[tuple[Method, Any]]) -> Iterator[pl.DataFrame]:
    """Yield the scores table of `score` in pieces, methods as asked, items in order."""
    for entry, settings in chosen:
        yield from score_pieces(inputs, entry, settings)


def score_pieces(inputs: Inputs, entry: Method, settings: Any) -> Iterator[pl.DataFrame]:
    """Yield the scores of one method, a few million answers at a time where the method allows it."""
    if entry.fit is not None:
        fitted = entry.fit(inputs, settings)
        for start, stop in pieces(inputs.votes):
            yield _finished(entry, entry.function(inputs.piece(start, stop), fitted.piece(start, stop)))
    elif entry.item_wise:
        spans = pieces(inputs.votes)
        for start, stop in spans:
            part = inputs.piece(start, stop) if len(spans) > 1 else inputs  # whole: counted once for all methods
            yield _finished(entry, entry.function(part, settings))
    else:
        yield _finished(entry, entry.function(inputs, settings))


def resolve(
    names: Sequence[str] | None, params: Mapping[str, Mapping[str, Any]] | None = None
) -> list[tuple[Method, Any]]:
    """Return the methods of these names with their checked parameters.

    Raises:
        UnknownNameError: a name that is not registered.
        ConfigError: no names, or parameters that are unknown or impossible.
    """
    if isinstance(names, str):
        raise ConfigError(f"methods must be a list of names, got the text {names!r}; write [{names!r}].")
    if names is None:
        names = [m.name for m in map(methods.get, methods) if m.needs == ("answers",) and m.item_wise]
    if not names:
        raise ConfigError(f"no scoring method given; known: {', '.join(methods)}.")
    given = dict(params or {})
    for name in given:
        methods.get(name, where="params")
    entries = [methods.get(name) for name in dict.fromkeys(names)]
    return [(entry, entry.parse(given.get(entry.name, {}), entry.name)) for entry in entries]


def check_settings(protocol: str, temperature: float | str, choices: int | None) -> None:
    """Raise ConfigError where a setting is impossible."""
    if protocol not in ("default", "paper"):
        raise ConfigError(f"unknown protocol {protocol!r}; allowed: default, paper.")
    if temperature != "auto" and not (
        isinstance(temperature, float | int) and math.isfinite(temperature) and temperature > 0
    ):
        raise ConfigError(f"temperature must be above 0 or 'auto', got {temperature!r}.")
    if choices is not None and choices < 2:
        raise ConfigError(f"choices must be at least 2, got {choices}.")


def _finished(entry: Method, frame: pl.DataFrame) -> pl.DataFrame:
    named = frame.with_columns(pl.lit(entry.name).alias("method"))
    return named.select(pl.col(c).cast(t) for c, t in SCORES.items())

"""One table, several methods: each fitted at most once, its scores handed out a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from labelrel.errors import ConfigError, InputError
from labelrel.schema import SCORES
from labelrel.scoring.base import Inputs, Method, methods
from labelrel.scoring.encode import pieces
from labelrel.scoring.fitted import Fitted
from labelrel.scoring.gold import cross_fit

Chosen = list[tuple[Method, Any]]


def resolve(names: Sequence[str] | None, params: Mapping[str, Mapping[str, Any]] | None = None) -> Chosen:
    """Return the methods of these names with their checked parameters.

    Args:
        names: registered names; None means those that are arithmetic on the votes.
        params: method → its parameters; those not given take their defaults.

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


class Scorer:
    """The scores of one table by several methods.

    Args:
        inputs: the table.
        chosen: methods with their parameters, from `resolve`.

    Raises:
        InputError: a method that learns from gold, and no gold.
    """

    def __init__(self, inputs: Inputs, chosen: Chosen) -> None:
        self.inputs = replace(inputs, gold=None)  # what a method sees that does not say it learns from gold
        self.chosen = chosen
        self._gold = inputs.gold
        self._fitted: dict[str, Fitted] = {}
        lacking = [entry.name for entry, _ in chosen if "gold" in entry.needs] if inputs.gold is None else []
        if lacking:
            raise InputError(
                f"scoring method '{lacking[0]}' learns from gold labels and there are none; "
                "give some (--gold FILE --gold-col COLUMN), or leave the method out."
            )

    @property
    def num_pieces(self) -> int:
        """Number of frames that `frames` yields."""
        spans = len(pieces(self.inputs.votes))
        return sum(spans if entry.item_wise or entry.fit is not None else 1 for entry, _ in self.chosen)

    @property
    def rates_annotators(self) -> bool:
        """Whether any method learns something of each annotator."""
        return any(entry.fit is not None for entry, _ in self.chosen)

    def fitted(self, entry: Method, settings: Any) -> Fitted:
        """Return what a method with `fit` has learnt, fitted the first time it is asked for."""
        if entry.name not in self._fitted:
            fit, inputs = entry.fit, self.inputs
            assert fit is not None, f"{entry.name} has nothing to fit"
            if entry.uses_gold and self._gold is not None:
                self._fitted[entry.name] = cross_fit(
                    inputs.votes.item_ids, self._gold, lambda gold: fit(replace(inputs, gold=gold), settings)
                )
            else:
                self._fitted[entry.name] = fit(inputs, settings)
        return self._fitted[entry.name]

    def annotators(self) -> pl.DataFrame:
        """Return what the fitted methods learnt of each annotator, `method` first; see `rates_annotators`."""
        tables = [
            self.fitted(entry, settings).annotators.select(pl.lit(entry.name).alias("method"), pl.all())
            for entry, settings in self.chosen
            if entry.fit is not None
        ]
        return pl.concat(tables, how="diagonal_relaxed")

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the scores table, methods as asked, items in order, a few million answers at a time."""
        for entry, settings in self.chosen:
            for frame in self._pieces(entry, settings):
                named = frame.with_columns(pl.lit(entry.name).alias("method"))
                yield named.select(pl.col(c).cast(t) for c, t in SCORES.items())

    def _pieces(self, entry: Method, settings: Any) -> Iterator[pl.DataFrame]:
        spans = pieces(self.inputs.votes)
        if entry.fit is not None:
            fitted = self.fitted(entry, settings)
            for start, stop in spans:
                yield entry.function(self._piece(start, stop), fitted.piece(start, stop))
        elif entry.item_wise:
            for start, stop in spans:
                yield entry.function(self._piece(start, stop), settings)
        else:
            inputs = replace(self.inputs, gold=self._gold) if entry.uses_gold else self.inputs
            yield entry.function(inputs, settings)

    def _piece(self, start: int, stop: int) -> Inputs:
        # a table of one piece keeps its counts for the next method
        return self.inputs if stop - start == self.inputs.votes.num_items else self.inputs.piece(start, stop)

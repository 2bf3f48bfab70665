"""What a scoring method is, what it reads, and the registry of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from labelrel.registry import Registry
from labelrel.scoring.classes import ClassGroup, class_groups

Unit = Literal["item", "answer"]
Need = Literal["answers", "label_probs"]


@dataclass(frozen=True)
class Inputs:
    """The checked tables of one call, counted once and shared by all of its methods.

    Attributes:
        answers: one row per (item, annotator, variant).
        tally: one row per (item, distinct answer), as `tally_votes` writes it, and `reliability`.
        items: `item_id` and `choices` where they are known.
    """

    answers: pl.DataFrame
    tally: pl.DataFrame
    items: pl.DataFrame | None = None

    @cached_property
    def groups(self) -> list[ClassGroup]:
        """The items as class indices with label probabilities, one group per set of classes."""
        return class_groups(self.answers, self.items)


Function = Callable[[Inputs], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to say how reliable a weak label is.

    Attributes:
        name: the registered name, the same in params.yaml, in column `method` and in MLflow.
        function: inputs → the rows of their tally with `score` and `label_quality` added. It may
            choose another `weak_label`, and add a row for a weak label that nobody voted for.
        unit: whether `score` is one number per item (repeated on its rows) or one per answer.
        higher_is_better: direction of `score`; `label_quality` is always low = likely wrong.
        needs: the inputs it reads: the answers alone, or label probabilities too.
        item_wise: whether an item's scores depend on that item only, so that a table may be scored
            in pieces.
    """

    name: str
    function: Function
    unit: Unit
    higher_is_better: bool
    needs: tuple[Need, ...]
    item_wise: bool

    @property
    def summary(self) -> str:
        """One line, the first of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    @property
    def source(self) -> str:
        """Paper and section, from the function's docstring."""
        text = inspect.cleandoc(self.function.__doc__ or "").partition("Source:")[2]
        return " ".join(text.partition("\n\n")[0].split())


methods: Registry[Method] = Registry("scoring method")


def method(
    name: str,
    *,
    unit: Unit,
    higher_is_better: bool = True,
    needs: tuple[Need, ...] = ("answers",),
    item_wise: bool = True,
) -> Callable[[Function], Function]:
    """Return a decorator that registers a function as the method `name`."""

    def add(function: Function) -> Function:
        methods.add(
            name,
            Method(
                name=name,
                function=function,
                unit=unit,
                higher_is_better=higher_is_better,
                needs=needs,
                item_wise=item_wise,
            ),
        )
        return function

    return add

"""Training set → tokenised examples, with everything that would not fit told before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from labelrel.align.objective import Criterion, Example
from labelrel.errors import InputError, some
from labelrel.models.choice import tokenize
from labelrel.models.load import LoadedModel
from labelrel.models.packing import Prompt
from labelrel.progress import say

_SUMS_TO_ONE = 1e-3
_CHECKED = 256  # examples that are tokenised once more, prompt and target together


def read_examples(
    loaded: LoadedModel, training: pl.DataFrame, criterion: Criterion, *, quiet: bool = False
) -> list[Example]:
    """Tokenise a checked training set for a loss.

    Args:
        loaded: the model, for its tokenizer and its context.
        training: columns of `schema.TRAINING`, with those of `schema.OPTIONS` where the loss compares options.
        criterion: the loss.
        quiet: no warnings.

    Raises:
        InputError: an example longer than the model's context, or one without what the loss reads.
    """
    rows = training.select("item_id", "prompt", "target", "weight").rows()
    if criterion.loss.reads == "target":
        texts: list[tuple[str, Sequence[str]]] = [(prompt, [target]) for _, prompt, target, _ in rows]
        targets: Sequence[tuple[float, ...] | None] = [None] * len(rows)
    else:
        options, targets = _options(training, criterion)
        texts = [(prompt, row) for (_, prompt, _, _), row in zip(rows, options, strict=True)]
    prompts = tokenize(loaded.tokenizer, texts)
    examples = [
        Example(prompt, weight, probs, str(item))
        for prompt, probs, (item, _, _, weight) in zip(prompts, targets, rows, strict=True)
    ]
    check_lengths(loaded, [(example.item_id, example.prompt) for example in examples], "examples")
    _tell_merged(loaded.tokenizer, training, quiet=quiet)
    return examples


def check_lengths(loaded: LoadedModel, prompts: Sequence[tuple[str, Prompt]], what: str) -> None:
    """Raise where a prompt with its longest continuation is more than the model reads; nothing is ever cut.

    Args:
        loaded: the model.
        prompts: (item, prompt) pairs.
        what: what they are, for the message.

    Raises:
        InputError: says how many, and which is the longest.
    """
    most = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if most is None or not prompts:
        return
    lengths = [(len(p.prefix) + max(len(branch) for branch in p.branches), item) for item, p in prompts]
    long = [item for length, item in lengths if length > most]
    if long:
        length, longest = max(lengths)
        raise InputError(
            f"{len(long)} of {len(lengths)} {what} are longer than the {most} tokens that {loaded.reference} reads "
            f"({some(long)}; the longest is {longest} with {length}); nothing is cut: shorten these questions, leave "
            "them out, or use a model with a longer context."
        )


def _options(training: pl.DataFrame, criterion: Criterion) -> tuple[list[Sequence[str]], list[tuple[float, ...]]]:
    """Return options and targets of each example; a label that is not spread has all of its mass on the target."""
    name = criterion.loss.name
    absent = training["options"].null_count() if "options" in training.columns else training.height
    if absent:
        raise InputError(
            f"loss '{name}' compares the options of an item, and {absent} of {training.height} examples have none; "
            "use cross_entropy, or a task whose items have choices."
        )
    probs = training["option_probs"].to_list() if "option_probs" in training.columns else [None] * training.height
    options: list[Sequence[str]] = training["options"].to_list()
    targets = []
    for item, target, row, given in zip(training["item_id"], training["target"], options, probs, strict=True):
        found = tuple(float(option == target) for option in row) if given is None else tuple(given)
        if criterion.loss.targets == "distribution" and abs(sum(found) - 1) > _SUMS_TO_ONE:
            raise InputError(
                f"loss '{name}' learns a distribution over the options, but those of item {item} sum to "
                f"{sum(found):.3f}; rule forward_correction goes with loss forward_correction."
            )
        targets.append(found)
    return options, targets


def _tell_merged(tokenizer: Any, training: pl.DataFrame, *, quiet: bool) -> None:
    """Say where the tokenizer would make other tokens of prompt and target in one piece."""
    rows = training.select("item_id", "prompt", "target").head(_CHECKED).rows()
    together = tokenizer([prompt + target for _, prompt, target in rows])["input_ids"]
    apart = tokenize(tokenizer, [(prompt, [target]) for _, prompt, target in rows])
    merged = [row for row, ids, p in zip(rows, together, apart, strict=True) if _without_end(ids, p.tokens) != p.tokens]
    if merged:
        item, prompt, target = merged[0]
        say(
            f"warning: the tokenizer joins prompt and target in {len(merged)} of {len(rows)} examples (item {item}: "
            f"{prompt[-12:]!r} + {target[:12]!r}); they are tokenised apart, here as when the model is asked. Text "
            "that is written freely will look otherwise: end prompts without a blank, begin targets with one.",
            quiet=quiet,
        )


def _without_end(ids: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return token ids without what a tokenizer adds at the end of a text."""
    return list(ids[: len(wanted)]) if len(ids) == len(wanted) + 1 else list(ids)

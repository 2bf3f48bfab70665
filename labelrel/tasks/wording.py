"""Prompts made of a question and fixed words; what is in the data never counts as a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labelrel.tasks.base import Item, Wording

QUESTION = (
    "Question: {question}\nAnswer:",
    "Question: {question}\nThe answer is",
    "Question: {question}\nCorrect answer:",
    "Question: {question}\nA teacher who is asked this says:",
    "Question: {question}\nThe right reply to this question is:",
)
"""For any question, the canonical one first. The question comes first in all of them, so that a model
reads it once for all the wordings."""


def ask(templates: Sequence[str], question: str, options: Sequence[str] | None) -> list[Wording]:
    """Return the wordings of a question, one per template.

    Args:
        templates: with "{question}" where the question goes; braces in the question stay what they are.
        question: as in the items table, or in other words.
        options: texts of the choices, without leading blank; None for an open question.
    """
    texts = None if options is None else tuple(f" {option}" for option in options)
    return [Wording(template.replace("{question}", question), texts) for template in templates]


def asker(templates: Sequence[str]) -> Callable[[Item], list[Wording]]:
    """Return the `wordings` of a task whose templates need the question alone."""
    return lambda item: ask(templates, item["question"], item["choices"])

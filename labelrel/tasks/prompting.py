"""From a task's own wordings to the prompts of one project: listed options, letters, orders, paraphrases.

Pure: nothing here asks a model or draws a number that does not follow from seed and item.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from labelrel.config import Prompt
from labelrel.errors import ConfigError
from labelrel.tasks.base import Item, Reading, Task, Wording
from labelrel.tasks.reading import read_choice, read_letter

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

LISTED = (
    "Question: {question}\n{options}\nAnswer:",
    "{question}\n{options}\nThe correct option is",
    "Read the question and choose one option.\n{question}\n{options}\nChoice:",
    "Q: {question}\n{options}\nA:",
    "{question}\n\nOptions:\n{options}\n\nThe answer is",
)
"""Prompts that list the options, for every task; the first is the canonical one."""


@dataclass(frozen=True)
class Prompting:
    """How the items of a task are worded in one project.

    Attributes:
        task: whose items.
        settings: section `prompt` of the params file.
        seed: of the option orders.
    """

    task: Task
    settings: Prompt = field(default_factory=Prompt)
    seed: int = 42

    def canonical(self, item: Item) -> Wording:
        """Return the wording that is trained on and evaluated, the same as variant "0"."""
        return self.variants(item, 1)[0]

    def variants(self, item: Item, count: int) -> list[Wording]:
        """Return `count` different ways to ask an item, the canonical one first.

        With `vary: paraphrase` the others are the item's column `paraphrases`; an item that has fewer
        gets fewer wordings, and its votes are counted over those.

        Raises:
            ConfigError: there are fewer ways than asked for, or the settings do not fit the item.
        """
        if self.settings.vary == "paraphrase":
            return self._paraphrased(item, count)
        if self.settings.vary == "order":
            return self._orders(item, count)
        wordings = self._wordings(item)
        if count > len(wordings):
            raise ConfigError(
                f"{count} variants are asked for, but task '{self.task.name}' has {len(wordings)} wordings for item "
                f"{item['item_id']}; set variants to at most {len(wordings)}."
            )
        return wordings[:count]

    def target(self, item: Item, wording: Wording, answer: str) -> str:
        """Return the text to learn after a wording's prompt for a canonical answer."""
        return self.task.target(item, answer) if wording.options is None else wording.options[int(answer)]

    def read(self, item: Item, wording: Wording, completion: str) -> Reading:
        """Read the canonical answer out of what was written after a wording's prompt."""
        if wording.options is None or not self._lists(item):
            return self.task.parse(item, completion)
        if self.settings.answer == "text":
            return read_choice(item["choices"], completion)
        shown = [option.strip() for option in wording.options]
        reading = read_letter(len(shown), completion)
        if reading.answer is None:
            # some models name the option instead of its letter
            spelled = read_choice(item["choices"], completion)
            return reading if spelled.answer is None else spelled
        return Reading(str(shown.index(LETTERS[int(reading.answer)])))

    def _lists(self, item: Item) -> bool:
        return self.settings.options == "listed" and item["choices"] is not None and self.task.orders is None

    def _wordings(self, item: Item) -> list[Wording]:
        """Return every wording with the options in their own order."""
        if self._lists(item):
            order = list(range(len(item["choices"])))
            return [self._listed(template, item, order) for template in self.settings.templates or LISTED]
        own = self.task.wordings(item)
        if self.settings.templates is None:
            return own
        return [Wording(_fill(t, item["question"]), own[0].options) for t in self.settings.templates]

    def _listed(self, template: str, item: Item, order: Sequence[int]) -> Wording:
        choices = item["choices"]
        if self.settings.answer == "letter":
            if len(choices) > len(LETTERS):
                raise ConfigError(
                    f"item {item['item_id']} has {len(choices)} choices, more than there are letters; set "
                    "prompt.answer to text."
                )
            lines = [f"{LETTERS[place]}. {choices[choice]}" for place, choice in enumerate(order)]
            options = tuple(f" {LETTERS[order.index(choice)]}" for choice in range(len(choices)))
        else:
            lines = [f"- {choices[choice]}" for choice in order]
            options = tuple(f" {choice}" for choice in choices)
        return Wording(_fill(template, item["question"], "\n".join(lines)), options)

    def _orders(self, item: Item, count: int) -> list[Wording]:
        if item["choices"] is None:
            raise ConfigError(f"item {item['item_id']} is an open question: it has no options to order (prompt.vary).")
        if self.task.orders is not None:
            orders = self.task.orders(item)
            there = len(orders)
        else:
            there = math.factorial(len(item["choices"]))
            template = (self.settings.templates or LISTED)[0]
            drawn = _permutations(len(item["choices"]), min(count, there), f"{self.seed}:{item['item_id']}")
            orders = [self._listed(template, item, order) for order in drawn]
        if count > there:
            raise ConfigError(
                f"{count} variants are asked for, but item {item['item_id']} has {there} orders of its options; set "
                f"variants to at most {there}."
            )
        return orders[:count]

    def _paraphrased(self, item: Item, count: int) -> list[Wording]:
        questions = [item["question"], *(item.get("paraphrases") or ())][:count]
        return [self._wordings({**item, "question": question})[0] for question in questions]


def _fill(template: str, question: str, options: str = "") -> str:
    """Put question and options in their places; braces in the data stay what they are."""
    before, mark, after = template.partition("{options}")
    return before.replace("{question}", question) + (options if mark else "") + after.replace("{question}", question)


def _permutations(size: int, count: int, key: str) -> list[list[int]]:
    """Draw different orders, the items' own first; they follow from the key alone.

    A Fisher-Yates shuffle on hashed numbers; one that was drawn before is drawn again.
    """
    orders = [list(range(size))]
    draw = 0
    while len(orders) < count:
        order = list(range(size))
        for place in range(size - 1, 0, -1):
            digest = hashlib.sha256(f"{key}:{draw}:{place}".encode()).digest()
            other = int.from_bytes(digest[:8], "big") % (place + 1)
            order[place], order[other] = order[other], order[place]
        draw += 1
        if order not in orders:
            orders.append(order)
    return orders

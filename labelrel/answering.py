"""A registered model at work: questions in, answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from labelrel.config import Prompt
from labelrel.errors import InputError
from labelrel.schema import ITEMS
from labelrel.tasks import Prompting, tasks


@dataclass
class Answering:
    """A loaded model and how it is asked.

    Attributes:
        model: the network with its adapter.
        tokenizer: its tokenizer.
        prompting: the wording that it was trained on.
        meta: what the task's own items carry, of one of them; the canonical wording differs by none of it.
    """

    model: Any
    tokenizer: Any
    prompting: Prompting
    meta: Mapping[str, Any] | None

    @classmethod
    def load(cls, config: Mapping[str, Any], adapter: Path | str) -> Answering:
        """Load base and adapter.

        Args:
            config: `model` (reference of the base), `task`, `prompt` (section of the params file), `seed`, `meta`,
                and `device` (auto, cpu or cuda).
            adapter: folder of the adapter.

        Raises:
            InputError: the adapter is of another model.
        """
        from labelrel.align.merge import fit_adapter
        from labelrel.models.load import load_model, pick_device
        from labelrel.models.reference import parse_reference

        loaded = load_model(parse_reference(config["model"]), device=pick_device(config.get("device", "auto")))
        prompting = Prompting(tasks.get(config["task"]), Prompt(**config["prompt"]), config["seed"])
        return cls(fit_adapter(loaded.model, Path(adapter)), loaded.tokenizer, prompting, config.get("meta"))

    def answer(self, questions: Sequence[Mapping[str, Any]]) -> Any:
        """Answer questions in their order.

        Args:
            questions: dicts with `question` and, for a closed question, `choices`, two or more texts.

        Returns:
            A pandas table: `answer` is a text, `label` the number of the choice from "0" (of an open question the
            answer as it is compared with gold), `logprob` its log-probability; all null where an open answer
            could not be read.

        Raises:
            InputError: an empty question, or a closed one with fewer than two choices.
        """
        from labelrel.align.evaluate import is_open, item_prompts, predict, predict_open
        from labelrel.models.decoder import Decoder

        items = self._items(questions)
        parts = []
        for part in (items.filter(pl.col("choices").is_null()), items.filter(pl.col("choices").is_not_null())):
            if part.is_empty():
                continue
            if is_open(part):
                parts.append(predict_open(self.model, self.tokenizer, self.prompting, part))
            else:
                prompts = item_prompts(self.prompting, self.tokenizer, part)
                parts.append(predict(Decoder(self.model), self.prompting.task, part, prompts))
        found = items.select("item_id", "choices").join(pl.concat(parts), on="item_id", maintain_order="left")
        label = pl.col("answer")
        text = pl.col("choices").list.get(label.cast(pl.Int64, strict=False), null_on_oob=True)
        answer = pl.when(pl.col("choices").is_null()).then(label).otherwise(text)
        return found.select(answer=answer, label=label, logprob="answer_logprob").to_pandas()

    def _items(self, questions: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        task, rows = self.prompting.task.name, []
        for number, asked in enumerate(questions):
            question, choices = asked.get("question"), asked.get("choices")
            # of a table, whose missing cells are None or NaN
            choices = None if choices is None or isinstance(choices, float) else [str(choice) for choice in choices]
            if not isinstance(question, str) or not question.strip():
                raise InputError(f"question {number} is empty; each row needs a text in 'question'.")
            if choices is not None and len(choices) < 2:
                raise InputError(f"question {number} has {len(choices)} choices; give two or more, or none at all.")
            rows.append((str(number), task, "test", question, choices, None))
        items = pl.DataFrame(rows, schema=ITEMS, orient="row")
        return items if self.meta is None else items.with_columns(pl.Series("meta", [dict(self.meta)] * items.height))

"""One contender of benchmarks/align.py in a process of its own: loads the model, then trains what it is told.

    python -m benchmarks.align_worker CONTENDER SPEC      # started by benchmarks.align, not by hand

SPEC is a JSON file. The worker says one JSON line when it is ready, and one for each line that it reads:
`{"treatment": NAME, "steps": N, "seed": S}`. Memory counts from the loaded model on.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

TRL, TRL_PLAIN, ALL, TOP = "trl", "trl_no_checkpointing", "all_layers", "top_layers"
CONTENDERS = (ALL, TOP, TRL_PLAIN, TRL)  # in the order of their start: what both TRLs or both of ours load is read once
TREATMENTS = ("gold", "wrong", "mixed", "weighted", "weighted_mixed", "half")
_DRAWN = 8  # questions looked at for each that is taken: three in ten have 100 tokens
WARM = ("The sky is", " blue today.")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # trainers print to stdout
    warnings.simplefilter("ignore")

    def say(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    from labelrel.errors import LabelrelError

    name, spec = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    try:
        contender = (Stock if name in (TRL, TRL_PLAIN) else Ours)(name, spec)
        warm = contender.warm()["seconds"]
        trunk = contender.trunk()
        say(warm_seconds=warm, trunk=trunk, whole_tokens=contender.whole_tokens(), memory=contender.memory())
        for line in sys.stdin:
            order = json.loads(line)
            done = contender.train(order["treatment"], order["steps"], order["seed"])
            say(treatment=order["treatment"], memory=contender.memory(), **done)
    except LabelrelError as error:
        sys.exit(str(error))


def chosen_labels(items: pl.DataFrame, treatment: str) -> pl.DataFrame:
    """Return one of six sets of labels and weights over the same items, as a comparison has them.

    The gold label; a wrong one; right for every other item on average; gold with weights; mixed with weights;
    gold for half of the items, which are then seen twice as often.
    """
    rng = np.random.default_rng(0)  # equal draws for all: "weighted_mixed" has the labels of "mixed"
    gold = items["gold_label"].cast(pl.Int64).to_numpy()
    shift = rng.integers(1, items["choices"].list.len().to_numpy())
    wrong = (gold + shift) % items["choices"].list.len().to_numpy()
    coin, weight = rng.random(items.height) < 0.5, rng.uniform(0.1, 1.0, items.height)
    labels = {"wrong": wrong, "mixed": np.where(coin, wrong, gold)}
    labels["weighted_mixed"] = labels["mixed"]
    table = pl.DataFrame(
        {
            "item_id": items["item_id"],
            "variant_id": None,
            "answer": [str(label) for label in labels.get(treatment, gold)],
            "weight": weight if treatment.startswith("weighted") else np.ones(items.height),
            "option_probs": pl.Series([None] * items.height, dtype=pl.List(pl.Float64)),
        }
    )
    return table.head((items.height + 1) // 2) if treatment == "half" else table


class Contender:
    """What all have in common: items, examples, the plan of batches, the peak of memory since the model was loaded."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        from labelrel.align.examples import read_examples
        from labelrel.align.objective import Criterion
        from labelrel.models.load import load_model, pick_device, set_threads
        from labelrel.models.reference import parse_reference
        from labelrel.tasks import Prompting, tasks
        from labelrel.training_set import word_examples

        self.name, self.spec = name, spec
        set_threads(spec["threads"])
        task = tasks.get("hellaswag")
        self.prompting = Prompting(task)
        self.loaded = load_model(parse_reference(spec["model"]), device=pick_device(spec["device"]))
        self.loaded_bytes = self._reset_peak()
        self.items = self._long_items(task)
        training = {t: word_examples(chosen_labels(self.items, t), self.items, self.prompting) for t in TREATMENTS}
        self.texts = {t: table.select("prompt", "target").rows() for t, table in training.items()}
        self.examples = {
            t: read_examples(self.loaded, table, Criterion.named(), quiet=True) for t, table in training.items()
        }

    def _long_items(self, task: Any) -> pl.DataFrame:
        """Return the first items of the draw that have `min_tokens` with their gold ending."""
        from labelrel.errors import InputError
        from labelrel.models.choice import tokenize

        wanted, least = self.spec["items"], self.spec["min_tokens"]
        items = task.make_items(self.spec["hellaswag"], {"w2s": wanted * (_DRAWN if least else 1)}, 42)
        rows = items.iter_rows(named=True)
        texts = [(item["question"], [f" {item['choices'][int(item['gold_label'])]}"]) for item in rows]
        long = [len(prompt) >= least for prompt in tokenize(self.loaded.tokenizer, texts)]
        if sum(long) < wanted:
            raise InputError(f"{sum(long)} of {len(long)} items have {least} tokens, {wanted} are asked for.")
        return items.filter(pl.Series(long)).head(wanted)

    def warm(self) -> dict[str, float]:
        """Take one step on a few words, since first calls import and allocate."""
        raise NotImplementedError

    def trunk(self) -> dict[str, float] | None:
        """Fill the trunk cache, where there is one, and return what it cost."""
        return None

    def train(self, treatment: str, steps: int, seed: int) -> dict[str, float]:
        """Train a number of steps and return seconds and tokens without padding."""
        raise NotImplementedError

    def plan(self, treatment: str, steps: int, seed: int) -> list[list[int]]:
        """Return which examples each step sees, the same for all contenders."""
        from labelrel.align.order import plan_batches

        lengths = [len(example.prompt) for example in self.examples[treatment]]
        return plan_batches(lengths, steps=steps, batch_size=self.spec["batch_size"], seed=seed)

    def tokens(self, treatment: str, plan: Sequence[Sequence[int]]) -> int:
        return sum(len(self.examples[treatment][index].prompt) for batch in plan for index in batch)

    def whole_tokens(self) -> dict[str, int]:
        """Return the tokens of a whole run by treatment."""
        return {t: self.tokens(t, self.plan(t, self.spec["whole_steps"], 0)) for t in TREATMENTS}

    def memory(self) -> dict[str, int]:
        """Return bytes held by the loaded model, and the peak since."""
        import torch

        if self.spec["device"] == "cuda":
            return {"loaded": self.loaded_bytes, "peak": torch.cuda.max_memory_allocated()}
        return {"loaded": self.loaded_bytes, "peak": _status("VmHWM")}

    def _reset_peak(self) -> int:
        import torch

        if self.spec["device"] == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmRSS")


class Ours(Contender):
    """LoRA by labelrel, on all layers or on the top ones from the trunk cache."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        super().__init__(name, spec)
        self.top_layers = spec["top_layers"] if name == TOP else None
        self.source: Any = None

    def warm(self) -> dict[str, float]:
        from labelrel.align.objective import Example
        from labelrel.models.choice import tokenize

        (prompt,) = tokenize(self.loaded.tokenizer, [(WARM[0], [WARM[1]])])
        self._fill([prompt])
        return self._run([Example(prompt, 1.0, item_id="warm-up")], 1, 0)

    def trunk(self) -> dict[str, float] | None:
        if self.top_layers is None:
            return None
        from labelrel.align.evaluate import item_prompts

        pool = item_prompts(self.prompting, self.loaded.tokenizer, self.items)  # all options, as a comparison does
        seconds = _timed(lambda: self._fill([*pool, *(e.prompt for made in self.examples.values() for e in made)]))
        return {"seconds": seconds, "tokens": self.source.num_computed_tokens}

    def train(self, treatment: str, steps: int, seed: int) -> dict[str, float]:
        return self._run(self.examples[treatment], steps, seed)

    def _fill(self, prompts: Sequence[Any]) -> None:
        if self.top_layers is None:
            return
        from labelrel.align.run import fill_trunk
        from labelrel.config import Trunk

        folder = Path(self.spec["trunk"])
        self.source = fill_trunk(self.loaded, prompts, self.top_layers, folder, Trunk(), quiet=True)
        if self.source is None:
            sys.exit("the trunk cache has no room")

    def _run(self, examples: Sequence[Any], steps: int, seed: int) -> dict[str, float]:
        from labelrel.align.lora import add_adapter, remove_adapter
        from labelrel.align.train import train
        from labelrel.config import Lora
        from labelrel.models.decoder import Decoder

        _wait(self.spec)
        started = time.perf_counter()
        model = add_adapter(self.loaded.model, Lora(), top_layers=self.top_layers, seed=seed)
        decoder = Decoder(model, top_layers=self.top_layers, source=self.source)
        size, rate = self.spec["batch_size"], self.spec["learning_rate"]
        done = train(model, decoder, examples, steps=steps, batch_size=size, learning_rate=rate, seed=seed)
        _wait(self.spec)
        seconds = time.perf_counter() - started
        self.loaded.model = remove_adapter(model)
        return {"seconds": seconds, "tokens": done.num_tokens, "loss": done.history[-1].loss}


class Stock(Contender):
    """TRL's SFTTrainer with LoRA on all linear layers; its own settings but for those that all must share."""

    model: Any = None

    def warm(self) -> dict[str, float]:
        return self._run([WARM] * self.spec["batch_size"], 1)

    def train(self, treatment: str, steps: int, seed: int) -> dict[str, float]:
        plan = self.plan(treatment, steps, seed)
        rows = [self.texts[treatment][index] for batch in plan for index in batch]
        return {**self._run(rows, steps), "tokens": self.tokens(treatment, plan)}

    def _run(self, rows: Sequence[tuple[str, str]], steps: int) -> dict[str, float]:
        """Train on rows in the order given; making the trainer, which tokenises, is not timed."""
        import tempfile

        import trl
        from datasets import Dataset, disable_progress_bars
        from peft import LoraConfig

        disable_progress_bars()
        fresh = self.model is None
        lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")
        own: dict[str, Any] = {} if self.name == TRL else {"activation_checkpointing": False}
        with tempfile.TemporaryDirectory() as folder:
            settings = trl.SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=self.spec["batch_size"],
                learning_rate=self.spec["learning_rate"],
                train_sampling_strategy="sequential",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=self.spec["device"] == "cpu",
                bf16=self.spec["device"] != "cpu",
                **own,
            )
            trainer = trl.SFTTrainer(
                model=self.loaded.model if fresh else self.model,
                args=settings,
                train_dataset=Dataset.from_list([{"prompt": prompt, "completion": text} for prompt, text in rows]),
                processing_class=self.loaded.tokenizer,
                peft_config=lora if fresh else None,
            )
            self.model = trainer.model
            _wait(self.spec)
            started = time.perf_counter()
            loss = trainer.train().training_loss
            _wait(self.spec)
        return {"seconds": time.perf_counter() - started, "loss": loss}


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _wait(spec: dict[str, Any]) -> None:
    import torch

    if spec["device"] == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

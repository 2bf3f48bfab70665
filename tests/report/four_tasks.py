"""Supervisors of four kinds of tasks, drawn with a seed: what a report looks like on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from fake_results import write_run, write_training

from labelrel import schema
from labelrel.scoring import score

LETTERS = "ABCD"
METHODS = ("share", "entropy", "margin", "reliability", "option_probability", "self_confidence", "crowdlab")
OPEN_METHODS = ("share", "entropy", "margin", "reliability")


def write_four(data: Path, task: str, num_items: int = 400, methods: tuple[str, ...] | None = None) -> Path:
    """Write a comparison on `hellaswag`, `mmlu`, `ethics_commonsense` or `gsm8k` with items, answers and scores."""
    data.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    make = {"ethics_commonsense": _ethics, "gsm8k": _gsm8k}.get(task, _choices)
    items, answers = make(task, num_items, rng)
    items.write_parquet(data / "items.parquet")
    answers.write_parquet(data / "answers.parquet")
    names = methods or (OPEN_METHODS if task == "gsm8k" else METHODS)
    score(answers, list(names), items=items).write_parquet(data / "scores.parquet")
    accuracy = {"floor": 0.45, "naive": 0.5, "filter": 0.55, "reliability_weight": 0.53, "random": 0.49, "ceiling": 0.7}
    for name, share in accuracy.items():
        correct = (np.random.default_rng(3).random(300) < share).astype(int).tolist()
        role = {"random": "control"}.get(name, name if name in ("floor", "ceiling") else "method")
        folder = data / "supervise" if name == "floor" else data / "align" / f"{name}-42"
        steps = np.arange(1, 401)
        write_run(folder, name, role, correct)
        noise = rng.normal(0, 0.15, 400)
        loss = pl.DataFrame({"step": steps, "loss": 0.4 + share * np.exp(-steps / 120) * 2 + noise})
        loss.write_parquet(folder / "history.parquet")
        write_training(data, name, kept_fraction=0.5, label_accuracy=share, num_items=200, score_method="entropy")
    return data


def _choices(task: str, num_items: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw four endings per item, asked in five orders of a supervisor that likes what is listed first."""
    rows, replies = [], []
    for n in range(num_items):
        choices = [f"ending {c} of item {n}" for c in "wxyz"]
        gold = int(rng.integers(4))
        rows.append((f"i{n}", task, "w2s", f"What follows number {n}?", choices, str(gold)))
        logits = rng.normal(0, 0.8, 4)
        logits[gold] += rng.gamma(2.0, 0.9)
        for variant in range(5):
            order = list(range(4)) if not variant else rng.permutation(4).tolist()
            seen = logits + rng.normal(0, 0.7, 4)
            seen[order[0]] += 0.9
            logprobs = seen - np.log(np.exp(seen).sum())
            answer = int(np.argmax(seen))
            listed = "\n".join(f"{LETTERS[p]}. {choices[c]}" for p, c in enumerate(order))
            prompt = f"Question: What follows number {n}?\n{listed}\nAnswer:"
            shown = LETTERS[order.index(answer)]
            replies.append((f"i{n}", "weak", str(variant), prompt, f" {shown}", str(answer), None, logprobs.tolist()))
    return _tables(rows, replies)


def _ethics(task: str, num_items: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw items of two answer words, asked in both orders."""
    words = ["acceptable", "unacceptable"]
    rows, replies = [], []
    for n in range(num_items):
        gold = int(rng.random() < 0.47)
        rows.append((f"i{n}", task, "w2s", f"I told my sister story {n}.", words, str(gold)))
        lean = (1.1 if gold else -1.1) + rng.normal(0, 1)
        for variant, order in enumerate(([0, 1], [1, 0])):
            seen = lean + rng.normal(0, 0.6) + (-0.5 if order[0] == 0 else 0.5)
            probability = 1 / (1 + np.exp(-seen))
            prompt = f"I told my sister story {n}.\nIs this {words[order[0]]} or {words[order[1]]}?\nAnswer:"
            logprobs = [float(np.log1p(-probability)), float(np.log(probability))]
            answer = int(seen > 0)
            replies.append((f"i{n}", "weak", str(variant), prompt, words[answer], str(answer), None, logprobs))
    return _tables(rows, replies)


def _gsm8k(task: str, num_items: int, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw open questions with a number, one answer in twenty of which cannot be read."""
    rows, replies = [], []
    for n in range(num_items):
        gold = int(rng.integers(5, 3000))
        rows.append((f"i{n}", task, "w2s", f"How many are {n} and some?", None, str(gold)))
        knows, guess = rng.beta(0.5, 1.6), str(gold + int(rng.integers(1, 9)))
        for variant in range(5):
            draw = rng.random()
            answer = str(gold) if draw < knows else guess if draw < 0.75 else str(int(rng.integers(1, 99999999999)))
            read = None if rng.random() < 0.05 else answer
            replies.append((f"i{n}", "weak", str(variant), f"How many? ({n})", f" {answer}", read, None, None))
    return _tables(rows, replies)


def _tables(rows: list[tuple[object, ...]], replies: list[tuple[object, ...]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    items = pl.DataFrame(rows, schema=schema.ITEMS, orient="row")
    return items, pl.DataFrame(replies, schema=schema.ANSWERS, orient="row")

"""Write the example of the docs: made-up votes of eight workers on three kinds of animals, and some gold labels.

python docs/examples/make.py
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

HERE = Path(__file__).parent
LABELS = ("cat", "dog", "fox")
SKILL = {"ada": 0.93, "ben": 0.9, "cyd": 0.85, "dov": 0.85, "eve": 0.75, "fay": 0.7, "gus": 0.55, "hal": 0.0}
NUM_ITEMS, PER_ITEM, NUM_GOLD = 240, 5, 160


def rows(seed: int = 7) -> tuple[list[list[str]], list[list[str]]]:
    """Return the votes and the gold labels; hal always says "cat", and a third of the pictures is blurred."""
    draw = random.Random(seed)
    votes, gold = [], []
    for number in range(NUM_ITEMS):
        item, truth = f"picture-{number:03d}", draw.choice(LABELS)
        blurred = draw.random() < 1 / 3
        for worker in draw.sample(sorted(SKILL), PER_ITEM):
            skill = 0.4 if blurred and worker != "hal" else SKILL[worker]
            label = "cat" if worker == "hal" else truth if draw.random() < skill else draw.choice(LABELS)
            votes.append([item, worker, label])
        if number < NUM_GOLD:
            gold.append([item, truth])
    return votes, gold


def write(name: str, header: list[str], lines: list[list[str]]) -> None:
    """Write one CSV beside this file."""
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])


if __name__ == "__main__":
    votes, gold = rows()
    write("votes.csv", ["picture", "worker", "label"], votes)
    write("gold.csv", ["picture", "truth"], gold)

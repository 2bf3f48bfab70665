"""Scoring, side by side with what a user would use instead, in one run.

    python -m benchmarks.scoring                 # the table of ratios → benchmarks/results/scoring.json
    python -m benchmarks.scoring --big 100000000 # Parquet to Parquet, time and peak memory → scoring_big.json

Both sides get the same answers as a table in memory and return scores for all of them. Pairs run one after
the other in alternation, so that a slow minute of the machine hits both; a ratio is theirs / ours of one
round, and the table shows the median with the smallest and largest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

RESULTS = Path(__file__).parent / "results"
SEED = 0
PER_ITEM, ANNOTATORS, CLASSES = 5, 50, 4


def make_answers(rows: int, *, seed: int = SEED) -> pl.DataFrame:
    """5 answers per item by different annotators out of 50, whose accuracy is drawn from [.4, .9], 4 classes."""
    rng = np.random.default_rng(seed)
    items = rows // PER_ITEM
    first = rng.integers(ANNOTATORS, size=items)
    step = rng.integers(1, ANNOTATORS // PER_ITEM, size=items)  # five different ones: first + k * step
    who = (first[:, None] + np.arange(PER_ITEM) * step[:, None]) % ANNOTATORS
    skill = rng.uniform(0.4, 0.9, size=ANNOTATORS)
    truth = rng.integers(CLASSES, size=items)
    right = rng.random(who.shape) < skill[who]
    answer = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, CLASSES, size=who.shape)) % CLASSES)
    return pl.DataFrame(
        {
            "item_id": np.repeat(np.arange(items, dtype=np.int64), PER_ITEM),
            "annotator_id": who.ravel().astype(np.int32),
            "answer": answer.ravel().astype(np.int32),
        }
    )


def per_item_loop(table: pd.DataFrame) -> pd.DataFrame:
    """The shape of a research script: one window of rows per item, counted and scored by itself.

    Per item a value_counts of its answers, scipy's entropy of their shares padded with zeros, a check of
    the softmax, and a cell of the table read and written per row, as the paper's two scripts do together.
    """
    from scipy.special import softmax
    from scipy.stats import entropy

    table = table.assign(entropy=0.0, reliability=0.0)
    for start in range(0, len(table), PER_ITEM):
        window = table.loc[start : start + PER_ITEM - 1]
        if window["label"].isnull().any() or len(window["task"].unique()) != 1:
            continue
        votes = window["label"].value_counts().to_dict()
        shares = [count / PER_ITEM for count in votes.values()]
        uncertainty = entropy(shares + [0] * (PER_ITEM - len(shares)))
        powers = {answer: math.exp(count / PER_ITEM / 0.2) for answer, count in votes.items()}
        norm = sum(powers.values())
        assert abs(softmax([share / 0.2 for share in shares])[0] - next(iter(powers.values())) / norm) < 1e-9
        for row in window.index:
            table.at[row, "entropy"] = uncertainty
            table.at[row, "reliability"] = powers[window.at[row, "label"]] / norm
    return table


def timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def compare(name: str, theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int, scale: float = 1.0) -> dict:
    """Time both, `rounds` times in turn; `scale` is our rows per row of theirs."""
    ours()  # imports and first calls
    pairs = []
    for _ in range(rounds):
        pairs.append((timed(theirs) * scale, timed(ours)))
        print(f"  {name}: {pairs[-1][0]:.2f} s / {pairs[-1][1]:.3f} s", file=sys.stderr, flush=True)
    ratios = sorted(slow / fast for slow, fast in pairs)
    return {
        "comparison": name,
        "theirs_s": statistics.median(p[0] for p in pairs),
        "ours_s": statistics.median(p[1] for p in pairs),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "rounds": rounds,
    }


def side_by_side(rounds: int) -> list[dict[str, Any]]:
    from crowdkit.aggregation import GLAD, MACE, MMSR, DawidSkene

    from labelrel import score

    warnings.simplefilter("ignore")  # theirs, about pandas

    def frames(rows: int) -> tuple[pl.DataFrame, pd.DataFrame]:
        ours = make_answers(rows)
        return ours, ours.to_pandas().set_axis(["task", "worker", "label"], axis=1)

    million, million_pd = frames(1_000_000)
    _, loop_pd = frames(25_000)
    small, small_pd = frames(50_000)
    twenty = {"dawid_skene": {"iterations": 20, "tolerance": 0.0}}
    results = [
        compare(
            "per-item loop, entropy and reliability, 1 M (loop timed on 25 k)",
            lambda: per_item_loop(loop_pd), lambda: score(million, ["entropy", "reliability"]), rounds, scale=40,
        ),
        compare(
            "crowd-kit Dawid-Skene, 20 iterations, 1 M",
            lambda: DawidSkene(n_iter=20, tol=0).fit_predict_proba(million_pd),
            lambda: score(million, ["dawid_skene"], params=twenty), rounds,
        ),
        compare(
            "crowd-kit MACE, one restart, 1 M",
            lambda: MACE(n_restarts=1, random_state=0).fit_predict_proba(million_pd),
            lambda: score(million, ["mace"], params={"mace": {"restarts": 1}}), rounds,
        ),
        compare(
            "crowd-kit M-MSR, 1 M",
            lambda: MMSR(random_state=0).fit_predict(million_pd), lambda: score(million, ["mmsr"]), rounds,
        ),
        compare(
            "crowd-kit GLAD, 50 k", lambda: GLAD().fit_predict_proba(small_pd), lambda: score(small, ["glad"]), rounds
        ),
    ]  # fmt: skip
    return results


def big(rows: int, method: list[str], folder: Path) -> dict[str, Any]:
    """Run the command line on a Parquet file of its own in a fresh process; time and peak memory from the kernel."""
    source, out = folder / f"answers-{rows}.parquet", folder / "scores.parquet"
    if not source.is_file():
        make_answers(rows).write_parquet(source)
    command = [sys.executable, "-m", "labelrel.cli", "score", str(source), "-o", str(out), "-q"]
    for name in method:
        command += ["-m", name]
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    assert status == 0, f"exit status {status}"
    written = pl.scan_parquet(out).select(pl.len()).collect().item()
    return {
        "methods": method, "answers": rows, "seconds": seconds, "peak_gib": usage.ru_maxrss / 2**20,
        "rows_written": written, "out_gib": out.stat().st_size / 2**30,
    }  # fmt: skip


def facts(command: str) -> dict[str, Any]:
    names = ("labelrel", "crowd-kit", "polars", "numpy", "scipy", "pandas", "scikit-learn")
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "date": date.today().isoformat(),
        "command": command,
        "machine": f"{os.cpu_count()} cores, {model}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "seed": SEED,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs per comparison")
    parser.add_argument("--big", type=int, metavar="ROWS", help="Parquet to Parquet with this many answers")
    parser.add_argument("--folder", type=Path, help="where the large files go; default: a temporary folder")
    options = parser.parse_args()
    name, command = "scoring", f"python -m benchmarks.scoring --rounds {options.rounds}"
    if options.big:
        name, command = "scoring_big", f"python -m benchmarks.scoring --big {options.big}"
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            rows = [big(options.big, methods, folder) for methods in (["entropy", "reliability"], ["dawid_skene"])]
    else:
        rows = side_by_side(options.rounds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**facts(command), "results": rows}, indent=2) + "\n")
    with pl.Config(tbl_width_chars=140, fmt_str_lengths=80, tbl_cols=-1):
        print(pl.DataFrame(rows))


if __name__ == "__main__":
    main()

"""Six label treatments beside one run of TRL's SFTTrainer: time, memory, and what fewer layers cost in accuracy.

    python -m benchmarks.align --hellaswag DIR           # rounds of a few steps, whole runs reckoned from them
    python -m benchmarks.align --hellaswag DIR --whole   # every step of every run
    python -m benchmarks.align quality                   # test accuracy, top layers against all

DIR holds `hellaswag_validation.jsonl`. All write to benchmarks/results/align.json, each to its own part. All
contenders train LoRA of rank 16 on all linear layers of the same model, on the same batches, with the same
number of threads, each in a process of its own, so that peak memory is its own.

- `top_layers`: labelrel on the top layers from the trunk cache, which is filled once, with all options.
- `all_layers`: labelrel on all layers.
- `trl`: TRL's SFTTrainer with its own settings, which compute activations anew in the backward pass.
- `trl_no_checkpointing`: the same without that: faster, more memory.

By default contenders take turns, a few steps each per round, and 3 epochs are reckoned from tokens per second and
exact token counts: start of the process + trunk + tokens / rate. Six methods are one
process, as with `labelrel align --rule A --rule B ...`. Results are written after every round; the same command goes
on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.align_worker import ALL, CONTENDERS, TOP, TREATMENTS, TRL, TRL_PLAIN

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "align"
RESULTS = Path(__file__).parent / "results" / "align.json"
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["speed", "quality"], default="speed")
    parser.add_argument("--hellaswag", metavar="DIR", help="folder with hellaswag_validation.jsonl")
    parser.add_argument("--whole", action="store_true", help="run everything to its end, once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps per contender and round")
    parser.add_argument("--items", type=int, default=160)
    parser.add_argument("--min-tokens", type=int, default=100, help="take items with as many; 0: any")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--top-layers", type=int, default=8)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tasks", nargs="*", default=["world_facts", "subdivisions"], help="of quality")
    parser.add_argument("--seeds", type=int, default=2, help="of quality")
    parser.add_argument("--fresh", action="store_true", help="do not go on from what is there")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.part == "quality":
        from benchmarks.align_quality import quality, quality_table

        print(quality_table(quality(options)))
        return
    if options.hellaswag is None:
        parser.error("speed needs --hellaswag DIR, the folder with hellaswag_validation.jsonl")
    if options.rounds < 1 or options.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    print(table(speed(options)))


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is missing, and return the record of the mode asked for."""
    part = "whole" if options.whole else "rounds"
    record = taken_up(read_part(options.out, part), settings(options), fresh=options.fresh, whole=options.whole)
    record |= facts(options)
    if record["trunk"] is None:  # else it was timed, and what is on disk only saves doing it again
        shutil.rmtree(WORK / "trunk", ignore_errors=True)
    if options.whole:
        measure_whole(options, record)
    else:
        measure_rounds(options, record)
    return record


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return all that results of two calls must share."""
    from labelrel.align.order import num_steps

    names = ("items", "min_tokens", "epochs", "batch_size", "learning_rate", "top_layers", "model", "threads", "device")
    found = {name: getattr(options, name) for name in names}
    steps = num_steps(options.items, options.epochs, options.batch_size)
    return {**found, "whole": options.whole, "whole_steps": steps, "steps": steps if options.whole else options.steps}


def taken_up(old: dict[str, Any] | None, wanted: dict[str, Any], *, fresh: bool, whole: bool) -> dict[str, Any]:
    """Return the record to go on with; a round that was cut short is lost, a whole run of a contender is not."""
    if old is None or fresh or old["settings"] != wanted:
        return {"settings": wanted, "start_seconds": {}, "memory": {}, "trunk": None, "measured": []}
    kept = [turn for turn in old["measured"] if whole or set(turn) == set(CONTENDERS)]
    return {**old, "measured": kept}


def measure_rounds(options: argparse.Namespace, record: dict[str, Any]) -> None:
    done = len(record["measured"])
    if done >= options.rounds:
        return
    workers = {name: Worker(name, options, record) for name in CONTENDERS}
    for number in range(done, options.rounds):
        turn = {name: [workers[name].train("gold", options.steps, seed=number)] for name in workers}
        record["measured"].append(turn)
        write(options.out, "rounds", record)
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stop()


def measure_whole(options: argparse.Namespace, record: dict[str, Any]) -> None:
    record["measured"] = record["measured"] or [{}]
    (turn,) = record["measured"]
    for name in CONTENDERS:
        if name in turn:
            continue
        worker = Worker(name, options, record)
        treatments = TREATMENTS if name == TOP else ("gold",)
        turn[name] = [worker.train(treatment, record["settings"]["steps"], seed=0) for treatment in treatments]
        worker.stop()
        write(options.out, "whole", record)
        print(f"{name} done", file=sys.stderr, flush=True)


class Worker:
    """A contender in its own process; what it says about start, trunk and memory goes into the record."""

    def __init__(self, name: str, options: argparse.Namespace, record: dict[str, Any]) -> None:
        self.name, self.record = name, record
        WORK.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=WORK, suffix=".json")
        spec = {**record["settings"], "hellaswag": str(Path(options.hellaswag).resolve()), "trunk": str(WORK / "trunk")}
        os.write(handle, json.dumps(spec).encode())
        os.close(handle)
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.align_worker", name, path],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            ready = self._hear()
        finally:
            Path(path).unlink()
        trunk = ready["trunk"]
        seconds = time.perf_counter() - started - ready["warm_seconds"] - (trunk or {"seconds": 0})["seconds"]
        record["start_seconds"].setdefault(name, round(seconds, 2))
        if trunk and record["trunk"] is None:
            record["trunk"] = trunk
        record["whole_tokens"] = ready["whole_tokens"]

    def train(self, treatment: str, steps: int, seed: int) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps({"treatment": treatment, "steps": steps, "seed": seed}), file=self.process.stdin, flush=True)
        done = self._hear()
        return {key: done[key] for key in ("treatment", "tokens")} | {k: round(done[k], 3) for k in ("seconds", "loss")}

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} stopped with exit code {self.process.wait()}; what it said is above")
        message: dict[str, Any] = json.loads(line)
        before = self.record["memory"].get(self.name, {"loaded": 0, "peak": 0})
        self.record["memory"][self.name] = {key: max(before[key], message["memory"][key]) for key in before}
        return message


def reckon(record: dict[str, Any]) -> dict[str, Any]:
    """Return rates, wall time of 3 epochs and ratios, each as median, lowest, highest over the rounds.

    Where a run was measured whole, its tokens are all there are, and the wall time is the one measured.
    """
    starts, tokens, trunk = record["start_seconds"], record["whole_tokens"], record["trunk"]["seconds"]
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    walls: dict[str, list[float]] = {name: [] for name in (*CONTENDERS, "six")}
    for turn in record["measured"]:
        for name in CONTENDERS:
            rate = sum(run["tokens"] for run in turn[name]) / sum(run["seconds"] for run in turn[name])
            rates[name].append(rate)
            walls[name].append(starts[name] + tokens["gold"] / rate + (trunk if name == TOP else 0))
        walls["six"].append(starts[TOP] + trunk + sum(tokens.values()) / rates[TOP][-1])
    peaks = {name: found["peak"] for name, found in record["memory"].items()}
    return {
        "tokens_per_second": {name: spread(values) for name, values in rates.items()},
        "wall_seconds": {name: spread(values) for name, values in walls.items()},
        "ratios": {
            f"{theirs} / {name}": ratios(walls[theirs], walls[ours])
            for theirs in (TRL, TRL_PLAIN)
            for ours, name in (("six", "six methods, top layers"), (ALL, "one method, all layers"), (TOP, "one, top"))
        },
        "peak_ratios": {
            f"{theirs} / {ours}": round(peaks[theirs] / peaks[ours], 3)
            for theirs in (TRL, TRL_PLAIN)
            for ours in (ALL, TOP)
        },
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Return the spread of theirs / ours, round by round."""
    return spread([a / b for a, b in zip(theirs, ours, strict=True)])


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was called, when and where."""
    shown = list(sys.argv[1:])
    for name in ("--hellaswag", "--out"):  # the reader's own folders stay out of the record
        if name in shown:
            shown[shown.index(name) + 1] = "DIR" if name == "--hellaswag" else "FILE"
    return {
        "command": " ".join(["python -m benchmarks.align", *shown]),
        "date": date.today().isoformat(),
        "machine": {"processor": processor(options.device), "cores": os.cpu_count(), "threads": options.threads},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def processor(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def read_part(out: Path, part: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(out.read_text(encoding="utf-8")).get(part) if out.is_file() else None
    return found


def write(out: Path, part: str, record: dict[str, Any]) -> None:
    """Put one part into the file, the others left as they are; what can be reckoned is."""
    if part != "quality" and record["measured"] and set(record["measured"][-1]) == set(CONTENDERS):
        record["summary"] = reckon(record)
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps({**before, part: record}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(out)


def table(record: dict[str, Any]) -> str:
    found, how = record["summary"], record["settings"]
    mean = record["whole_tokens"]["gold"] / (how["whole_steps"] * how["batch_size"])
    lines = [
        f"{how['model']}, {how['items']} HellaSwag items of {mean:.0f} tokens, {how['epochs']:g} epochs = "
        f"{how['whole_steps']} steps of {how['batch_size']}, {record['machine']['processor']}, "
        f"{how['threads']} threads, {record['date']}",
        "every step was run"
        if how["whole"]
        else f"reckoned from {len(record['measured'])} rounds of {how['steps']} steps each, not run to the end",
        f"trunk: {record['trunk']['seconds']:.0f} s for {record['trunk']['tokens']} tokens, once",
        f"\n{'':<24}{'tokens/s':>24}{'all epochs, s':>28}{'start, s':>10}{'peak':>10}{'above the model':>17}",
    ]
    for name in CONTENDERS:
        memory = record["memory"][name]
        peak, above = memory["peak"] / GIB, (memory["peak"] - memory["loaded"]) / GIB
        lines.append(
            f"{name:<24}{_range(found['tokens_per_second'][name], 0):>24}{_range(found['wall_seconds'][name], 0):>28}"
            f"{record['start_seconds'][name]:>10.1f}{peak:>6.2f} GiB{above:>13.2f} GiB"
        )
    lines.append(f"{'six methods, top layers':<24}{'':>24}{_range(found['wall_seconds']['six'], 0):>28}\n")
    lines += [f"{name:<52}{_range(ratio, 2):>24}" for name, ratio in found["ratios"].items()]
    lines += [f"peak of {name:<44}{ratio:>8.2f}" for name, ratio in found["peak_ratios"].items()]
    return "\n".join(lines)


def _range(found: dict[str, float], digits: int) -> str:
    return f"{found['median']:.{digits}f} [{found['lowest']:.{digits}f}, {found['highest']:.{digits}f}]"


if __name__ == "__main__":
    main()

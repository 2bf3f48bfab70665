"""Asking a local model, side by side with what a user would do instead, in one run.

    python -m benchmarks.sampling --hellaswag DIR     # → benchmarks/results/sampling.json

DIR holds `hellaswag_validation.jsonl`. All sides ask the same questions of the same model, in alternation, so
that a slow minute of the machine hits all of them; a ratio belongs to one round, and the table shows the
median with the smallest and largest.

- `raw`: the model's own forward pass over equally long rows without padding, logits at every position.
- `choice`: mode `choice`, 5 wordings per question and all their options, tokenising and everything
  included. Its token rate counts each needed token once: the tokens of a question's wordings and options
  that begin alike are one.
- `choice, nothing shared`: the same answers from one sequence per wording and option, batched by length.
- `one by one`: the paper's way, `generate` on one prompt at a time, 50 new tokens.
- `batched`: `generate` on batches of prompts sorted by length, 50 new tokens.
- `generate`: mode `generate` with 50 new tokens that no end of line stops, and as it is by default.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NEW_TOKENS = 50
VARIANTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hellaswag", required=True, metavar="DIR", help="folder with hellaswag_validation.jsonl")
    parser.add_argument(
        "--tasks", nargs="*", default=["world_facts", "hellaswag"], help="measure these; keep the others"
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=16, help="questions per task for the choice modes")
    parser.add_argument("--slow-answers", type=int, default=5, help="answers per round for the paper's way")
    parser.add_argument("--batch-answers", type=int, default=32, help="answers per round for the ways in batches")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "sampling.json")
    options = parser.parse_args()

    from labelrel.models.load import load_model, pick_device, set_threads
    from labelrel.models.reference import parse_reference

    set_threads(options.threads)
    loaded = load_model(parse_reference(options.model), device=pick_device(options.device))
    before = json.loads(options.out.read_text(encoding="utf-8"))["tasks"] if options.out.is_file() else {}
    result: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.sampling", *_public(sys.argv[1:])]),
        "date": date.today().isoformat(),
        "machine": _machine(options),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "model": options.model,
        "tasks": before,
    }
    for task in options.tasks:
        source = options.hellaswag if task == "hellaswag" else None
        result["tasks"][task] = measure(loaded, task, source, options)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def measure(loaded: Any, task: str, source: str | None, options: argparse.Namespace) -> dict[str, Any]:
    queries = make_queries(task, source, options.items)
    raw_tokens, raw = raw_forward(loaded, queries)
    needed, sides = choice_sides(loaded, queries)
    slow = queries[:: max(1, len(queries) // options.slow_answers)][: options.slow_answers]
    many = queries[:: max(1, len(queries) // options.batch_answers)][: options.batch_answers]
    sides |= {
        "one by one": (len(slow), lambda: one_by_one(loaded, slow)),
        "batched": (len(many), lambda: batched(loaded, many)),
        "generate": (len(many), lambda: ours_generate(loaded, many, stop=None)),
        "generate, one line": (len(many), lambda: ours_generate(loaded, many, stop="\n")),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ["raw", *sides]}
    _timed(raw)  # the first pass allocates
    for number in range(options.rounds):
        seconds["raw"].append(_timed(raw))
        for name, (_, run) in sides.items():
            seconds[name].append(_timed(run))
        print(f"{task}: round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    answers = {name: count for name, (count, _) in sides.items()}
    rates = {name: [answers[name] / s for s in seconds[name]] for name in sides}
    raw_rate = [raw_tokens / s for s in seconds["raw"]]
    ratios = {
        "choice token rate / raw forward token rate": _over([needed / s for s in seconds["choice"]], raw_rate),
        "choice / one by one": _over(rates["choice"], rates["one by one"]),
        "choice / batched": _over(rates["choice"], rates["batched"]),
        "choice / nothing shared": _over(rates["choice"], rates["choice, nothing shared"]),
        "generate / one by one": _over(rates["generate"], rates["one by one"]),
        "generate, one line / one by one": _over(rates["generate, one line"], rates["one by one"]),
    }
    return {
        "questions": options.items,
        "answers": answers,
        "needed_tokens": needed,
        "seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
        "answers_per_second": {name: round(statistics.median(values), 3) for name, values in rates.items()},
        "raw_tokens_per_second": round(statistics.median(raw_rate), 1),
        "ratios": ratios,
    }


def make_queries(task: str, source: str | None, items: int) -> list[Any]:
    from labelrel.supervise.variants import query_variants
    from labelrel.tasks import Prompting, tasks

    known = tasks.get(task)
    made = known.make_items(source, {"w2s": items}, 42)
    return list(query_variants(Prompting(known), made, VARIANTS))


def raw_forward(loaded: Any, queries: list[Any]) -> tuple[int, Callable[[], None]]:
    """Rows as long as the questions' trees are on average, 2,048 tokens at a time, without padding."""
    import torch

    length = 96
    ids = torch.randint(0, 1000, (2048 // length, length), device=loaded.model.device)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(3):
                loaded.model(input_ids=ids, use_cache=False)
        _wait(loaded)

    return 3 * ids.numel(), run


def choice_sides(loaded: Any, queries: list[Any]) -> tuple[int, dict[str, tuple[int, Callable[[], Any]]]]:
    from labelrel.models.choice import choice_logprobs, tokenize
    from labelrel.models.decoder import Decoder
    from labelrel.models.packing import Prompt
    from labelrel.models.tree import grow
    from labelrel.supervise import Asking, Supervisor
    from labelrel.supervise.transformers_engine import TransformersEngine

    supervisor = Supervisor(loaded.model, loaded.tokenizer, "bench", "bench")
    asking = Asking(
        mode="choice", temperature=1.0, seed=42, max_new_tokens=NEW_TOKENS,
        cache=Path(tempfile.gettempdir()), supervisor=lambda: supervisor, model="bench",
    )  # fmt: skip
    engine = TransformersEngine(supervisor, asking)
    prompts = tokenize(loaded.tokenizer, [(query.prompt, query.options) for query in queries])
    needed = sum(len(grow(prompts[i : i + VARIANTS])) for i in range(0, len(prompts), VARIANTS))

    def shared() -> None:
        for start in range(0, len(queries), 160):  # whole questions, about a block of `labelrel sample`
            engine.ask(queries[start : start + 160])

    def apart() -> None:
        alone = [Prompt(prompt.prefix, (branch,)) for prompt in prompts for branch in prompt.branches]
        choice_logprobs(Decoder(loaded.model), alone)

    return needed, {"choice": (len(queries), shared), "choice, nothing shared": (len(queries), apart)}


def one_by_one(loaded: Any, queries: list[Any]) -> None:
    import torch

    for query in queries:
        ids = loaded.tokenizer(query.prompt, return_tensors="pt").to(loaded.model.device)
        with torch.inference_mode():
            loaded.model.generate(**ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)


def batched(loaded: Any, queries: list[Any], size: int = 32) -> None:
    import torch

    tokenizer = loaded.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    texts = sorted((query.prompt for query in queries), key=len)
    for start in range(0, len(texts), size):
        ids = tokenizer(texts[start : start + size], return_tensors="pt", padding=True, padding_side="left")
        with torch.inference_mode():
            loaded.model.generate(
                **ids.to(loaded.model.device), max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
            )


def ours_generate(loaded: Any, queries: list[Any], *, stop: str | None) -> None:
    from labelrel.models.generate import generate
    from labelrel.models.memory import token_budget

    generate(
        loaded.model, loaded.tokenizer, [query.prompt for query in queries], max_new_tokens=NEW_TOKENS,
        temperature=0.0, seed=0, names=[str(n) for n in range(len(queries))], stop=stop,
        budget=token_budget(loaded.model.device, loaded.model),
    )  # fmt: skip


def _timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _wait(loaded: Any) -> None:
    import torch

    if loaded.model.device.type == "cuda":
        torch.cuda.synchronize()


def _over(ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "median": round(statistics.median(ratios), 3), "lowest": round(ratios[0], 3), "highest": round(ratios[-1], 3),
    }  # fmt: skip


def _public(arguments: list[str]) -> list[str]:
    """Leave the reader's own folder out of the record."""
    shown = list(arguments)
    if "--hellaswag" in shown:
        shown[shown.index("--hellaswag") + 1] = "DIR"
    return shown


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    return {"processor": name, "threads": options.threads, "python": platform.python_version()}


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['model']}, {result['machine']['processor']}, {result['date']}"]
    for task, found in result["tasks"].items():
        lines.append(f"\n{task}: raw forward {found['raw_tokens_per_second']:.0f} tokens/s")
        lines += [f"  {name:<26} {rate:8.2f} answers/s" for name, rate in found["answers_per_second"].items()]
        lines += [
            f"  {name:<44} {r['median']:8.2f}  [{r['lowest']:.2f}, {r['highest']:.2f}]"
            for name, r in found["ratios"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What is done with a model or an adapter that is there: score it on any items, or merge it for good."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.config import Base
from labelrel.errors import ConfigError, InputError
from labelrel.evaluate import interval
from labelrel.pipeline.common import Summary, load, read
from labelrel.progress import progress, say
from labelrel.project import Project
from labelrel.schema import check_items, require_split
from labelrel.show import print_table
from labelrel.tasks import Prompting, tasks

_PREDICTIONS = (".parquet", ".jsonl")


def evaluate(
    project: Project,
    *,
    model: str | None = None,
    adapter: Path | None = None,
    items: Path | None = None,
    split: str = "test",
    out: Path | None = None,
    quiet: bool = False,
) -> Summary:
    """Ask a model, with or without an adapter, the items of one split and compare with gold.

    Args:
        project: `base` and `prompt` of its settings say where the model runs and how it is asked.
        model: reference; None: the adapter's own base, and without an adapter `align.model`.
        adapter: folder of a run or of an adapter in PEFT's format; None: the model alone.
        items: items of any task; None: the project's.
        split: which of them.
        out: where the predictions go, Parquet or JSONL; None: nowhere.
        quiet: no progress and no messages.

    Returns:
        A JSON-able dict: `model`, `adapter`, `adapter_base` (what the adapter names as its base), `task`,
        `split`, `items`, `with_gold`, `abstained` (answers that could not be read), `accuracy` with
        `accuracy_lo` and `accuracy_hi` (percentile bootstrap over items, `confidence`; null without gold labels),
        `classes` (the same per gold label where all items share their choices, else null), `seconds`, `out`.

    Raises:
        InputError: items or an adapter that are not there, items of several tasks, an adapter of another model, an
            item longer than the context of the model.
    """
    if out is not None and out.suffix not in _PREDICTIONS:
        raise InputError(f"{out}: predictions are written as {' or '.join(_PREDICTIONS)}, not '{out.suffix}'.")
    asked, prompting = _items_of(project, items, split)
    folder = None if adapter is None else find_adapter(adapter)
    named = None if folder is None else base_of(folder)
    model = model or named or project.config.align.model
    if named not in (None, model):
        say(_other_base("evaluate", model, named), quiet=quiet)
    from labelrel.align.evaluate import is_open, item_prompts, predict, predict_open
    from labelrel.align.examples import check_lengths
    from labelrel.align.merge import fit_adapter
    from labelrel.models.decoder import Decoder

    opened = is_open(asked)
    loaded = load(model, project.config.base)
    network = loaded.model if folder is None else fit_adapter(loaded.model, folder)
    started = time.perf_counter()
    with progress("evaluate", quiet=quiet) as report:
        if opened:
            predictions = predict_open(network, loaded.tokenizer, prompting, asked, report)
        else:
            prompts = item_prompts(prompting, loaded.tokenizer, asked)
            check_lengths(loaded, list(zip(asked["item_id"], prompts, strict=True)), "items")
            predictions = predict(Decoder(network), prompting.task, asked, prompts, report)
    if out is not None:
        files.write_any_table(out, predictions)
    return {
        "model": model,
        "adapter": None if adapter is None else str(adapter),
        "adapter_base": named,
        "task": prompting.task.name,
        "split": split,
        "items": predictions.height,
        "with_gold": predictions["gold_label"].count(),
        "abstained": predictions["answer"].null_count(),
        **_accuracy(project, predictions),
        "confidence": project.config.report.confidence,
        "classes": _by_class(project, asked, predictions),
        "seconds": round(time.perf_counter() - started, 2),
        "out": None if out is None else str(out),
    }


def merge(run: Path, *, model: str | None = None, out: Path, force: bool = False, quiet: bool = False) -> Summary:
    """Merge an adapter into its base → a folder that transformers loads without peft.

    Args:
        run: folder of a run or of an adapter in PEFT's format.
        model: reference of the base; None: the one that the adapter names.
        out: the folder to write.
        force: replace it where it holds a model already.
        quiet: no messages.

    Raises:
        InputError: no adapter, one of another model, or a folder that is there.
        ConfigError: neither the caller nor the adapter names a base.
    """
    folder = find_adapter(run)
    named = base_of(folder)
    model = model or named
    if model is None:
        raise ConfigError(f"the adapter in {folder} names no base; name the model it was trained on with --model.")
    if named not in (None, model):
        say(_other_base("merge", model, named), quiet=quiet)
    from labelrel.models.reference import parse_reference

    base = parse_reference(model)
    own = [] if base.kind in ("alias", "hub") else [Path(base.target).expanduser()]
    _refuse(out, force=force, needed=[folder, *own])
    home = folder.resolve().parent  # of an adapter that `align` wrote
    record = files.read_json(home / "run.json") if (home / "run.json").is_file() else {}
    predictions = home / "predictions.parquet"
    loaded = load(model, Base())
    from labelrel.align.merge import merge_adapter

    merge_adapter(
        loaded, folder, out, {**record, "model": model},
        predictions=files.read_table(predictions) if record and predictions.is_file() else None,
    )  # fmt: skip
    say(f"merge: {model} with {folder} → {out}", quiet=quiet)
    return {"model": model, "adapter": str(folder), "adapter_base": named, "out": str(out)}


def find_adapter(folder: Path) -> Path:
    """Return the folder of an adapter, given that or the folder of the run that trained it.

    Raises:
        InputError: there is none.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; name a run, such as data/align/naive-0, or an adapter's folder.")
    found = folder / "adapter" if (folder / "adapter").is_dir() else folder
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (found / name).is_file():
            raise InputError(f"{found} holds no adapter in PEFT's format ({name} is missing).")
    return found


def base_of(adapter: Path) -> str | None:
    """Return the model that an adapter names as its base; None where it names none."""
    config = files.read_json(adapter / "adapter_config.json")
    named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return named or None


def show_evaluation(result: Mapping[str, Any]) -> None:
    """Print the numbers for people."""
    told = f"{result['model']}{'' if result['adapter'] is None else ' with ' + result['adapter']}"
    row = {"items": result["items"], "with gold": result["with_gold"], "abstained": result["abstained"]}
    ends = f"{result['confidence']:.0%} interval"
    print_table([row | _shown(result)], f"{told} on {result['task']}, split {result['split']} ({ends} over items)")
    if result["classes"]:
        print()
        rows = [{"class": c["class"], "items": c["items"]} | _shown(c) for c in result["classes"]]
        print_table(rows, "by gold label")


def _shown(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {"accuracy": numbers["accuracy"], "low": numbers["accuracy_lo"], "high": numbers["accuracy_hi"]}


def _items_of(project: Project, path: Path | None, split: str) -> tuple[pl.DataFrame, Prompting]:
    where = str(path or project.items)
    table = check_items(read(project.items, "prepare") if path is None else files.read_table(path), where)
    names = table["task"].unique(maintain_order=True).to_list()
    if len(names) > 1:
        raise InputError(
            f"{where} has items of {len(names)} tasks ({', '.join(map(str, names))}); evaluate one at a time."
        )
    task = tasks.get(str(names[0]), where=f"{where} (column task)")
    return require_split(table, split, where), Prompting(task, project.config.prompt, project.config.base.seed)


def _accuracy(project: Project, predictions: pl.DataFrame) -> dict[str, float | None]:
    correct = predictions["correct"].drop_nulls().cast(pl.Float64)
    if correct.is_empty():
        return {"accuracy": None, "accuracy_lo": None, "accuracy_hi": None}
    settings = project.config.report
    found = interval(
        correct.to_numpy(),
        confidence=settings.confidence,
        resamples=settings.bootstrap,
        seed=project.config.base.seed,
    )
    return {"accuracy": found.value, "accuracy_lo": found.low, "accuracy_hi": found.high}


def _by_class(project: Project, items: pl.DataFrame, predictions: pl.DataFrame) -> list[dict[str, Any]] | None:
    """Return the accuracy per gold label where labels mean the same in all items, which share their choices."""
    if items.height < 2 or items["choices"].n_unique() > 1 or items["choices"][0] is None:
        return None
    rows = []
    for index, name in enumerate(items["choices"][0]):
        own = predictions.filter(pl.col("gold_label") == str(index))
        rows.append({"class": name, "items": own.height, **_accuracy(project, own)})
    return rows


def _other_base(stage: str, model: str, named: str | None) -> str:
    return f"{stage}: the adapter was trained on {named}, not on {model}; on another model its numbers mean little"


def _refuse(out: Path, *, force: bool, needed: list[Path]) -> None:
    """Raise where writing the folder `out` would lose something that is not ours to lose."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder with -o.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not force:
        raise InputError(f"{out} is there already; name another folder, or replace it with --force.")
    if not (out / "config.json").is_file():
        raise InputError(f"{out} holds no model, so --force does not replace it; name another folder.")
    for path in needed:
        if path.exists() and path.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out} holds {path}, which is needed for the merging; name another folder.")

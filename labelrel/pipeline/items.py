"""Stages `prepare` and `fetch`: the questions, and the models that will answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from labelrel import files
from labelrel.errors import InputError
from labelrel.pipeline.common import Summary
from labelrel.progress import say
from labelrel.project import Project
from labelrel.schema import check_items


def prepare(project: Project, *, out: Path | None = None, quiet: bool = False) -> Summary:
    """Data set → `items.parquet`."""
    from labelrel.tasks import tasks

    config = project.config
    settings = config.prepare
    task = tasks.get(settings.task)
    made = task.make_items(settings.source, settings.sizes.model_dump(), config.base.seed, settings.options)
    items = check_items(made)
    summary: Summary = {"task": task.name, "items": items.height}
    if settings.paraphrases is not None:
        items, summary["paraphrases"] = _with_paraphrases(items, project.root / settings.paraphrases)
        say(f"prepare: {_told(summary['paraphrases'])}", quiet=quiet)
    out = out or project.items
    files.write_table(out, items)
    summary |= {"splits": dict(items["split"].value_counts(sort=True).iter_rows()), "out": str(out)}
    say(f"prepare: {items.height} items of task {task.name} → {out}", quiet=quiet)
    return summary


def _with_paraphrases(items: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Give each item the questions of a table that say the same as its own, and count the others by cause."""
    from labelrel.tasks.paraphrase import accept_paraphrase, read_paraphrases

    if not path.is_file():
        raise InputError(f"no such file: {path} (prepare.paraphrases); `labelrel paraphrase` makes one.")
    given = read_paraphrases(files.read_table(path), str(path))
    causes: dict[str, int] = {}
    accepted: list[list[str]] = []
    for item_id, question in items.select("item_id", "question").iter_rows():
        kept: list[str] = []
        for text in given.get(item_id, []):
            cause = "said twice" if text in kept else accept_paraphrase(question, text)
            if cause is None:
                kept.append(text)
            else:
                causes[cause] = causes.get(cause, 0) + 1
        accepted.append(kept)
    if not any(accepted):
        raise InputError(
            f"{path} has no usable paraphrase of any item (rejected: {causes or 'none'}; item_id of the first item: "
            f"{items['item_id'][0]})."
        )
    column = pl.Series("paraphrases", accepted, dtype=pl.List(pl.String))
    counts = {"accepted": sum(map(len, accepted)), "rejected": causes, "without": sum(not kept for kept in accepted)}
    return items.with_columns(column), counts


def _told(counts: dict[str, Any]) -> str:
    rejected = ", ".join(f"{count} {cause}" for cause, count in counts["rejected"].items())
    return (
        f"{counts['accepted']} paraphrases accepted" + (f" (rejected: {rejected})" if rejected else "")
        + (f"; {counts['without']} items have none" if counts["without"] else "")
    )  # fmt: skip


def fetch(project: Project, *, quiet: bool = False) -> Summary:
    """Bring the models of the project to the local cache and write down which they are.

    An engine that asks somebody else needs no supervisor here.
    """
    from labelrel.supervise.engines import engines

    tuned = engines.get(project.config.sample.engine).tuned
    wanted = [*([project.config.supervise.model] if tuned else []), project.config.align.model]
    record = {}
    for reference in dict.fromkeys(wanted):
        model = reference.partition("@")[0]
        if model not in record:
            record[model] = fetch_model(model, quiet=quiet)["weights_sha256"]
    files.write_json(project.models, record)
    return {"models": record, "out": str(project.models)}


def fetch_model(reference: str, *, quiet: bool = False) -> Summary:
    """Bring one model to the local cache, verified."""
    from labelrel.models.fetch import RECORD, fetch
    from labelrel.models.reference import parse_reference

    folder = fetch(parse_reference(reference), progress=lambda line: say(f"fetch: {line}", quiet=quiet))
    record = folder / RECORD
    known = files.read_json(record) if record.is_file() else {}
    weights = known.get("weights_sha256") or {f.name: files.digest(f) for f in sorted(folder.glob("*.safetensors"))}
    say(f"fetch: {reference} is in {folder}", quiet=quiet)
    return {"model": reference, "folder": str(folder), "weights_sha256": weights}

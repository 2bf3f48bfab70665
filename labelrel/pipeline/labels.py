"""Stages `score` and `select`: answers → scores → training sets."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from labelrel import files
from labelrel.pipeline.common import Summary, items_and_prompting, read
from labelrel.progress import say
from labelrel.project import Project
from labelrel.schema import check_answers, check_items, check_scores, check_training, require_split


def score(
    project: Project,
    *,
    methods: list[str] | None = None,
    items: Path | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> Summary:
    """Score the project's answers → `scores.parquet`; methods that learn from gold see that of gold_dev."""
    from labelrel.scoring import label_probs_source
    from labelrel.scoring import score as score_answers

    settings = project.config.score
    names = methods or settings.methods
    known = check_items(read(items or project.items, "prepare"), str(items or project.items))
    answers = check_answers(read(project.answers, "sample"), str(project.answers))
    scores = score_answers(
        answers,
        names,
        items=known,
        gold=_small_gold(known),
        protocol=settings.protocol,
        temperature=settings.temperature,
        params=settings.sections(),
    )
    source = label_probs_source(answers)
    out = out or project.scores
    files.write_table(out, check_scores(scores), {"labelrel.label_probs": source})
    say(f"score: {len(names)} methods, label probabilities from {source} → {out}", quiet=quiet)
    return {"methods": names, "label_probs": source, "rows": scores.height, "out": str(out)}


def _small_gold(items: pl.DataFrame) -> pl.DataFrame | None:
    """Return the gold labels that methods may learn from, those of gold_dev; None where there are none."""
    gold = items.filter(pl.col("split") == "gold_dev").select("item_id", "gold_label").drop_nulls()
    return gold if gold.height else None


def select(project: Project, name: str, *, quiet: bool = False) -> Summary:
    """Turn scores into the training set of one rule."""
    from labelrel.selection import reads, treatment
    from labelrel.selection import select as select_examples
    from labelrel.training_set import label_accuracy, word_examples

    config = project.config
    params = config.select.params(name)
    wanted = treatment(name, params, where="--rule")
    items, prompting = items_and_prompting(project)
    answers = check_answers(read(project.answers, "sample"), str(project.answers))
    scores = check_scores(read(project.scores, "score"), str(project.scores))
    chosen = select_examples(name, scores, answers, items, seed=config.base.seed, params=params)
    training = check_training(word_examples(chosen, items, prompting), f"the training set of rule '{name}'")
    pool = require_split(items, "w2s").height
    scores_read = reads(name, params)
    summary = {
        "method": name,
        "role": wanted.rule.role,
        "num_items": training["item_id"].n_unique(),
        "num_rows": training.height,
        "kept_fraction": training["item_id"].n_unique() / pool,
        "label_accuracy": label_accuracy(training, items, prompting.task),
        "score_method": scores_read[0] if scores_read else None,
        "params": params,
        **wanted.record(),
    }
    out = project.training / f"{name}.parquet"
    metadata = {"labelrel.method": name, "labelrel.role": wanted.rule.role, "labelrel.params": str(params)}
    files.write_table(out, training, metadata)
    files.write_json(project.training / f"{name}.json", summary)
    say(f"select: {name} keeps {summary['num_items']} of {pool} items → {out}", quiet=quiet)
    return {**summary, "out": str(out)}

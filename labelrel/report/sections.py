"""The tables of the page below its figures: title → section, "" where there is nothing to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl

from labelrel.report.annotators import MOST
from labelrel.report.collect import Comparison
from labelrel.report.costs import cost_table, stage_table
from labelrel.report.doubts import Doubts
from labelrel.report.html import Head, Shown, details, note, section, table
from labelrel.report.origin import Origin

SCORES = {
    "method": Head("scoring method", "text"),
    "num_items": Head("items"),
    "num_scored": Head("scored"),
    "label_accuracy": Head("labels right"),
    "auroc": Head("AUROC"),
    "aurc": Head("AURC"),
    "augrc": Head("AUGRC"),
}
COSTS = {
    "method": Head("method", "text"),
    "role": Head("role", "text"),
    "loss": Head("loss", "text"),
    "num_stages": Head("stages"),
    "num_seeds": Head("seeds"),
    "seconds": Head("seconds", form=",.1f"),
    "train_seconds": Head("training", form=",.1f"),
    "evaluate_seconds": Head("testing", form=",.1f"),
    "trunk_seconds": Head("frozen layers", form=",.1f"),
    "num_steps": Head("steps", form=",.0f"),
    "num_examples_seen": Head("examples", form=",.0f"),
    "tokens": Head("tokens", form=",.0f"),
    "trunk_tokens": Head("frozen tokens", form=",.0f"),
}
STAGES = {
    "method": Head("method", "text"),
    "look": Head("asked again", "text"),
    "stage": Head("stage"),
    "num_items": Head("items", form=",.0f"),
    "asked": Head("asked", form=",.0f"),
    "joined": Head("joined", form=",.0f"),
    "label_accuracy": Head("labels right"),
    "test_accuracy": Head("test accuracy"),
    "seconds": Head("seconds", form=",.1f"),
}
DOUBTS = {
    "item_id": Head("item", "text"),
    "question": Head("question", "prose"),
    "answer": Head("label", "prose"),
    "gold_label": Head("gold label", "prose"),
    "votes": Head("votes", "prose"),
    "label_quality": Head("label quality"),
    "weight": Head("weight"),
}
EXAMPLES = {
    "item_id": Head("item", "text"),
    "question": Head("question", "prose"),
    "weak_label": Head("weak label", "prose"),
    "gold_label": Head("gold label", "prose"),
    "share": Head("vote share"),
}
INPUTS = {
    "input": Head("input", "text"),
    "path": Head("file", "prose"),
    "methods": Head("read by", "prose"),
    "sha256": Head("SHA-256", "digest"),
}


def score_section(scores: pl.DataFrame) -> dict[str, str]:
    """Show how well the scores tell right labels from wrong ones."""
    title = "How well the scores tell right labels from wrong ones"
    if scores.is_empty():
        return {title: ""}
    words = (
        "On the weak-labelled items whose gold label is known, which serves for this table only. AUROC: the chance "
        "that a right label scores above a wrong one, .5 says nothing. AURC and AUGRC: lower is better."
    )
    return {title: section(title, note(words), _frame(title, SCORES, scores))}


def annotator_section(annotators: Mapping[str, pl.DataFrame], confidence: float) -> dict[str, str]:
    """Show who answered, and how; query variants are folded away below them."""
    title = "Who answered, and how well"
    by_annotator = annotators.get("annotator_id", pl.DataFrame())
    if by_annotator.is_empty():
        return {title: ""}
    words = (
        "On the weak-labelled items, each counted once however often it was asked. Right on gold: the share of an "
        "annotator's answers that are the gold label. With the weak label: the share that are the label of the "
        f"vote, its own votes included. Intervals: Wilson, {confidence:.0%}, over items. Abstained: no answer "
        "that could be read."
    )
    parts = [note(words), _people(title, by_annotator, "annotator")]
    by_variant = annotators.get("variant_id", pl.DataFrame())
    if by_variant.height > 1:
        parts.append(details("The same by query variant", _people("By query variant", by_variant, "variant")))
    return {title: section(title, *parts)}


def _people(label: str, frame: pl.DataFrame, name: str) -> str:
    heads = [
        Head(name, "text"),
        Head("answers"),
        Head("abstained"),
        Head("items with gold"),
        Head("right on gold"),
        Head("with the weak label"),
    ]
    rows = [
        [
            "(not named)" if row[f"{name}_id"] is None else row[f"{name}_id"],
            row["num_answers"],
            row["num_abstained"],
            row["num_gold"],
            _interval(row, "accuracy"),
            _interval(row, "agreement"),
        ]
        for row in frame.head(MOST).iter_rows(named=True)
    ]
    rest = note(f"The {MOST} with most answers, of {frame.height:,}.") if frame.height > MOST else ""
    return table(label, heads, rows) + rest


def _interval(row: Mapping[str, Any], name: str) -> Shown:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_lo", "_hi"))
    return Shown("" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]", value)


def doubt_section(doubts: Doubts | None) -> dict[str, str]:
    """Show where one method's choice is closest to having gone the other way."""
    title = "Doubtful labels, kept and dropped"
    if doubts is None:
        return {title: ""}
    by = "the score it reads" if doubts.read else "for it reads no score"
    words = (
        f"By label quality of {doubts.score} ({by}). Gold labels are shown where they are known; they had no part in "
        "the choice. Votes: each answer with how many gave it."
        + (" Shown is its first choice, before it looked again." if doubts.looks_again else "")
    )
    dropped = f"The most reliable labels that {doubts.method} dropped"
    kept = f"The least reliable labels that {doubts.method} kept"
    parts = [note(words)]
    for name, frame, none in (
        (kept, doubts.kept, "It kept no label that was scored."),
        (dropped, doubts.dropped, "It dropped no label that was scored."),
    ):
        heads = {key: head for key, head in DOUBTS.items() if name == kept or key != "weight"}
        parts.append(f"<h3>{escape(name)}</h3>" + (_frame(name, heads, frame) if frame.height else note(none)))
    if doubts.num_dropped > doubts.dropped.height:
        parts.append(note(f"{doubts.dropped.height} of {doubts.num_dropped:,} that were dropped."))
    return {title: section(title, *parts)}


def example_section(examples: pl.DataFrame) -> dict[str, str]:
    """Show the wrong labels that no score made from votes alone can find."""
    title = "Wrong labels that the votes agree on"
    if examples.is_empty():
        return {title: ""}
    words = (
        "Unanimous is not certain: the more the votes agree on a wrong label, the less can a score made from votes "
        "alone find it."
    )
    return {title: section(title, note(words), _frame(title, EXAMPLES, examples))}


def cost_section(comparison: Comparison) -> dict[str, str]:
    """Show time and tokens of each method, and its stages where it has several."""
    title = "What each method costs"
    costs, stages = cost_table(comparison), stage_table(comparison)
    heads = {key: head for key, head in COSTS.items() if costs[key].null_count() < costs.height}
    words = (
        "Means over the seeds of one training run with its test. Tokens: what the trained layers read. Frozen layers: "
        "the part of the model that does not train, run once per text and shared, so that the method that came first "
        "pays for the others. Of a method that looks twice, seconds, examples and tokens count all stages, the rest "
        "the last. Asking the supervisor and scoring serve all methods and are not in here."
    )
    parts = [note(words), _frame(title, heads, costs, costs["role"].to_list())]
    if stages.height:
        look = (
            "Every stage trains afresh. Asked: items that the trained model answered again; joined: how many of them "
            "came into the next stage's training set. The last stage is the method's result."
        )
        name = "Stages of the methods that look twice"
        parts += [f"<h3>{name}</h3>", note(look), _frame(name, STAGES, stages)]
    return {title: section(title, *parts)}


def origin_section(origin: Origin, params: Mapping[str, Any], about: Mapping[str, str]) -> dict[str, str]:
    """Show how to get the same numbers again."""
    title = "How to get these numbers again"
    facts = table("About this report", [Head("", "text"), Head("", "prose")], [list(pair) for pair in about.items()])
    parts = [_lines(origin.commands), facts if about else ""]
    if origin.mixed:
        which = ", ".join(origin.mixed)
        parts.append(note(f"Not all runs read the same {which}: they are no fair comparison. Run `dvc repro`."))
    if origin.alone:
        parts.append(details("One method alone", _lines(origin.alone)))
    if origin.inputs.height:
        parts.append(details("The files that the runs read, with their digests", _frame(title, INPUTS, origin.inputs)))
    if params:
        rows = [[key, json.dumps(value, ensure_ascii=False)] for key, value in sorted(params.items())]
        heads = [Head("parameter", "text"), Head("value", "prose")]
        parts.append(details("Parameters that all runs share", table("Parameters", heads, rows)))
    return {title: section(title, *parts)}


def _lines(commands: Mapping[str, str]) -> str:
    width = min(76, max(map(len, commands)))
    text = "\n".join(f"{command:<{width}}  # {what}" for command, what in commands.items())
    return f'<pre tabindex="0">{escape(text)}</pre>'


def _frame(label: str, heads: Mapping[str, Head], frame: pl.DataFrame, styles: list[str] | None = None) -> str:
    return table(label, list(heads.values()), frame.select(list(heads)).iter_rows(), styles or ())

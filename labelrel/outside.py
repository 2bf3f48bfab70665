"""Scoring a table of answers that belongs to no project: any file, any column names, any size.

The answers are read in batches and kept as integers, the scores are written in pieces, so that a
hundred million answers need a few gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from labelrel import files
from labelrel.errors import ConfigError, InputError
from labelrel.goldcheck import Columns, GoldOptions, check_against_gold, from_calibrators
from labelrel.progress import progress, say
from labelrel.schema import check_items, require_columns, their_columns

if TYPE_CHECKING:
    from labelrel.scoring import Scorer, Votes

_HELD_ROWS = 5_000_000  # answers up to which scores are held in memory rather than computed twice


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How to read and score a table.

    Attributes:
        columns: our column name → theirs, for item_id, annotator_id, variant_id and answer. Only
            item and answer must be there, and those that are named otherwise than ours.
        methods: scoring methods; None means those that are arithmetic on the votes, and `entropy`
            alone where a target accuracy is asked for.
        params: method → its parameters.
        items: an items table, for methods that need to know the choices.
        choices: the number of classes of every item, where no items table says it.
        protocol: `default`, or `paper` for the published code's quirks.
        temperature: T of `reliability`, or "auto".
        canonical: canonical form of open answers, `number` or `text`; None leaves them as they are.
        embedder: model reference that says which answers mean the same, by cosine.
        entailment: model reference that says which answers mean the same, by mutual entailment.
        similarity: least cosine of two answers that mean the same.
        calibrator: calibrators of an earlier gold set.
    """

    columns: Mapping[str, str]
    methods: Sequence[str] | None = None
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    items: Path | None = None
    choices: int | None = None
    protocol: Literal["default", "paper"] = "default"
    temperature: float | Literal["auto"] = 0.2
    canonical: str | None = None
    embedder: str | None = None
    entailment: str | None = None
    similarity: float = 0.85
    calibrator: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GoldFile:
    """Where the gold labels are.

    Attributes:
        path: a table with one row per item, or None for a column of the answers table itself.
        item_col: its column with the item.
        gold_col: its column with the gold label.
    """

    path: Path | None
    item_col: str
    gold_col: str


def gold_file(path: Path | None, item_col: str, gold_col: str | None, options: GoldOptions) -> GoldFile | None:
    """Return where the gold labels are, None where nobody named any.

    Raises:
        ConfigError: something to do with gold labels, and none.
    """
    if path is None and gold_col is None:
        asked = [
            name
            for name, value in (("--target-accuracy", options.target_accuracy), ("--calibrate", options.calibrate))
            if value
        ]
        if asked:
            raise ConfigError(f"{asked[0]} needs gold labels of some items: --gold FILE --gold-col COLUMN.")
        return None
    return GoldFile(path=path, item_col=item_col, gold_col=gold_col or "gold_label")


def score_table(
    path: Path,
    options: ScoreOptions,
    *,
    gold: GoldFile | None = None,
    gold_options: GoldOptions | None = None,
    out: Path | None = None,
    annotators: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score any table of answers, and say against gold what the scores are worth.

    Args:
        path: one row per answer; Parquet, CSV or JSONL.
        options: how to read and score it.
        gold: where gold labels are; None for none.
        gold_options: what to do with them.
        out: where to write the scores (by extension); None returns them under "scores".
        annotators: where to write what the annotator models learnt of each annotator.
        quiet: no progress and no messages.

    Returns:
        `methods`, `answers` (parsed or not), `items`, `notes` on what this table cannot tell, `rows` of
        scores, `out` or `scores` (a frame), and with gold `gold` (see `check_against_gold`).

    Raises:
        InputError: a file or column that is not there, or a table that a method cannot score.
        ConfigError: an unknown method, or an impossible option.
    """
    from labelrel.scoring import Inputs, Scorer, check_settings, label_probs_source, read_gold, read_items, resolve

    for target in (out, annotators):
        if target is not None and target.suffix not in files.WRITABLE:
            raise InputError(f"{target}: unknown extension; writable are {', '.join(files.WRITABLE)}.")
    asked = gold_options or GoldOptions()
    names = options.methods or (["entropy"] if asked.target_accuracy is not None else None)
    chosen = resolve(names, options.params)
    unused = [name for name in options.params if name not in [entry.name for entry, _ in chosen]]
    if unused:
        raise ConfigError(f"--param sets '{unused[0]}', which is not scored with; add -m {unused[0]}.")
    check_settings(options.protocol, options.temperature, options.choices)
    _check_meaning(options)
    names = [entry.name for entry, _ in chosen]
    ready = from_calibrators(options.calibrator, names) if options.calibrator else Columns()
    items = check_items(files.read_table(options.items), str(options.items)) if options.items else None
    where = str(gold.path or path) if gold else ""
    labels = read_gold(_gold_table(path, gold), where) if gold else None
    if labels is not None and options.canonical is not None:
        labels = _canonical_gold(labels, options.canonical, where)
    votes = _read_votes(path, options, items, quiet)
    inputs = Inputs(
        votes=votes,
        items=read_items(items, votes.item_ids, str(options.items)),
        gold=labels,
        choices=options.choices,
        protocol=options.protocol,
        temperature=options.temperature,
    )
    scorer = Scorer(inputs, chosen)
    if annotators is not None and not scorer.rates_annotators:
        raise InputError(
            f"{annotators}: none of the methods {', '.join(names)} rates annotators; add one, such as -m one_coin."
        )
    notes = what_is_missing(inputs)
    if any("label_probs" in entry.needs for entry, _ in chosen):
        notes.append(f"label probabilities are from {label_probs_source(scorer.inputs.answers).replace('_', ' ')}")
    for note in notes:
        say(f"note: {note}", quiet=quiet)
    result: dict[str, Any] = {"methods": names, "answers": votes.num_rows, "items": votes.num_items, "notes": notes}
    frames, columns = _frames(scorer, quiet), ready
    if labels is not None:
        held = list(frames) if votes.num_rows <= _HELD_ROWS else None
        result["gold"], found = check_against_gold(frames if held is None else held, labels, asked, where)
        columns = replace(found, calibrators=found.calibrators or ready.calibrators)
        frames = _frames(scorer, quiet) if held is None else iter(held)
    if out is None:
        scores = pl.concat(columns.over(frames))
        result |= {"rows": scores.height, "scores": scores}
    else:
        result |= {"rows": files.write_batches(out, columns.over(frames)), "out": str(out)}
    if annotators is not None:
        files.write_any_table(annotators, scorer.annotators())
        result["annotators"] = str(annotators)
    say(f"score: {votes.num_rows} answers to {votes.num_items} items, methods {', '.join(names)}", quiet=quiet)
    return result


def what_is_missing(inputs: Any) -> list[str]:
    """Say what a table cannot tell, one line each; empty where it has all that the methods want.

    Args:
        inputs: the `Inputs` of the table.
    """
    votes = inputs.votes
    if not (votes.answer >= 0).any():
        return ["no answer could be parsed: every score is null"]
    notes = []
    if votes.num_rows == votes.num_items:
        notes.append(
            "every item has one answer, and votes say nothing about a single one (share is 1, entropy 0): "
            "ask more than once, or use methods that read log-probabilities"
        )
    if len(votes.raters[1]) == 1:
        notes.append(
            "there is one annotator: models of the annotators have nobody to compare (wawa, dawid_skene, one_coin, "
            "glad, mace, mmsr); vote methods are not affected"
        )
    return notes


def _frames(scorer: Scorer, quiet: bool) -> Iterator[pl.DataFrame]:
    for entry, settings in scorer.chosen:
        if entry.fit is not None:
            if scorer.inputs.votes.num_rows > _HELD_ROWS:
                say(f"score: fitting {entry.name}", quiet=quiet)
            scorer.fitted(entry, settings)  # before the bar, whose time left is that of the pieces
    with progress("score", quiet=quiet) as report:
        for done, frame in enumerate(scorer.frames()):
            report(done + 1, scorer.num_pieces)
            yield frame


def _read_votes(path: Path, options: ScoreOptions, items: pl.DataFrame | None, quiet: bool) -> Votes:
    """Read the file in batches and return its votes, in canonical form and clustered as asked."""
    from labelrel.scoring import EXTRA, Encoder, as_answers, canonicalise, whole_columns

    schema, total = files.table_schema(path), files.num_rows(path)
    theirs = their_columns(options.columns, list(schema), str(path))
    rest = [name for name in EXTRA if name in schema and name not in theirs.values()]
    renamed = [*(pl.col(name).alias(ours) for ours, name in theirs.items()), *map(pl.col, rest)]
    names = [*theirs.values(), *rest]

    def batches() -> Iterator[pl.DataFrame]:
        for batch in files.read_batches(path, names):
            yield batch.select(renamed)

    whole: frozenset[str] = frozenset()
    if any(schema[name].is_float() for name in theirs.values()):  # 1.0 is the answer "1" if all of them are whole
        whole = frozenset.intersection(*map(whole_columns, batches()))
    encoder = Encoder(str(path))
    with progress("read", quiet=quiet) as report:
        rows = 0
        for batch in batches():
            piece = as_answers(batch, str(path), whole)
            if options.canonical is not None:
                piece = piece.with_columns(canonicalise(piece["answer"], options.canonical))
            encoder.add(piece)
            rows += batch.height
            report(rows, total or rows)
    votes = encoder.finish()
    if options.embedder or options.entailment:
        votes = _with_meanings(votes, options, items, quiet)
    return votes


def _gold_table(answers: Path, gold: GoldFile) -> pl.DataFrame:
    """Return `item_id` and `gold_label`, from a file of their own or from a column of the answers."""
    path = gold.path or answers
    table = files.read_table(path)
    require_columns(table, [gold.item_col, gold.gold_col], str(path))
    rows = table.select(pl.col(gold.item_col).alias("item_id"), pl.col(gold.gold_col).alias("gold_label"))
    return rows if gold.path else rows.drop_nulls().unique(maintain_order=True)


def _canonical_gold(labels: pl.DataFrame, name: str, where: str) -> pl.DataFrame:
    """Return gold labels in the form that the answers get, so that "1,000" is still the answer "1000"."""
    from labelrel.scoring import canonicalise

    changed = labels.with_columns(canonicalise(labels["gold_label"], name).alias("gold_label"))
    lost = labels.filter(changed["gold_label"].is_null())
    if lost.height:
        raise InputError(
            f"{where}: gold label {lost['gold_label'][0]!r} of item {lost['item_id'][0]} has no canonical form "
            f"'{name}' ({lost.height} such items); mend it or leave the item out."
        )
    return changed


def _check_meaning(options: ScoreOptions) -> None:
    if options.embedder and options.entailment:
        raise ConfigError("--embedder and --entailment both say which answers mean the same; give one of them.")
    if not 0 < options.similarity <= 1:
        raise ConfigError(f"--similarity must lie in (0, 1], got {options.similarity:g}.")


def _with_meanings(votes: Votes, options: ScoreOptions, items: pl.DataFrame | None, quiet: bool) -> Votes:
    """Return the votes with a column `meaning`, the cluster of answers that mean the same."""
    from labelrel.models.meaning import EmbeddingMeaning, EntailmentMeaning
    from labelrel.scoring.meaning import cluster_answers

    rows = votes.frame().select("item_id", "answer")
    if items is not None:
        rows = rows.join(items.select("item_id", "question"), on="item_id", how="left", maintain_order="left")
    same = (
        EmbeddingMeaning(options.embedder, threshold=options.similarity)
        if options.embedder
        else EntailmentMeaning(str(options.entailment))
    )
    say(f"score: asking {options.embedder or options.entailment} which answers mean the same", quiet=quiet)
    meaning = cluster_answers(rows, same).alias("meaning")
    return replace(votes, extra=pl.DataFrame([*votes.extra.drop("meaning", strict=False), meaning]))

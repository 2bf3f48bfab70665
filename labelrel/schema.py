"""The tables between the stages: column names, dtypes, and the checks at every door.

A table that passed its check can be trusted by everything behind it, so no other module
looks for duplicates, missing columns or impossible labels again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import polars as pl

from labelrel.errors import InputError, some

SPLITS = ("weak_train", "w2s", "gold_dev", "test")

ITEMS = pl.Schema(
    {
        "item_id": pl.String(),
        "task": pl.String(),
        "split": pl.String(),
        "question": pl.String(),
        "choices": pl.List(pl.String()),
        "gold_label": pl.String(),
    }
)
"""One row per question. `choices` is null for an open question; `gold_label` is a choice index
as a string, a normalised number or a normalised text, and null where it is not known. A `meta`
struct with whatever the task's wording needs may follow."""

ANSWERS = pl.Schema(
    {
        "item_id": pl.String(),
        "annotator_id": pl.String(),
        "variant_id": pl.String(),
        "prompt": pl.String(),
        "completion": pl.String(),
        "answer": pl.String(),
        "answer_logprob": pl.Float64(),
        "choice_logprobs": pl.List(pl.Float64()),
    }
)
"""One row per (item, annotator, variant). `answer` is in the item's own terms and null when the
annotator abstained or could not be parsed. `choice_logprobs` are log-probabilities in the item's
own choice order, normalised over the choices (their exponentials sum to 1)."""

SCORES = pl.Schema(
    {
        "method": pl.String(),
        "item_id": pl.String(),
        "answer": pl.String(),
        "num_votes": pl.Int64(),
        "num_answers": pl.Int64(),
        "share": pl.Float64(),
        "reliability": pl.Float64(),
        "score": pl.Float64(),
        "weak_label": pl.Boolean(),
        "label_quality": pl.Float64(),
        "tie": pl.Boolean(),
    }
)
"""One row per (method, item, distinct answer). `score` is the method's own number with its own
direction (the registry says which); `label_quality` lies in [0, 1] and low means likely wrong."""

TRAINING = pl.Schema(
    {
        "item_id": pl.String(),
        "prompt": pl.String(),
        "target": pl.String(),
        "answer": pl.String(),
        "weight": pl.Float64(),
    }
)
"""One row per training example: the text to read, the text to learn, and how much it counts."""

OPTIONS = pl.Schema({"options": pl.List(pl.String()), "option_probs": pl.List(pl.Float64())})
"""Two columns that a training set may have besides, read only by losses that compare options: the texts
that could follow the prompt, the target among them, null for an open question; and a number in [0, 1]
for each, null where the target is all there is to learn."""


def require_columns(frame: pl.DataFrame, columns: list[str], where: str) -> None:
    """Raise one line that names every missing column and what was found instead."""
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise InputError(
            f"{where} has no column {', '.join(repr(c) for c in missing)} (found: {', '.join(frame.columns)})."
        )


def their_columns(columns: Mapping[str, str], there: Sequence[str], where: str) -> dict[str, str]:
    """Return our name → theirs for those columns of an answers table that are there.

    Args:
        columns: our name → theirs. Item and answer must be there, and those that are named otherwise
            than ours.
        there: the table's columns.
        where: what messages call the table.

    Raises:
        InputError: a column that is not there, or one that would be two things.
    """
    needed = [theirs for ours, theirs in columns.items() if ours in ("item_id", "answer") or theirs != ours]
    require_columns(pl.DataFrame(schema=list(there)), needed, where)
    taken = {ours: theirs for ours, theirs in columns.items() if theirs in there}
    if len(set(taken.values())) < len(taken):
        raise InputError(f"one column cannot be two things: {', '.join(f'{o} = {t}' for o, t in columns.items())}.")
    return taken


_KINDS = {pl.Boolean(): "true or false", pl.Float64(): "a number", pl.Int64(): "a whole number"}


def typed(
    frame: pl.DataFrame,
    types: Mapping[str, pl.DataType],
    where: str,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> pl.DataFrame:
    """Return those columns of a table that have a type here, in it: a CSV knows texts only.

    Args:
        frame: any table.
        types: column → type.
        where: what messages call the table.
        ranges: column → lowest and highest number allowed; NaN becomes null.

    Raises:
        InputError: a value that is none of its column's type or outside its range, or a null item_id.
    """
    columns = []
    for name in (name for name in types if name in frame.columns):
        column, dtype = frame[name], types[name]
        if dtype == pl.Boolean() and column.dtype == pl.String():
            words = {"true": True, "false": False}
            cast = column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean())
        else:
            cast = column.cast(dtype, strict=False)
        if cast.null_count() > column.null_count():
            bad = column.filter(cast.is_null() & column.is_not_null())[0]
            raise InputError(f"{where}: {name} {bad!r} is not {_KINDS.get(dtype, 'a text')}.")
        if name == "item_id" and cast.null_count():
            raise InputError(f"{where}: {cast.null_count()} rows have no item_id.")
        columns.append(cast.fill_nan(None) if dtype == pl.Float64() else cast)
        low, high = (ranges or {}).get(name, (None, None))
        if low is not None and (strange := cast.filter((cast < low) | (cast > high) | cast.is_infinite())).len():
            allowed = "be finite and at least 0" if high == math.inf else f"lie in [{low:g}, {high:g}]"
            raise InputError(f"{where}: {name} must {allowed}, got {strange[0]:g} ({strange.len()} such rows).")
    return pl.DataFrame(columns)


def _require_unique(frame: pl.DataFrame, keys: list[str], where: str) -> None:
    repeated = frame.filter(pl.struct(keys).is_duplicated())
    if repeated.height:
        shown = some(repeated.select(pl.concat_str(keys, separator="/")).to_series().unique(maintain_order=True))
        raise InputError(
            f"{where} has {repeated.height} rows that share their ({', '.join(keys)}): {shown}. Each may appear once."
        )


def check_items(items: pl.DataFrame, where: str = "items") -> pl.DataFrame:
    """Check an items table and return it unchanged.

    Raises:
        InputError: a missing column, a duplicate or null id, an unknown split, a gold label
            that is none of the item's choices, or no rows at all.
    """
    require_columns(items, list(ITEMS), where)
    if items.is_empty():
        raise InputError(f"{where} has no rows; at least one item is needed.")
    for name, dtype in ITEMS.items():
        if items[name].dtype not in (dtype, pl.Null):
            raise InputError(
                f"{where}: column '{name}' has type {items[name].dtype}, expected {dtype}; "
                "Parquet and JSONL keep lists, a CSV cannot."
            )
    unknown = {name: dtype for name, dtype in ITEMS.items() if items[name].dtype != dtype}
    if unknown:  # a column of nulls only has no type of its own
        items = items.cast(unknown)  # type: ignore[arg-type]
    if items["item_id"].null_count():
        raise InputError(f"{where}: {items['item_id'].null_count()} rows have no item_id.")
    _require_unique(items, ["item_id"], where)
    strange = items.filter(~pl.col("split").is_in(list(SPLITS)) | pl.col("split").is_null())
    if strange.height:
        raise InputError(
            f"{where}: unknown split {strange['split'][0]!r} ({some(strange['item_id'])}); "
            f"allowed: {', '.join(SPLITS)}."
        )
    wrong = items.filter(
        pl.col("gold_label").is_not_null()
        & pl.col("choices").is_not_null()
        & ~pl.col("gold_label").is_in([str(i) for i in range(_most_choices(items))])
        | (pl.col("gold_label").cast(pl.Int64, strict=False) >= pl.col("choices").list.len())
    )
    if wrong.height:
        row = wrong.row(0, named=True)
        raise InputError(
            f"{where}: the gold label {row['gold_label']!r} of item {row['item_id']} is none of its "
            f"{len(row['choices'])} choices ({wrong.height} such items: {some(wrong['item_id'])}); "
            f"a choice is named by its index, 0 to {len(row['choices']) - 1}."
        )
    return items


def _most_choices(items: pl.DataFrame) -> int:
    most = items["choices"].list.len().max()
    return int(most) if isinstance(most, int) else 0


def require_split(items: pl.DataFrame, split: str, where: str = "items") -> pl.DataFrame:
    """Return the rows of one split, which may not be empty."""
    rows = items.filter(pl.col("split") == split)
    if rows.is_empty():
        counts = dict(items["split"].value_counts().sort("split").iter_rows())
        raise InputError(f"{where} has no item in split '{split}' (found: {counts}).")
    return rows


def check_answers(answers: pl.DataFrame, where: str = "answers") -> pl.DataFrame:
    """Check an answers table (only ids and `answer` are needed) and return it unchanged.

    Raises:
        InputError: a missing column, no rows, a null id, or two rows for one
            (item, annotator, variant).
    """
    keys = ["item_id", "annotator_id", "variant_id"]
    require_columns(answers, [*keys, "answer"], where)
    if answers.is_empty():
        raise InputError(f"{where} has no rows; at least one answer is needed.")
    for key in keys:
        if answers[key].null_count():
            raise InputError(f"{where}: {answers[key].null_count()} rows have no {key}.")
    _require_unique(answers, keys, where)
    return answers


def check_scores(scores: pl.DataFrame, where: str = "scores") -> pl.DataFrame:
    """Check a scores table and return it unchanged.

    Raises:
        InputError: a missing column, no rows, or two rows for one (method, item, answer).
    """
    require_columns(scores, list(SCORES), where)
    if scores.is_empty():
        raise InputError(f"{where} has no rows; at least one scored answer is needed.")
    _require_unique(scores, ["method", "item_id", "answer"], where)
    return scores


def check_training(training: pl.DataFrame, where: str = "training set") -> pl.DataFrame:
    """Check a training set and return it unchanged.

    Raises:
        InputError: a missing column, no rows, an empty target, a weight that is negative,
            missing or not finite, weights that are all zero, a target that is none of its options, or
            option_probs that do not fit them.
    """
    require_columns(training, ["item_id", "prompt", "target", "weight"], where)
    if training.is_empty():
        raise InputError(f"{where} has no rows: the selection kept nothing; loosen its threshold.")
    if training["weight"].dtype != pl.Float64:  # a CSV's columns are text
        number = training["weight"].cast(pl.Float64, strict=False)
        lost = training.filter(number.is_null() & training["weight"].is_not_null())
        if lost.height:
            raise InputError(f"{where}: weight {lost['weight'][0]!r} of item {lost['item_id'][0]} is not a number.")
        training = training.with_columns(number)
    weight = pl.col("weight")
    bad = training.filter(weight.is_null() | ~weight.is_finite() | (weight < 0))
    if bad.height:
        raise InputError(
            f"{where}: weight {bad['weight'][0]} of item {bad['item_id'][0]} is not a finite number "
            f"of at least 0 ({bad.height} such rows)."
        )
    if not training.filter(weight > 0).height:
        raise InputError(f"{where}: every weight is 0, so nothing can be learnt from it.")
    empty = training.filter(pl.col("target").is_null() | (pl.col("target").str.strip_chars() == ""))
    if empty.height:
        raise InputError(f"{where}: {empty.height} rows have no target ({some(empty['item_id'])}).")
    _check_options(training, where)
    return training


def _check_options(training: pl.DataFrame, where: str) -> None:
    if "options" not in training.columns:
        if "option_probs" in training.columns and training["option_probs"].null_count() < training.height:
            raise InputError(f"{where}: it has option_probs but no column 'options' that says of what.")
        return
    options = pl.col("options")
    strange = training.filter(options.is_not_null() & ~options.list.contains(pl.col("target")))
    if strange.height:
        row = strange.row(0, named=True)
        raise InputError(
            f"{where}: the target {row['target']!r} of item {row['item_id']} is none of its options "
            f"{row['options']!r} ({strange.height} such rows); a blank before it counts."
        )
    if "option_probs" not in training.columns:
        return
    probs = pl.col("option_probs")
    wrong = training.filter(
        probs.is_not_null()
        & (
            options.is_null()
            | (probs.list.len() != options.list.len())
            | probs.list.eval(
                ~pl.element().is_between(0, 1) | pl.element().is_nan() | pl.element().is_null()
            ).list.any()
            | (probs.list.max() == 0)
        )
    )
    if wrong.height:
        row = wrong.row(0, named=True)
        raise InputError(
            f"{where}: the option_probs of item {row['item_id']} must be a number in [0, 1] for each of its "
            f"{len(row['options'] or ())} options and not all 0, got {row['option_probs']} ({wrong.height} such rows)."
        )

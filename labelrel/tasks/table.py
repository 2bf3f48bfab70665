"""Task `table`: anybody's questions, in a JSONL, CSV or Parquet file with columns of any name.

`prepare.source` is the file, `prepare.options` says what is in it. The kind of question stands in
`meta.kind` of every item, so that its answers are read accordingly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from labelrel.canonical import number, text
from labelrel.errors import InputError, some
from labelrel.files import read_table
from labelrel.plugin import Params
from labelrel.schema import SPLITS, require_columns
from labelrel.tasks.base import Item, Kind, Reading, Task, Wording, assign_splits, meta_of, tasks
from labelrel.tasks.reading import read_choice, read_number, read_text, read_word
from labelrel.tasks.wording import QUESTION, ask

NAME = "table"


class TableParams(Params):
    """What the columns of the table are.

    Attributes:
        kind: of the questions: `choice` (each with options of its own), `binary` and `classes` (the same
            words for all), `numeric` or `text`.
        question: column of the question.
        id: column of the ids; null: a hash of the question and its options.
        choices: for `choice`, the column that holds the list of options, or the columns that hold one each.
        classes: for `binary` and `classes`, the words.
        gold: column of the gold labels; empty where not known; null: there are none.
        gold_is: how it names an option: by its text, its index (from 0) or its letter; null: as all of the
            column can be read.
        split: column of the splits (weak_train, w2s, gold_dev, test), taken as they are; null: they are
            drawn by a stable hash of the ids.
    """

    kind: Kind = "choice"
    question: str = "question"
    id: str | None = None
    choices: str | list[str] | None = None
    classes: list[str] | None = Field(None, min_length=2)
    gold: str | None = None
    gold_is: Literal["text", "index", "letter"] | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        worded = self.kind in ("binary", "classes")
        if self.kind == "choice" and self.choices is None:
            raise ValueError("choices is missing: kind choice needs the column of the options, or a list of columns")
        if self.kind != "choice" and self.choices is not None:
            raise ValueError(f"choices goes with kind choice, not {self.kind}")
        if worded and self.classes is None:
            raise ValueError(f"classes is missing: kind {self.kind} needs the words to answer with")
        if not worded and self.classes is not None:
            raise ValueError(f"classes goes with kind binary or classes, not {self.kind}")
        if self.classes is not None:
            if self.kind == "binary" and len(self.classes) != 2:
                raise ValueError(f"classes has {len(self.classes)} words, but kind binary has two")
            if len({word.strip().casefold() for word in self.classes}) < len(self.classes) or not all(
                word.strip() for word in self.classes
            ):
                raise ValueError("classes must be different words")
        return self


def load(source: str | None, sizes: Mapping[str, int], seed: int, params: TableParams) -> pl.DataFrame:
    """Return the items table.

    Args:
        source: the file.
        sizes: number of items per split; not used where the table has a column of splits.
        seed: of the splits.
        params: what the columns are.

    Raises:
        InputError: no such file or column, or rows that are no questions of this kind.
    """
    if source is None or source == "hub":
        raise InputError(f"task '{NAME}' needs a file: set prepare.source to a JSONL, CSV or Parquet table.")
    if Path(source).is_dir():
        raise InputError(f"prepare.source {source} is a folder; task '{NAME}' needs one file in it.")
    items = make_items(read_table(source), params, source)
    return items if params.split else assign_splits(items, sizes, seed, NAME)


def make_items(rows: pl.DataFrame, params: TableParams, where: str) -> pl.DataFrame:
    """Return the items of a table; without a column of splits, `split` is missing.

    Args:
        rows: the table.
        params: what its columns are.
        where: what messages call the table.

    Raises:
        InputError: as `load`.
    """
    columns = [params.choices] if isinstance(params.choices, str) else params.choices or []
    named = [c for c in (params.question, params.id, *columns, params.gold, params.split) if c is not None]
    require_columns(rows, list(dict.fromkeys(named)), where)
    if rows.is_empty():
        raise InputError(f"{where} has no rows.")
    questions = _as_text(rows, params.question, where)
    choices = _choices(rows, params, where)
    ids = _ids(rows, params, questions, choices, where)
    _refuse(where, params.question, "no question", ids, [not q for q in questions])
    _check_choices(choices, ids, where)
    gold = _gold(rows, params, choices, ids, where)
    items = pl.DataFrame(
        {"item_id": ids, "task": [NAME] * len(ids), "question": questions, "choices": choices, "gold_label": gold},
        schema_overrides={"choices": pl.List(pl.String), "gold_label": pl.String},
    )
    items = items.with_columns(pl.struct(pl.lit(params.kind).alias("kind")).alias("meta"))
    if params.split is None:
        return items
    splits = _as_text(rows, params.split, where)
    wrong = [split not in SPLITS for split in splits]
    _refuse(where, params.split, f"a split other than {', '.join(SPLITS)}", ids, wrong, splits)
    rest = [c for c in items.columns if c not in ("item_id", "task")]
    return items.with_columns(pl.Series("split", splits)).select("item_id", "task", "split", *rest)


def _refuse(
    where: str, column: str, what: str, ids: Sequence[str], wrong: Sequence[bool], values: Sequence[Any] = ()
) -> None:
    """Raise one line about the rows that are wrong: how many, three ids, and the first value."""
    bad = [index for index, is_wrong in enumerate(wrong) if is_wrong]
    if bad:
        value = f", such as {values[bad[0]]!r}" if values else ""
        raise InputError(f"{where}: column '{column}' has {what}{value} in {_rows([ids[i] for i in bad])}.")


def _rows(ids: Sequence[str]) -> str:
    return f"{len(ids)} row{'s' if len(ids) > 1 else ''} (id {some(ids)})"


def _as_text(rows: pl.DataFrame, column: str, where: str) -> list[str]:
    """Return the values of a column as texts without blanks around; a missing one is empty."""
    dtype = rows[column].dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise InputError(f"{where}: column '{column}' is {dtype}; it should hold one text or number per row.")
    if dtype.is_float():  # 3.0 is written 3: a column of whole numbers with a gap is read as one of decimals
        return ["" if v is None else str(int(v)) if v.is_integer() else str(v) for v in rows[column].to_list()]
    return [(value or "").strip() for value in rows[column].cast(pl.String)]


def _choices(rows: pl.DataFrame, params: TableParams, where: str) -> list[list[str] | None]:
    if params.classes is not None:
        return [[word.strip() for word in params.classes]] * rows.height
    if params.choices is None:
        return [None] * rows.height
    if isinstance(params.choices, str):
        column = rows[params.choices]
        if not isinstance(column.dtype, pl.List | pl.Array):
            raise InputError(
                f"{where}: column '{params.choices}' is {column.dtype}; options are a list in one column (JSONL, "
                "Parquet) or one column each: choices: [option_a, option_b]."
            )
        return [[str(option).strip() for option in row or [] if option is not None] for row in column.to_list()]
    # a row with fewer options than columns leaves the last ones empty
    return [
        [option for option in row if option]
        for row in zip(*(_as_text(rows, column, where) for column in params.choices), strict=True)
    ]


def _ids(
    rows: pl.DataFrame,
    params: TableParams,
    questions: Sequence[str],
    choices: Sequence[Sequence[str] | None],
    where: str,
) -> list[str]:
    if params.id is None:
        texts = ["\n".join([q, *(c or [])]) for q, c in zip(questions, choices, strict=True)]
        ids = [f"{NAME}-{hashlib.sha256(t.encode()).hexdigest()[:12]}" for t in texts]
        what = "the same question and options"
    else:
        ids = _as_text(rows, params.id, where)
        _refuse(where, params.id, "no id", [f"in row {n}" for n in range(1, len(ids) + 1)], [not i for i in ids])
        what = f"the same id in column '{params.id}'"
    repeated = pl.Series(ids).is_duplicated()
    if repeated.any():
        again = list(dict.fromkeys(i for i, is_again in zip(ids, repeated, strict=True) if is_again))
        raise InputError(
            f"{where}: {repeated.sum()} rows have {what} as another row ({some(again)}); each may be once."
        )
    return ids


def _check_choices(choices: Sequence[Sequence[str] | None], ids: Sequence[str], where: str) -> None:
    few = [i for i, c in zip(ids, choices, strict=True) if c is not None and len(c) < 2]
    if few:
        raise InputError(f"{where}: fewer than 2 options in {_rows(few)}.")
    same = [i for i, c in zip(ids, choices, strict=True) if c is not None and len(set(c)) < len(c)]
    if same:
        raise InputError(f"{where}: the same option twice in {_rows(same)}.")


def _gold(
    rows: pl.DataFrame,
    params: TableParams,
    choices: Sequence[Sequence[str] | None],
    ids: Sequence[str],
    where: str,
) -> list[str | None]:
    if params.gold is None:
        return [None] * rows.height
    written = _as_text(rows, params.gold, where)
    read = {"numeric": number, "text": text}.get(params.kind)
    if read is not None:
        gold = [read(value) if value else None for value in written]
        what = "what is no number" if params.kind == "numeric" else "no letter or digit"
    else:
        is_index = "index" if rows[params.gold].dtype.is_integer() else None
        gold, how = _options_meant(written, choices, params.gold_is or is_index, f"{where}: column '{params.gold}'")
        what = f"what is not the {how} of an option"
    wrong = [bool(value) and answer is None for value, answer in zip(written, gold, strict=True)]
    _refuse(where, params.gold, what, ids, wrong, written)
    return gold


def _options_meant(
    written: Sequence[str], choices: Sequence[Sequence[str] | None], gold_is: str | None, where: str
) -> tuple[list[str | None], str]:
    """Return the index of the option that each label means, and how the labels are read.

    The whole column is read in one way, since "1" may be an option and an index. A label that cannot be
    read so is null.
    """
    pairs = [(value, options or []) for value, options in zip(written, choices, strict=True)]
    found = {
        how: [read(value, options) if value else None for value, options in pairs]
        for how, read in _GOLD_IS.items()
        if gold_is in (None, how)
    }
    lost = {how: sum(bool(v) and a is None for v, a in zip(written, gold, strict=True)) for how, gold in found.items()}
    whole = [how for how, number in lost.items() if not number]
    for how in whole[1:]:
        if differs := [n for n, (a, b) in enumerate(zip(found[whole[0]], found[how], strict=True)) if a != b]:
            value = written[differs[0]]
            raise InputError(
                f"{where} can be read as {whole[0]} and as {how} ({value!r}); set prepare.options.gold_is."
            )
    best = min(lost, key=lambda how: lost[how])
    return found[best], best


def _by_text(value: str, options: Sequence[str]) -> str | None:
    if value in options:
        return str(options.index(value))
    folded = [option.casefold() for option in options]
    return str(folded.index(value.casefold())) if folded.count(value.casefold()) == 1 else None


def _by_index(value: str, options: Sequence[str]) -> str | None:
    is_index = value.isascii() and value.isdigit() and len(value) < 9 and int(value) < len(options)
    return str(int(value)) if is_index else None


def _by_letter(value: str, options: Sequence[str]) -> str | None:
    place = ord(value.upper()) - ord("A") if len(value) == 1 else -1
    return str(place) if 0 <= place < len(options) else None


_GOLD_IS = {"text": _by_text, "index": _by_index, "letter": _by_letter}


def wordings(item: Item) -> list[Wording]:
    """Return the five prompts of an item, each followed by the text of an option or by an open answer."""
    return ask(QUESTION, item["question"], item["choices"])


def parse(item: Item, completion: str) -> Reading:
    """Read the answer of a completion according to the item's kind."""
    kind: Literal["choice", "binary", "classes", "numeric", "text"] = meta_of(item)["kind"]
    if kind == "choice":
        return read_choice(item["choices"], completion)
    if kind in ("binary", "classes"):
        return read_word([[word] for word in item["choices"]], completion)
    if kind == "text":
        return read_text(completion)
    # working comes before the number where one of these marks says which number it is
    return read_number(completion, first_line="####" not in completion and "\\boxed" not in completion)


tasks.add(
    NAME,
    Task(
        name=NAME,
        kind="choice",
        summary="your own questions: a JSONL, CSV or Parquet file, its columns named in prepare.options",
        source="the user's own",
        load=load,
        params=TableParams,
        wordings=wordings,
        parse=parse,
    ),
)

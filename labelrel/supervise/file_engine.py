"""Engine `file`: answers that exist already, of a crowd, another program or an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from labelrel.errors import InputError, some
from labelrel.files import digest, read_table
from labelrel.plugin import Params
from labelrel.progress import say
from labelrel.schema import require_columns
from labelrel.supervise.engines import Asking, Reply, engine
from labelrel.supervise.variants import Query

_BLOCK = 1_000_000
"""Looking up is quick, so all queries are one block, and what is missing can be counted over all."""


class FileParams(Params):
    """Settings of engine `file`.

    Attributes:
        path: a Parquet, CSV, TSV or JSONL table with one row per answer.
        item_col: column with the items' ids.
        variant_col: column with the variants' ids, "0" for the canonical wording, "1", …; null: `variant_id`
            where there is one, otherwise the rows of an item are its variants in order.
        annotator: what the answers call the annotator; null means the file's name.
        annotator_col: column that says who answered, where the table has several; `annotator` is one of them.
        completion_col: column with what was written; read as any completion where there is no answer.
        answer_col: column with the answer itself: a choice's index or text, or an open item's answer. With
            neither named, the columns `completion` and `answer` are used, whichever there is.
        answer_is: what `answer_col` has for items with choices; `auto` decides for each answer, and
            refuses one that could be either.
    """

    path: str
    item_col: str = "item_id"
    variant_col: str | None = None
    annotator: str | None = None
    annotator_col: str | None = None
    completion_col: str | None = None
    answer_col: str | None = None
    answer_is: Literal["auto", "index", "text"] = "auto"


class Said(NamedTuple):
    """A row of the file: what was written, and the answer where the file has it."""

    completion: str | None
    answer: str | None


class FileEngine:
    """Looks answers up.

    Args:
        said: (item, variant) → row.
        params: settings.
        name: of the annotator.
        key: digest of the file and settings.
    """

    block = _BLOCK

    def __init__(self, said: dict[tuple[str, str], Said], params: FileParams, name: str, key: object) -> None:
        self.name = name
        self.key = key
        self._said = said
        self._params = params

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query; one that the file lacks has no answer, and their count is told.

        Raises:
            InputError: the file has none of them, or an answer that could be an index as well as a text.
        """
        asked = [(str(query.item["item_id"]), query.variant_id) for query in queries]
        missing = [place for place, key in enumerate(asked) if key not in self._said]
        where = self._params.path
        if queries and len(missing) == len(queries):
            raise InputError(
                f"{where} has no answer to any of the {len(queries)} queries; expected (item/variant): "
                f"{some(dict.fromkeys('/'.join(key) for key in asked))}; found: "
                f"{some('/'.join(key) for key in self._said)}. Check sample.options.item_col and variant_col."
            )
        if missing:
            shown = some("/".join(asked[place]) for place in missing)
            say(f"{where} has no answer to {len(missing)} of {len(queries)} queries ({shown}); they count as abstained")
        replies = [self._reply(query, self._said.get(key)) for query, key in zip(queries, asked, strict=True)]
        strange = [
            place
            for place, key in enumerate(asked)
            if replies[place].answer is None and key in self._said and self._said[key].answer is not None
        ]
        if strange:
            values = some(dict.fromkeys(repr(self._said[asked[place]].answer) for place in strange))
            say(f"{where}: {len(strange)} answers cannot be read ({values}); they count as abstained")
        return replies

    def _reply(self, query: Query, said: Said | None) -> Reply:
        if said is None:
            return Reply("", None, None, None)
        answer = said.answer
        if answer is None:
            written = said.completion
            return Reply(written or "", None if written is None else query.read(written).answer, None, None)
        completion = answer if said.completion is None else said.completion
        return Reply(completion, self._canonical(query, answer), None, None)

    def _canonical(self, query: Query, answer: str) -> str | None:
        """Return an answer in the item's own terms; null where it is none."""
        choices: Sequence[str] | None = query.item["choices"]
        if choices is None:
            return query.read(answer).answer  # leaves a canonical one as it is
        bare = answer.strip()
        index = bare if bare in map(str, range(len(choices))) else None
        texts = [str(place) for place, choice in enumerate(choices) if choice.strip() == bare]
        if self._params.answer_is == "index":
            return index
        if self._params.answer_is == "text":
            return texts[0] if len(texts) == 1 else query.read(answer).answer
        if index is not None and texts and texts != [index]:
            raise InputError(
                f"{self._params.path}: the answer {bare!r} of item {query.item['item_id']} is the text of one choice "
                "and the index of another; set sample.options.answer_is to index or text."
            )
        if index is not None:
            return index
        return texts[0] if len(texts) == 1 else query.read(answer).answer


def _read(params: FileParams) -> tuple[dict[tuple[str, str], Said], str]:
    """Return ((item, variant) → row, annotator)."""
    table, where = read_table(params.path), params.path
    columns = [params.item_col, params.variant_col, params.annotator_col, params.completion_col, params.answer_col]
    require_columns(table, [column for column in columns if column is not None], where)
    completion, answer = _said_in(params, table)
    name = params.annotator or Path(where).name.partition(".")[0]
    if params.annotator_col is not None:
        table, name = _of_one(params, table)
    variant = params.variant_col or ("variant_id" if "variant_id" in table.columns else None)
    item = pl.col(params.item_col).cast(pl.String)
    # in the order of the file
    number = pl.int_range(pl.len()).over(params.item_col) if variant is None else pl.col(variant)
    rows = table.select(
        item=item,
        variant=number.cast(pl.String),
        completion=pl.lit(None, pl.String) if completion is None else pl.col(completion).cast(pl.String),
        answer=pl.lit(None, pl.String) if answer is None else pl.col(answer).cast(pl.String),
    )
    for column, named in (("item", params.item_col), ("variant", variant)):
        if lacking := rows[column].null_count():
            raise InputError(f"{where}: {lacking} rows have no {named}.")
    repeated = rows.filter(pl.struct("item", "variant").is_duplicated())
    if repeated.height:
        shown = some(
            repeated.select(pl.concat_str("item", "variant", separator="/").unique(maintain_order=True))["item"]
        )
        several = "; name the column that says who answered in annotator_col" if params.annotator_col is None else ""
        raise InputError(f"{where} has {repeated.height} rows that share their (item, variant): {shown}{several}.")
    return {(row[0], row[1]): Said(row[2], row[3]) for row in rows.iter_rows()}, name


def _said_in(params: FileParams, table: pl.DataFrame) -> tuple[str | None, str | None]:
    """Return (completion column, answer column): those that are named, or else those of that name."""
    if params.completion_col is not None or params.answer_col is not None:
        return params.completion_col, params.answer_col
    found = [column if column in table.columns else None for column in ("completion", "answer")]
    if found == [None, None]:
        raise InputError(
            f"{params.path} has no column 'completion' or 'answer' (found: {', '.join(table.columns)}); name yours in "
            "sample.options.completion_col or answer_col."
        )
    return found[0], found[1]


def _of_one(params: FileParams, table: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    who = table[str(params.annotator_col)].cast(pl.String)
    there: list[str] = sorted(who.drop_nulls().unique().to_list())
    name = there[0] if params.annotator is None and len(there) == 1 else params.annotator
    if name is None or name not in there:
        wish = "name one" if name is None else f"there is no '{name}'"
        raise InputError(
            f"{params.path} has answers of {len(there)} annotators ({some(there)}): {wish} in sample.options.annotator."
        )
    return table.filter(who == name), name


@engine("file", FileParams, tuned=False)
def file(asking: Asking, params: FileParams) -> FileEngine:
    """Answers in a table that exists already: completions are read as a model's, answers are taken as they are.

    Source: none; the answers' own.
    """
    said, name = _read(params)
    settings: Any = params.model_dump(exclude={"path"})
    return FileEngine(said, params, name, [digest(params.path), settings])

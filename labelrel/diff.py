"""What changed between two scored label sets, or two training sets: labels, numbers, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from labelrel import files
from labelrel.errors import ConfigError, InputError, UnknownNameError, near_match
from labelrel.schema import check_scores, require_columns, typed
from labelrel.show import print_table

Kind = Literal["scores", "training set"]

_TYPES: dict[str, pl.DataType] = {
    "method": pl.String(),
    "item_id": pl.String(),
    "answer": pl.String(),
    "target": pl.String(),
    "weak_label": pl.Boolean(),
    "label_quality": pl.Float64(),
    "weight": pl.Float64(),
    "kept": pl.Boolean(),
}
_RANGES = {"label_quality": (0.0, 1.0), "weight": (0.0, math.inf)}
"""The columns that are compared; a CSV has all of them as text."""


@dataclass(frozen=True, kw_only=True)
class DiffOptions:
    """What to compare, and how much of it to name.

    Attributes:
        method: the only scoring method to compare; None compares all that both tables have.
        threshold: least label quality of a label that is kept, in [0, 1].
        keep: fraction of the labels that is kept, those of highest label quality, in (0, 1].
        top: how many items to name in each list.
    """

    method: str | None = None
    threshold: float | None = None
    keep: float | None = None
    top: int = 10

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is impossible."""
        if self.threshold is not None and self.keep is not None:
            raise ConfigError("--threshold and --keep both say what is kept; give one of them.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError(f"--threshold must lie in [0, 1], got {self.threshold:g}.")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ConfigError(f"--keep must lie in (0, 1], got {self.keep:g}.")
        if self.top < 0:
            raise ConfigError(f"--top must be at least 0, got {self.top}.")


def diff_tables(old: Path, new: Path, options: DiffOptions | None = None) -> dict[str, Any]:
    """Compare two scores tables, or two training sets.

    Args:
        old: Parquet, CSV or JSONL; a table with a column `method` holds scores, one with `weight` is a
            training set.
        new: the same kind of table.
        options: what to compare.

    Returns:
        A JSON-able dict: `old`, `new` (the paths), `kind` (`scores` or `training set`), `only_in_old`
        and `only_in_new` (scoring methods of one table; empty for training sets), and `methods`, method
        (for training sets `training set`) → a dict of

        - `items`: `old`, `new`, `both`, and `gone` and `added`, each `num` and `items`;
        - `flips`: items whose label is another: `num`, `share` (of those with a label in both), `rows` of
          `item_id, old_label, new_label, old_quality, new_quality`, the most certain new label first;
        - `lost` and `gained`: items in both that have a label in one only, `num` and `items`;
        - `shifts`: change of label quality, new - old, of the item's label, be it the same or not:
          `num` items with a quality in both, `mean`, `mean_abs`, `max_abs` (None with no item), and `rows`
          as of `flips` with `change`, the largest first;
        - `kept`: None, or `by` (what keeps: a threshold, a fraction, or the column `kept`), `old`, `new`,
          `both`, and `entering` and `leaving`, each `num` and `items`.

        A training set has `old_weight`, `new_weight` in place of qualities, and what is kept is the
        item itself, with a weight above 0. Every list names at most `top` items.

    Raises:
        InputError: a file that is not there or of neither kind, two kinds, nothing in common.
        UnknownNameError: the method is in neither table, or in one only.
        ConfigError: an option that does not go with training sets.
    """
    options = options or DiffOptions()
    tables = [_read(path) for path in (old, new)]
    kinds = [kind for kind, _ in tables]
    if kinds[0] != kinds[1]:
        raise InputError(f"{old} is a table of {kinds[0]} but {new} is one of {kinds[1]}; compare like with like.")
    before, after = (frame for _, frame in tables)
    result: dict[str, Any] = {"old": str(old), "new": str(new), "kind": kinds[0]}
    if kinds[0] == "training set":
        if options.method is not None or options.threshold is not None or options.keep is not None:
            raise ConfigError(
                "a training set has one label per item and is what was kept: no --method, --threshold, --keep."
            )
        both = [name for name in ("answer", "target") if name in before.columns and name in after.columns]
        if not both:
            raise InputError(f"{old} and {new} have no label in common: both need 'answer', or both 'target'.")
        sets = (_training_labels(before, both[0]), _training_labels(after, both[0]))
        return result | {
            "only_in_old": [],
            "only_in_new": [],
            "methods": {"training set": _compare(*sets, what="weight", by="weight above 0", top=options.top)},
        }
    there = [frame["method"].unique(maintain_order=True).to_list() for frame in (before, after)]
    shared = _methods(there, (old, new), options.method)
    by = _what_keeps(before, after, options)
    methods = {}
    for name in shared:
        sets = (_weak_labels(before, name, options), _weak_labels(after, name, options))
        methods[name] = _compare(*sets, what="quality", by=by, top=options.top)
    return result | {
        "only_in_old": [name for name in there[0] if name not in there[1]],
        "only_in_new": [name for name in there[1] if name not in there[0]],
        "methods": methods,
    }


def show_diff(result: Mapping[str, Any]) -> None:
    """Print what `diff_tables` found: the numbers of each method, then the items behind them."""
    for side, methods in (("old", result["only_in_old"]), ("new", result["only_in_new"])):
        if methods:
            print(f"only in the {side} table: {', '.join(methods)}")
    print_table(
        [_numbers(name, found) for name, found in result["methods"].items()], f"{result['old']} → {result['new']}"
    )
    for name, found in result["methods"].items():
        for title, rows in (
            ("labels that changed", found["flips"]["rows"]),
            ("largest shifts", found["shifts"]["rows"]),
        ):
            if rows:
                print()
                print_table(rows, f"{title}: {name}")
        lists = {"gone": found["items"]["gone"], "added": found["items"]["added"]}
        lists |= {"label lost": found["lost"], "label gained": found["gained"]}
        if found["kept"]:
            lists |= {f"{side} the kept set": found["kept"][side] for side in ("entering", "leaving")}
        told = [(what, some) for what, some in lists.items() if some["num"]]
        if told:
            print()
        for what, some in told:
            more = ", …" if some["num"] > len(some["items"]) else ""
            print(f"{name}: {some['num']} {what}: {', '.join(some['items'])}{more}")


def _numbers(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of one method on one line."""
    items, shifts, kept = found["items"], found["shifts"], found["kept"]
    numbers = {"": name, "items": items["both"], "gone": items["gone"]["num"], "added": items["added"]["num"]}
    numbers |= {"flips": found["flips"]["num"], "lost": found["lost"]["num"], "gained": found["gained"]["num"]}
    numbers |= {"mean change": shifts["mean"], "mean |change|": shifts["mean_abs"], "max |change|": shifts["max_abs"]}
    if kept:
        numbers |= {"kept old": kept["old"], "kept new": kept["new"]}
        numbers |= {side: kept[side]["num"] for side in ("entering", "leaving")}
    return numbers


def _read(path: Path) -> tuple[Kind, pl.DataFrame]:
    table, where = files.read_table(path), str(path)
    if "method" in table.columns:
        return "scores", typed(check_scores(table, where), _TYPES, where, ranges=_RANGES)
    if "weight" in table.columns:
        require_columns(table, ["item_id", "weight"], where)
        if not {"answer", "target"} & set(table.columns):
            raise InputError(f"{where} has neither 'answer' nor 'target' (found: {', '.join(table.columns)}).")
        return "training set", typed(table, _TYPES, where, ranges=_RANGES)
    raise InputError(
        f"{where} is neither scores (a column 'method') nor a training set (a column 'weight') "
        f"(found: {', '.join(table.columns)})."
    )


def _methods(there: list[list[str]], paths: tuple[Path, Path], method: str | None) -> list[str]:
    """Return the methods to compare, in the old table's order."""
    if method is not None:
        for names, path in zip(there, paths, strict=True):
            if method not in names:
                raise UnknownNameError(
                    f"{path} has no rows of method '{method}'{near_match(method, names) or '.'} "
                    f"Found: {', '.join(names)}."
                )
        return [method]
    shared = [name for name in there[0] if name in there[1]]
    if not shared:
        raise InputError(
            f"no method is in both tables: {paths[0]} has {', '.join(there[0])}; {paths[1]} has {', '.join(there[1])}."
        )
    return shared


def _what_keeps(old: pl.DataFrame, new: pl.DataFrame, options: DiffOptions) -> str | None:
    if options.threshold is not None:
        return f"label quality of at least {options.threshold:g}"
    if options.keep is not None:
        return f"the {options.keep:g} of highest label quality"
    return "column kept" if "kept" in old.columns and "kept" in new.columns else None


def _weak_labels(table: pl.DataFrame, method: str, options: DiffOptions) -> pl.DataFrame:
    """Return `item_id, label, value, kept`, one row per item; label and value are null without a weak label."""
    rows = table.filter(pl.col("method") == method)
    items = rows.select("item_id").unique(maintain_order=True)
    weak = rows.filter(pl.col("weak_label") & pl.col("answer").is_not_null())
    if weak["item_id"].is_duplicated().any():
        name = weak.filter(pl.col("item_id").is_duplicated())["item_id"][0]
        raise InputError(f"method '{method}': item {name} has more than one weak label.")
    quality = pl.col("label_quality")
    if options.threshold is not None:
        kept = (quality >= options.threshold).fill_null(False)
    elif options.keep is not None:
        kept = pl.col("item_id").is_in(_best(weak, options.keep))
    else:
        kept = pl.col("kept").fill_null(False) if "kept" in rows.columns else pl.lit(None, pl.Boolean())
    labels = weak.select("item_id", label="answer", value=quality, kept=kept)
    return items.join(labels, on="item_id", how="left", maintain_order="left")


def _best(weak: pl.DataFrame, fraction: float) -> list[str]:
    """Return the fraction of the items that has the highest label quality, null last.

    Inside the last block of ties, the items of smallest hash: the same ones in both tables, so that
    a cut through ties is no change.
    """
    from labelrel.scoring.hashing import stable_hash

    # 0.07 * 100 is a hair above 7, which must not make it 8
    size = math.ceil(round(fraction * weak.height, 6))
    ranked = weak.with_columns(pl.Series("hash", stable_hash(weak["item_id"])))
    order = ranked.sort("label_quality", "hash", "item_id", descending=[True, False, False], nulls_last=True)
    return order["item_id"].head(size).to_list()


def _training_labels(table: pl.DataFrame, label: str) -> pl.DataFrame:
    """Return `item_id, label, value, kept`: per item the label of most weight and the weight of all its rows."""
    per_label = table.group_by("item_id", label, maintain_order=True).agg(pl.col("weight").sum())
    first = per_label.sort("weight", label, descending=[True, False], nulls_last=True, maintain_order=True)
    labels = first.group_by("item_id", maintain_order=True).agg(
        pl.col(label).first().alias("label"), pl.col("weight").sum().alias("value")
    )
    there = table.select("item_id").unique(maintain_order=True)
    return there.join(labels.with_columns(kept=pl.col("value") > 0), on="item_id", how="left", maintain_order="left")


def _compare(old: pl.DataFrame, new: pl.DataFrame, *, what: str, by: str | None, top: int) -> dict[str, Any]:
    """Compare two frames of `item_id, label, value, kept`, one row per item.

    Args:
        old: the one.
        new: the other.
        what: what `value` is called in rows.
        by: what keeps, None where nothing does.
        top: how many items a list names.
    """
    gone = old.join(new, on="item_id", how="anti", maintain_order="left")["item_id"]
    added = new.join(old, on="item_id", how="anti", maintain_order="left")["item_id"]
    both = old.join(new, on="item_id", suffix="_new", maintain_order="left")
    rows = both.select(
        "item_id",
        old_label="label",
        new_label="label_new",
        **{f"old_{what}": pl.col("value"), f"new_{what}": pl.col("value_new")},
    )
    labelled = rows.drop_nulls(["old_label", "new_label"])
    flips = labelled.filter(pl.col("old_label") != pl.col("new_label"))
    lost = rows.filter(pl.col("old_label").is_not_null() & pl.col("new_label").is_null())["item_id"]
    gained = rows.filter(pl.col("old_label").is_null() & pl.col("new_label").is_not_null())["item_id"]
    change = (pl.col(f"new_{what}") - pl.col(f"old_{what}")).alias("change")
    shifts = rows.with_columns(change).drop_nulls("change")
    moved = shifts.filter(pl.col("change") != 0).sort(pl.col("change").abs(), descending=True, maintain_order=True)
    return {
        "items": {
            "old": old.height,
            "new": new.height,
            "both": both.height,
            "gone": _named(gone, top),
            "added": _named(added, top),
        },
        "flips": {
            "num": flips.height,
            "share": flips.height / labelled.height if labelled.height else None,
            "rows": _rows(flips.sort(f"new_{what}", descending=True, nulls_last=True, maintain_order=True), top),
        },
        "lost": _named(lost, top),
        "gained": _named(gained, top),
        "shifts": {
            "num": shifts.height,
            "mean": shifts["change"].mean(),
            "mean_abs": shifts["change"].abs().mean(),
            "max_abs": shifts["change"].abs().max(),
            "rows": _rows(moved, top),
        },
        "kept": _kept(old, new, by, top) if by else None,
    }


def _kept(old: pl.DataFrame, new: pl.DataFrame, by: str, top: int) -> dict[str, Any]:
    before, after = (frame.filter("kept").select("item_id") for frame in (old, new))
    entering = after.join(before, on="item_id", how="anti", maintain_order="left")["item_id"]
    leaving = before.join(after, on="item_id", how="anti", maintain_order="left")["item_id"]
    return {
        "by": by,
        "old": before.height,
        "new": after.height,
        "both": before.height - len(leaving),
        "entering": _named(entering, top),
        "leaving": _named(leaving, top),
    }


def _named(ids: pl.Series, top: int) -> dict[str, Any]:
    return {"num": len(ids), "items": ids.head(top).to_list()}


def _rows(frame: pl.DataFrame, top: int) -> list[dict[str, Any]]:
    return frame.head(top).to_dicts()

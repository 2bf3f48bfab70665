"""How far the answers to the same items agree, who differs from the rest, and which items are disputed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from labelrel import files
from labelrel.errors import ConfigError
from labelrel.schema import their_columns
from labelrel.show import print_table

if TYPE_CHECKING:
    from labelrel.evaluate.agreement import Cells
    from labelrel.scoring.encode import Votes
    from labelrel.scoring.tally import Tally

Codes = npt.NDArray[np.integer[Any]]

_SHOWN = 20  # annotators or variants on the screen; the result has all of them
_SHOWN_ANSWERS = 10  # distinct answers of one disputed item that are spelt out
_MOST_CHOICES = 26  # more "choices" than that are numbers


@dataclass(frozen=True, kw_only=True)
class AgreeOptions:
    """How to read a table, and what to say of it.

    Attributes:
        columns: our column name → theirs, for item_id, annotator_id, variant_id and answer. Only
            item and answer must be there, and those that are named otherwise than ours.
        choices: the number of choices of every item, where answers are choice indices; None takes
            it from the answers, where they are exactly the numbers from 0 to some number.
        top: how many disputed items to name.
        confidence: level of every interval, in (0, 1).
        resamples: bootstrap draws of items.
        seed: of the draws.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    choices: int | None = None
    top: int = 10
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is impossible."""
        if self.choices is not None and self.choices < 2:
            raise ConfigError(f"--choices must be at least 2, got {self.choices}.")
        if self.top < 0:
            raise ConfigError(f"--top must be at least 0, got {self.top}.")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"--confidence must lie in (0, 1), got {self.confidence:g}.")
        if self.resamples < 1:
            raise ConfigError(f"--resamples must be at least 1, got {self.resamples}.")


def agree_table(path: Path, options: AgreeOptions | None = None) -> dict[str, Any]:
    """Measure the agreement in any table of answers.

    Args:
        path: one row per answer; Parquet, CSV or JSONL.
        options: how to read it and what to say.

    Returns:
        As `agree`.

    Raises:
        InputError: no such file or column, no rows, or a duplicate.
    """
    from labelrel.scoring.frames import read_answers

    options = options or AgreeOptions()
    table, where = files.read_table(path), str(path)
    names = {ours: options.columns.get(ours, ours) for ours in ("item_id", "annotator_id", "variant_id", "answer")}
    there = their_columns(names, table.columns, where)
    return agree(
        read_answers(table.select(pl.col(theirs).alias(ours) for ours, theirs in there.items()), where), options
    )


def agree(votes: Votes, options: AgreeOptions | None = None) -> dict[str, Any]:
    """Measure the agreement of answers.

    Returns:
        A JSON-able dict of finite numbers, or None for what cannot be computed:

        - `answers` (rows), `abstained`, `items`, `annotators`, `variants` (None where the table names
          none), `distinct_answers`, `notes` on what this table cannot tell, one line each, and
          `confidence`.
        - `agreement`: `observed`, `fleiss_kappa` and `krippendorff_alpha` (see
          `labelrel.evaluate.agreement.agreement`), each None or `value`, `low`, `high`, `n` (items with
          two answers or more) and `num_undefined` (bootstrap draws without the number).
        - `by_annotator`, the least agreeing first: `annotator_id`, `answers`, `abstained`;
          `compared`: items whose other annotators have one favourite answer; `undecided`: items
          where the others are tied; `agreement`: mean over the compared items of the share of the
          annotator's answers that are that favourite, with Wilson's interval `low`, `high` (the unit
          is the item); `bias`: total variation distance, in [0, 1], of its answers from the others'
          on the same items; `bias_by_chance`: about how large that would be for one who answers as
          the others do, so only a `bias` well above it means something; `favours`: the answer most
          overused, None where none is, given `favours_given` times where the others' shares make
          `favours_expected`. Where answers are choice indices also `choice_shares`, and `chi_square`
          with `p_uniform` against equal shares, None where there are too few answers for it.
        - `by_variant`: the same by `variant_id`, each against the other variants ("position bias");
          None where the table names no variants, or one.
        - `choices`: `shares`, `chi_square` and `p_uniform` of all answers; None where answers are no
          choice indices. Equal shares are to be expected only where the right choice is as often one
          position as another.
        - `disputed`: the items of highest entropy (in nats, of the vote shares), then with most
          answers, then by id: `item_id`, `answers`, `entropy`, `votes` ("A x3, B x2"). Unanimous items
          are never among them.
    """
    from labelrel.evaluate.agreement import Cells, agreement
    from labelrel.scoring.tally import count_votes

    options = options or AgreeOptions()
    tally = count_votes(votes)
    counted = tally.num_votes > 0
    cells = Cells(tally.item[counted], tally.answer[counted], tally.num_votes[counted])
    found = agreement(cells, confidence=options.confidence, resamples=options.resamples, seed=options.seed)
    num_choices = _num_choices(votes.answers, options.choices)
    result: dict[str, Any] = {
        "answers": votes.num_rows,
        "abstained": int(np.count_nonzero(votes.answer < 0)),
        "items": votes.num_items,
        "annotators": len(votes.annotator_ids),
        "variants": len(votes.variant_ids) if votes.variant_ids is not None else None,
        "distinct_answers": len(votes.answers),
        "notes": _notes(votes, cells),
        "confidence": options.confidence,
        "agreement": {
            name: m and {"value": m.value, "low": m.low, "high": m.high, "n": m.n, "num_undefined": m.num_undefined}
            for name, m in found.items()
        },
        "by_annotator": _by_group(
            "annotator_id", votes, cells, votes.annotator, votes.annotator_ids, num_choices, options
        ),
        "by_variant": None,
        "choices": None,
        "disputed": _disputed(tally, options.top),
    }
    if votes.variant is not None and votes.variant_ids is not None and len(votes.variant_ids) > 1:
        result["by_variant"] = _by_group(
            "variant_id", votes, cells, votes.variant, votes.variant_ids, num_choices, options
        )
    if num_choices:
        result["choices"] = _choice_shares(_per_choice(votes, np.zeros_like(votes.answer), 1, num_choices)[0])
    return result


def show_agreement(result: Mapping[str, Any]) -> None:
    """Print what `agree` found: what a person reads first, not all of it."""
    sizes = ("answers", "abstained", "items", "annotators", "variants", "distinct_answers")
    print_table([{name: result[name] for name in sizes}])
    for note in result["notes"]:
        print(f"note: {note}")
    rows = [
        {"measure": name, **{key: (m or {}).get(key) for key in ("value", "low", "high")}, "items": (m or {}).get("n")}
        for name, m in result["agreement"].items()
    ]
    print()
    print_table(rows, f"agreement [{result['confidence']:.0%} intervals over items]")
    for key in ("by_annotator", "by_variant"):
        groups = result[key]
        if not groups:
            continue
        what = key.removeprefix("by_")
        more = f" (the {_SHOWN} least agreeing of {len(groups)})" if len(groups) > _SHOWN else ""
        print()
        print_table([_shown(row) for row in groups[:_SHOWN]], f"each {what} against the others{more}")
    if result["choices"]:
        print()
        print_table([{**result["choices"], "choice_shares": _shares(result["choices"])}], "choices, all answers")
    if result["disputed"]:
        print()
        print_table(result["disputed"], "most disputed items")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one group for the screen, numbers that belong together in one column."""
    name, value = next(iter(row.items()))
    agreement = row["agreement"] is not None and f"{row['agreement']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    favours = (
        row["favours"] is not None and f"{row['favours']} x{row['favours_given']}, not {row['favours_expected']:.1f}"
    )
    shown = {name: value, **{key: row[key] for key in ("answers", "abstained", "compared")}}
    shown |= {"agreement": agreement or None, "bias": row["bias"], "by chance": row["bias_by_chance"]}
    shown |= {"favours": favours or None}
    return shown | ({"choices": _shares(row)} if "choice_shares" in row else {})


def _shares(row: Mapping[str, Any]) -> str | None:
    return " ".join(f"{share:.2f}" for share in row["choice_shares"]) if row["choice_shares"] else None


def _notes(votes: Votes, cells: Cells) -> list[str]:
    if not len(cells.item):
        return ["no answer could be parsed: nothing can be computed"]
    notes = []
    if not (cells.votes >= 2).any():
        notes.append(
            "no item has two answers: agreement, kappa and alpha cannot be computed, and nobody can be compared; "
            "ask more than once"
        )
    elif len(votes.answers) == 1:
        notes.append("every answer is the same: kappa and alpha are not defined without any variation")
    if len(votes.annotator_ids) == 1:
        notes.append(
            "there is one annotator: nobody else to compare it with; kappa and alpha tell how far its own answers "
            "to an item agree"
        )
    return notes


def _by_group(
    column: str,
    votes: Votes,
    cells: Cells,
    group: Codes,
    names: pl.Series,
    num_choices: int | None,
    options: AgreeOptions,
) -> list[dict[str, Any]]:
    """Return one dict per annotator or variant, the least agreeing first, those without agreement last."""
    from labelrel.evaluate.agreement import against_rest, wilson

    size, parsed = len(names), votes.answer >= 0
    found = against_rest(cells, votes.item[parsed], votes.answer[parsed], group[parsed], size)
    abstained = np.bincount(group[~parsed], minlength=size)
    choices = _per_choice(votes, group, size, num_choices) if num_choices else None
    rows = []
    for g, name in enumerate(names):
        ends = wilson(float(found.agreeing[g]), int(found.decided[g]), options.confidence)
        row: dict[str, Any] = {
            column: name,
            "answers": int(found.answers[g]),
            "abstained": int(abstained[g]),
            "compared": int(found.decided[g]),
            "undecided": int(found.undecided[g]),
            "agreement": float(found.agreeing[g] / found.decided[g]) if ends else None,
            "low": ends[0] if ends else None,
            "high": ends[1] if ends else None,
            **_bias(found.given, found.expected, found.variance, g, votes.answers),
        }
        if choices is not None:
            row |= _choice_shares(choices[g])
        rows.append(row)
    return sorted(rows, key=lambda row: (row["agreement"] is None, row["agreement"] or 0, row[column]))


def _bias(given: Any, expected: Any, variance: Any, g: int, answers: pl.Series) -> dict[str, Any]:
    """Return how a group's answers are distributed beside those of the rest."""
    total = given[g].sum() if given is not None else 0
    if not total:
        names = ("bias", "bias_by_chance", "favours", "favours_given", "favours_expected")
        return dict.fromkeys(names)
    more = given[g] - expected[g]
    most = int(np.argmax(more))
    over = bool(more[most] > 1e-9)
    return {
        "bias": float(np.abs(more).sum() / 2 / total),
        # the mean of |x| for a normal x of that variance
        "bias_by_chance": float(np.sqrt(2 / np.pi * variance[g]).sum() / 2 / total),
        "favours": answers[most] if over else None,
        "favours_given": int(given[g, most]) if over else None,
        "favours_expected": float(expected[g, most]) if over else None,
    }


def _num_choices(answers: pl.Series, choices: int | None) -> int | None:
    """Return K where the distinct answers are indices of K choices, None where they are anything else."""
    if not len(answers) or len(answers) > _MOST_CHOICES or not all(re.fullmatch(r"0|[1-9]\d?", a) for a in answers):
        return None
    numbers = {int(a) for a in answers}
    if choices is not None:
        return choices if max(numbers) < choices else None
    return len(numbers) if len(numbers) > 1 and numbers == set(range(len(numbers))) else None


def _per_choice(votes: Votes, group: Codes, num_groups: int, num_choices: int) -> npt.NDArray[np.int64]:
    """Return (groups, choices): how often each choice was given."""
    index = np.array([int(answer) for answer in votes.answers])
    parsed = votes.answer >= 0
    key = group[parsed].astype(np.int64) * num_choices + index[votes.answer[parsed]]
    return np.bincount(key, minlength=num_groups * num_choices).reshape(num_groups, num_choices)


def _choice_shares(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    from labelrel.evaluate.agreement import uniform_fit

    total, fit = int(counts.sum()), uniform_fit(counts)
    return {
        "choice_shares": (counts / total).tolist() if total else None,
        "chi_square": fit[0] if fit else None,
        "p_uniform": fit[1] if fit else None,
    }


def _disputed(tally: Tally, top: int) -> list[dict[str, Any]]:
    """Return the items of highest entropy, unanimous ones left out."""
    entropy = tally.entropy()[tally.starts]
    found = np.flatnonzero(entropy > 0)
    items = pl.DataFrame(
        {
            "item": found,
            "item_id": tally.votes.item_ids.gather(found),
            "answers": tally.num_answers[tally.starts[found]],
            "entropy": entropy[found],
        }
    ).sort(["entropy", "answers", "item_id"], descending=[True, True, False])
    ends = np.append(tally.starts[1:], len(tally.item))
    return [
        {**row, "votes": _vote_text(tally, int(tally.starts[item]), int(ends[item]))}
        for item, row in zip(items["item"].head(top), items.drop("item").head(top).iter_rows(named=True), strict=True)
    ]


def _vote_text(tally: Tally, start: int, stop: int) -> str:
    last = min(stop, start + _SHOWN_ANSWERS)
    shown = [f"{tally.votes.answers[int(tally.answer[k])]} x{tally.num_votes[k]}" for k in range(start, last)]
    return ", ".join(shown) + (f", … ({stop - last} more)" if stop > last else "")

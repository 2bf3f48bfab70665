"""The answer in plain words, never stronger than its intervals."""

from __future__ import annotations

from labelrel.report.collect import BASELINE, Comparison, Row


def best_method(comparison: Comparison) -> Row | None:
    """Return the row of the most accurate method; controls, floor and ceiling cannot be the answer."""
    methods = comparison.with_role("method")
    return methods[0] if methods else None


def answer(comparison: Comparison) -> str:
    """Say which labels gave the best strong model, how sure that is, and what it rests on.

    The lead over `naive` decides: where its paired interval includes 0 the answer says so. It also
    says when there is no gap to recover, and when a random subset did as well.
    """
    best = best_method(comparison)
    basis = _basis(comparison, best)
    if best is None:
        return f"No method has been aligned yet, only controls, floor and ceiling ({basis})."
    parts = [_lead(comparison, best, basis), _control(comparison, best)]
    return " ".join(part for part in parts if part)


def _lead(comparison: Comparison, best: Row, basis: str) -> str:
    reached = f"test accuracy {_span(best.test_accuracy, best.accuracy_lo, best.accuracy_hi)} on {basis}"
    if best.pgr is None:
        start = (
            f"There is no gap to recover with confidence: {best.pgr_reason}, so PGR is undefined; "
            if comparison.gap is not None
            else "Without a ceiling run PGR is undefined; "
        )
        head = f"{start}the best method was {best.method} with {reached}"
    else:
        floor, ceiling = comparison.with_role("floor")[0], comparison.with_role("ceiling")[0]
        head = (
            f"{best.method} gave the best strong model: {reached}, a PGR of "
            f"{_span(best.pgr, best.pgr_lo, best.pgr_hi, digits=2)} between floor {floor.test_accuracy:.3f} "
            f"and ceiling {ceiling.test_accuracy:.3f}"
        )
    return f"{head}; {_against_naive(comparison, best)}."


def _against_naive(comparison: Comparison, best: Row) -> str:
    if best.method == BASELINE:
        others = len(comparison.with_role("method")) - 1
        return f"none of the {others} other methods did better" if others else "nothing else was tried"
    if best.diff_naive is None or best.diff_naive_lo is None or best.diff_naive_hi is None:
        return "naive labels were not tried, so there is nothing to compare it with"
    lead = _span(best.diff_naive, best.diff_naive_lo, best.diff_naive_hi, sign=True)
    if best.diff_naive_lo > 0:
        return f"its lead over naive labels is {lead}"
    return (
        f"its lead over naive labels, {lead}, is not decisive: the {comparison.confidence:.0%} interval includes 0, "
        "so more test items or seeds are needed to tell them apart"
    )


def _control(comparison: Comparison, best: Row) -> str:
    random = next((row for row in comparison.with_role("control") if row.method.startswith("random")), None)
    if random is None or random.test_accuracy < best.test_accuracy:
        return ""
    return (
        f"A random subset did as well ({random.test_accuracy:.3f}), so this run does not show that choosing labels "
        "helped."
    )


def _basis(comparison: Comparison, row: Row | None) -> str:
    seeds = len(row.seeds) if row else 1
    return f"{comparison.num_test_items} test items, {seeds} training seed{'s' if seeds != 1 else ''}"


def _span(value: float, low: float | None, high: float | None, *, digits: int = 3, sign: bool = False) -> str:
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"

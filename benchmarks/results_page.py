"""docs/results.md and its pictures, from the collected results; no number on the page is typed by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiments import TREATMENTS

PICTURES = ("entropy", "reliability", "risk_coverage", "calibration", "positions")
PAPER = ("hellaswag", "mmlu", "ethics_commonsense", "gsm8k")
DASH = "\u2013"
TEXT = Path(__file__).parent / "results_text.md"
"""What people wrote about the numbers, with `{{ name }}` where a table or a number goes."""

WORDS = Path(__file__).parent / "results_words.md"
"""What the numbers of this run say, in words."""

Found = Mapping[str, Any]


def write_page(result: Found, work: Path, docs: Path) -> None:
    """Write the page and copy its pictures."""
    pictures = docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    copied = copy_pictures(result, work, pictures)
    overview(result, pictures / "results.png")
    compared = [e for e in result["experiments"] if len(e["rows"]) > 2]
    with_gap = [e for e in compared if e["gap"]["low"] > 0]
    parts = {
        "gaps": gap_table(result["experiments"]),
        "num_gaps": str(len(with_gap)),
        "num_all": str(len({e["task"] for e in result["experiments"] if e["rows"]})),
        "num_tasks": str(len({e["task"] for e in compared})),
        "pooled": pooled_table(with_gap),
        "signal": signal_table(result["experiments"]),
        "treatments": treatment_table(compared),
        "methods": "\n\n".join(method_table(e) for e in compared),
        "pictures": "\n\n".join(picture_block(task, names) for task, names in copied.items()),
        "refused": refused(compared),
        "words": WORDS.read_text(encoding="utf-8").strip() if WORDS.is_file() else "",
        "command": result["command"],
        "date": result["date"],
        "machine": f"{result['machine']['cores']} cores, {result['machine']['processor']}",
        "versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    }
    page = TEXT.read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace("{{ " + name + " }}", part)
    if "{{ " in page:
        raise SystemExit(f"{TEXT.name} names something unknown: {page[page.index('{{ ') :][:40]}")
    (docs / "results.md").write_text(page, encoding="utf-8")


def gap_table(experiments: Sequence[Found]) -> str:
    """Floor, ceiling and the gap between them, and how much the votes say."""
    lines = [
        "| task | weak → strong | test items | floor | ceiling | gap [95 %] | weak labels right | unanimous "
        "| AUROC of entropy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for e in experiments:
        rows = {row["method"]: row for row in e["rows"]}
        if "ceiling" not in rows:
            continue
        gap = e["gap"]
        sure = "**" if gap["low"] > 0 else ""
        lines.append(
            f"| `{e['task']}` | {short(e['weak'])} → {short(e['strong'])} | {rows['ceiling']['num_test_items']} "
            f"| {number(rows['floor']['test_accuracy'])} | {number(rows['ceiling']['test_accuracy'])} "
            f"| {sure}{signed(gap['value'])}{sure} [{signed(gap['low'])}, {signed(gap['high'])}] "
            f"| {number(e['label_accuracy'])} | {number(e['unanimous'])} | {number(e['auroc'].get('entropy'))} |"
        )
    return "\n".join(lines)


def method_table(e: Found) -> str:
    """One experiment, all its methods."""
    lines = [
        f"### {e['task']}",
        "",
        f"{short(e['weak'])} → {short(e['strong'])}, training seeds {', '.join(map(str, e['rows'][-1]['seeds']))}, "
        f"{e['variants']} variants per question.",
        "",
        "| method | role | kept | labels right | test accuracy [95 %] | PGR [95 %] | vs naive [95 %] |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in e["rows"]:
        pgr = f"{row['pgr']:.2f} {interval(row['pgr_lo'], row['pgr_hi'], '.2f')}" if row["pgr"] is not None else DASH
        lines.append(
            f"| `{row['method']}` | {row['role']} | {number(row['kept_fraction'], 2)} "
            f"| {number(row['label_accuracy'])} "
            f"| {number(row['test_accuracy'])} {interval(row['accuracy_lo'], row['accuracy_hi'], '.3f')} "
            f"| {pgr} | {lead_over_naive(row)} |"
        )
    if any(row["pgr_reason"] for row in e["rows"]):
        lines += ["", f"PGR is undefined here: {next(r['pgr_reason'] for r in e['rows'] if r['pgr_reason'])}."]
    return "\n".join(lines)


def pooled(experiments: Sequence[Found]) -> dict[str, dict[str, Any]]:
    """Return method → its mean lead over naive across tasks, with the interval over tasks (Student's t)."""
    import numpy as np
    from scipy.stats import t

    leads: dict[str, list[float]] = {}
    decisive: dict[str, list[int]] = {}
    for e in experiments:
        for row in e["rows"]:
            # losses and second looks were run on few tasks; they have a table of their own
            if row["diff_naive"] is not None and row["role"] != "floor" and row["method"] not in TREATMENTS:
                leads.setdefault(row["method"], []).append(row["diff_naive"])
                sign = int(row["diff_naive_lo"] > 0) - int(row["diff_naive_hi"] < 0)
                decisive.setdefault(row["method"], []).append(sign)
    found = {}
    for method, values in leads.items():
        n = len(values)
        half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        mean = float(np.mean(values))
        found[method] = {
            "mean": mean, "low": mean - half, "high": mean + half, "tasks": n, "ahead": sum(v > 0 for v in values),
            "decisively_ahead": decisive[method].count(1), "decisively_behind": decisive[method].count(-1),
        }  # fmt: skip
    return found


def pooled_table(experiments: Sequence[Found]) -> str:
    """The lead over naive across the tasks with a gap."""
    lines = [
        "| method | mean lead over naive [95 % over tasks] | tasks | ahead in | decisively ahead | decisively behind |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in sorted(pooled(experiments).items(), key=lambda pair: -pair[1]["mean"]):
        lines.append(
            f"| `{method}` | {signed(row['mean'])} {interval(row['low'], row['high'], '+.3f')} | {row['tasks']} "
            f"| {row['ahead']} | {row['decisively_ahead']} | {row['decisively_behind']} |"
        )
    return "\n".join(lines)


def signal_table(experiments: Sequence[Found]) -> str:
    """Which way of varying the query is informative, on the tasks that were asked in two ways."""
    lines = [
        "| task | options in the prompt | variants differ by | weak labels right | unanimous | AUROC of entropy |",
        "|---|---|---|---|---|---|",
    ]
    twice = {e["task"] for e in experiments if e["name"] != e["task"]}
    for e in sorted(experiments, key=lambda e: e["task"]):
        if e["task"] in twice:
            lines.append(
                f"| `{e['task']}` | {e['prompt']['options']} | {e['prompt']['vary']} | {number(e['label_accuracy'])} "
                f"| {number(e['unanimous'])} | {number(e['auroc'].get('entropy'))} |"
            )
    return "\n".join(lines)


def treatment_table(experiments: Sequence[Found]) -> str:
    """Losses and second looks: accuracy, and the lead over naive labels learnt over the options."""
    lines = [
        "| task | method | test accuracy [95 %] | lead over `naive` [95 %] | lead over `naive_options` [95 %] |",
        "|---|---|---|---|---|",
    ]
    for e in experiments:
        rows = {row["method"]: row for row in e["rows"]}
        for method in ("naive", "naive_options", *(m for m in e.get("vs_options", {}) if m != "naive")):
            if method not in rows or not e["vs_options"]:
                continue
            row, lead = rows[method], e["vs_options"].get(method)
            second = f"{signed(lead['value'])} {interval(lead['low'], lead['high'], '+.3f')}" if lead else DASH
            lines.append(
                f"| `{e['task']}` | `{method}` "
                f"| {number(row['test_accuracy'])} {interval(row['accuracy_lo'], row['accuracy_hi'], '.3f')} "
                f"| {lead_over_naive(row)} | {second} |"
            )
    return "\n".join(lines)


def refused(experiments: Sequence[Found]) -> str:
    """What could not be trained because no threshold qualified."""
    lines = [f"* `{e['task']}`: {text}" for e in experiments for text in e["refused"].values()]
    return "\n".join(lines) or "None: a threshold qualified on every task."


def copy_pictures(result: Found, work: Path, pictures: Path) -> dict[str, list[str]]:
    """Copy the figures of the paper's tasks from their reports; return task → file names."""
    copied: dict[str, list[str]] = {}
    for e in result["experiments"]:
        figures = work / e["name"] / "data" / "report" / "figures"
        if e["name"] not in PAPER:
            continue
        for name in PICTURES:
            if (figures / f"{name}.png").is_file():
                target = pictures / f"{e['task']}-{name}.png"
                shutil.copyfile(figures / f"{name}.png", target)
                copied.setdefault(e["task"], []).append(target.name)
    return copied


def picture_block(task: str, names: Sequence[str]) -> str:
    """The pictures of one task."""
    shown = [f"![{name.removesuffix('.png').replace('-', ': ').replace('_', ' ')}](pictures/{name})" for name in names]
    return "\n\n".join([f"### {task} in pictures", *shown])


def overview(result: Found, path: Path) -> None:
    """Draw floor and ceiling of every task, and every method's lead over naive."""
    from labelrel.report.style import LIGHT, canvas, look, png

    experiments = [e for e in result["experiments"] if e["rows"]]
    leads = pooled([e for e in experiments if len(e["rows"]) > 2 and e["gap"]["low"] > 0])
    order = sorted(leads, key=lambda m: leads[m]["mean"])
    with look(LIGHT):
        figure, (left, right) = canvas(0.9 + 0.3 * max(len(experiments), len(order)), 2)
        for place, e in enumerate(reversed(experiments)):
            rows = {row["method"]: row for row in e["rows"]}
            low, high = rows["floor"]["test_accuracy"], rows["ceiling"]["test_accuracy"]
            colour = LIGHT.right if e["gap"]["low"] > 0 else LIGHT.muted
            left.plot([low, high], [place, place], color=colour, linewidth=2)
            left.plot(low, place, marker="D", markersize=5, color=LIGHT.muted)
            left.plot(high, place, marker="o", markersize=5, color=colour)
        left.set_yticks(range(len(experiments)), [e["task"] for e in reversed(experiments)])
        left.set_xlabel("test accuracy: floor ◆, ceiling ●")
        left.grid(axis="y", visible=False)
        for place, method in enumerate(order):
            row = leads[method]
            right.plot([row["low"], row["high"]], [place, place], color=LIGHT.right, linewidth=2)
            right.plot(row["mean"], place, marker="o", markersize=5, color=LIGHT.right)
        right.axvline(0, color=LIGHT.muted, linewidth=1, linestyle=(0, (4, 3)))
        right.set_yticks(range(len(order)), order)
        right.set_xlabel("mean lead over naive")
        right.grid(axis="y", visible=False)
        path.write_bytes(png(figure))


def lead_over_naive(row: Mapping[str, Any]) -> str:
    """Return a row's lead over naive labels with its interval."""
    if row["diff_naive"] is None:
        return DASH
    return f"{signed(row['diff_naive'])} {interval(row['diff_naive_lo'], row['diff_naive_hi'], '+.3f')}"


def short(model: str) -> str:
    """Return a model reference as the page writes it."""
    return model.replace("@layers=", " cut to ").replace("hub:", "")


def number(value: float | None, digits: int = 3) -> str:
    """Return a share, or a dash where it is not defined."""
    return DASH if value is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.3f}"


def interval(low: float | None, high: float | None, form: str) -> str:
    """Return an interval in brackets; empty where there is none."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"

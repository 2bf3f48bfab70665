"""What there is, from the registries."""

from __future__ import annotations

from typing import Any

from labelrel.show import print_table

Listing = dict[str, list[dict[str, str]]]


def list_methods() -> Listing:
    """Return the scoring methods, the selection rules and the losses, one dict each."""
    from labelrel.losses import losses
    from labelrel.scoring import methods
    from labelrel.selection import rules

    scoring = [
        {
            "name": name,
            "unit": m.unit,
            "needs": ", ".join(m.needs),
            "gold": "needed" if "gold" in m.needs else "used" if m.uses_gold else "-",
            "params": ", ".join(m.params.model_fields) or "-",
            "summary": m.summary,
        }
        for name, m in ((name, methods.get(name)) for name in methods)
    ]
    selection = [
        {
            "name": name,
            "role": r.role,
            "loss": r.loss,
            "params": ", ".join(r.params.model_fields) or "-",
            "summary": r.summary,
        }
        for name, r in ((name, rules.get(name)) for name in rules)
    ]
    training = [
        {"name": name, "reads": x.reads, "params": ", ".join(x.params.model_fields) or "-", "summary": x.summary}
        for name, x in ((name, losses.get(name)) for name in losses)
    ]
    return {"scoring methods": scoring, "selection rules": selection, "losses": training}


def list_tasks() -> Listing:
    """Return the tasks, one dict each."""
    from labelrel.tasks import tasks

    known: list[Any] = [tasks.get(name) for name in tasks]
    return {"tasks": [{"name": t.name, "kind": t.kind, "summary": t.summary, "source": t.source} for t in known]}


def list_engines() -> Listing:
    """Return the engines, one dict each."""
    from labelrel.supervise import engines

    rows = [
        {
            "name": name,
            "supervisor": "tuned by `supervise`" if e.tuned else "asked as it is",
            "options": ", ".join(e.params.model_fields) or "-",
            "summary": e.summary,
        }
        for name, e in ((name, engines.get(name)) for name in engines)
    ]
    return {"engines": rows}


def list_profiles() -> Listing:
    """Return the profiles, one dict each."""
    from labelrel.profile import profiles

    return {"profiles": [{"name": name, "summary": summary} for name, summary in profiles().items()]}


def print_listing(listing: Listing) -> None:
    """Print each table to stdout."""
    for number, (title, rows) in enumerate(listing.items()):
        if number:
            print()
        print_table(rows, title)

"""How an experiment is shown in MLflow's UI: which columns, in which order, and what they mean.

MLflow keeps the columns that a person chose in the browser alone, but reads a shared view from a tag of the
experiment when an address names it; `labelrel ui` gives that address.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from labelrel.tracking import keys

KEY = "labelrel"
"""Name of the shared view: `…/#/experiments/ID?viewStateShareKey=labelrel`."""

TAG = f"mlflow.sharedViewState.{KEY}"

COLUMNS = (
    ("tags", keys.METHOD),
    ("tags", keys.ROLE),
    ("metrics", "test/accuracy"),
    ("metrics", "test/accuracy_lo"),
    ("metrics", "test/accuracy_hi"),
    ("metrics", "test/pgr"),
    ("metrics", "labels/kept_fraction"),
    ("metrics", "labels/accuracy"),
    ("metrics", "cost/seconds"),
)

NOTE = """One parent run per comparison, one child per method and seed.

Columns worth having: `labelrel.method`, `labelrel.role`, `test/accuracy` with `_lo` and `_hi` (interval over items
and seeds), `test/pgr` (empty: undefined, the tag `labelrel.pgr` says why), `labels/kept_fraction`, `labels/accuracy`
(for reporting only), `cost/seconds`. They are chosen when this page is opened with `?viewStateShareKey=labelrel` at
the end of its address. `labelrel.current` is true for the runs of the latest report. A parent run holds the report
itself: `report.html`, `table.json` and the figures.
"""


def experiment_tags() -> dict[str, str]:
    """Return the tags of an experiment that describe it and choose its columns."""
    columns = [f"{kind}.`{name}`" for kind, name in COLUMNS]
    state: dict[str, Any] = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "searchFilter": f"tags.`{keys.CURRENT}` = 'true'",
        "orderByKey": "metrics.`test/accuracy`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }
    return {TAG: json.dumps(state), keys.NOTE: NOTE}


def shared_views(database: Path) -> dict[str, str]:
    """Return experiment → the end of the address that opens its runs with our columns.

    Args:
        database: SQLite file of a store.
    """
    query = (
        "SELECT name, experiment_id FROM experiments JOIN experiment_tags USING (experiment_id) "
        "WHERE key = ? AND lifecycle_stage = 'active' ORDER BY name"
    )
    try:
        with closing(sqlite3.connect(database)) as store:
            found = store.execute(query, (TAG,)).fetchall()
    except sqlite3.DatabaseError:  # no tables yet
        return {}
    return {name: f"#/experiments/{number}/runs?viewStateShareKey={KEY}" for name, number in found}

"""Runs, curves, lineage and artifacts of a comparison in MLflow; the only room that imports it.

`open_tracker` gives the one object the rest of the package talks to. Importing this room does not
import MLflow, and a tracker that was not asked for (`track=False`) never does.
"""

from __future__ import annotations

from pathlib import Path

from labelrel.progress import say
from labelrel.tracking.base import LATER, ChildRun, NoChild, NoTracker, Tracker
from labelrel.tracking.lineage import GitState, dvc_md5s, git_state
from labelrel.tracking.serve import default_uri, serve

__all__ = [
    "ChildRun",
    "GitState",
    "NoChild",
    "NoTracker",
    "Tracker",
    "dvc_md5s",
    "git_state",
    "open_tracker",
    "serve",
]


def open_tracker(root: Path | str = ".", *, uri: str | None = None, track: bool = True) -> Tracker:
    """Return a tracker on the project's store, or one that does nothing.

    Args:
        root: project folder; the default store is `mlruns/mlflow.db` in it.
        uri: MLflow tracking URI; null: `MLFLOW_TRACKING_URI` where set, else the project's store.
        track: False gives a tracker with the same methods that neither writes nor imports anything.

    A tracking server that does not answer is told in one line, and nothing is logged: what `align` leaves in its
    folder is enough for `report` to log it later.

    Raises:
        InputError: the store was moved here without its artifacts.
    """
    if not track:
        return NoTracker()
    from labelrel.tracking.runs import MlflowTracker
    from labelrel.tracking.store import open_store

    try:
        return MlflowTracker(open_store(uri, root=root))
    except Exception as error:
        from labelrel.tracking.outbox import is_outage, shown_address

        if not is_outage(error):
            raise
        say(f"mlflow: {shown_address(uri or default_uri(root))} does not answer; {LATER}")
        return NoTracker()

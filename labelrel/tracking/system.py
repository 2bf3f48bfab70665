"""Processor, memory, disk, network and, where there is one, graphics card while a run goes on.

MLflow's own monitor asks the store for the run at each sample and gives up when a server does not answer once;
its measuring parts are used here and written like everything else of a run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 10.0
"""Between two samples; `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` says otherwise."""


@contextlib.contextmanager
def system_metrics(write: Callable[..., None]) -> Iterator[None]:
    """Log `system/*` by sample until the block ends.

    Nothing is measured without psutil, or with `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`.

    Args:
        write: takes `points`, triples of metric, step and value.
    """
    wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0")
    if not wanted or importlib.util.find_spec("psutil") is None:
        yield
        return
    monitors, over = _monitors(), threading.Event()
    seconds = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SECONDS)

    def sample() -> None:
        step = 0
        while not over.wait(seconds):
            with contextlib.suppress(Exception):  # the run is worth more than what it costs to measure it
                write(points=[(f"system/{name}", step, value) for name, value in _measured(monitors).items()])
            step += 1

    thread = threading.Thread(target=sample, name="labelrel-system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # no card, or no library that can ask it
        monitors.append(GPUMonitor())
    return monitors


def _measured(monitors: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        found |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return found

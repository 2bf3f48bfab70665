"""Libraries that only one engine needs, imported when it is opened."""

from __future__ import annotations

import importlib
from typing import Any

from labelrel.errors import ConfigError


def optional(module: str, engine: str) -> Any:
    """Return a library that comes with an extra of the same name as its engine.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        lacking = f"the package '{module}'" if error.name == module else f"'{error.name}', which '{module}' imports"
        raise ConfigError(
            f"engine '{engine}' needs {lacking}, which is not installed; pip install 'labelrel[{engine}]'."
        ) from None

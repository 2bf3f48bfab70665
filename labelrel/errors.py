"""The errors a user can cause, told in one line each.

Every `LabelrelError` is the user's mistake: the command line prints it without a traceback and
exits with 2. Anything else that escapes is ours and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LabelrelError(Exception):
    """Base of everything that a user can put right."""


class InputError(LabelrelError):
    """A table or file that cannot be what it is said to be."""


class ConfigError(LabelrelError):
    """A params file or an option with a missing, unknown or impossible value."""


class UnknownNameError(LabelrelError):
    """A name that no registry or table knows."""


class FetchError(LabelrelError):
    """A model that could not be brought here whole."""


def near_match(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def some(ids: Iterable[object], limit: int = 3) -> str:
    """Show at most `limit` ids, so that an error about a million rows stays one line."""
    listed = [str(i) for i in ids]
    return ", ".join(listed[:limit]) + (", …" if len(listed) > limit else "")

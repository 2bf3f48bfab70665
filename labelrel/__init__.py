"""labelrel: estimate how reliable weak labels are, clean them, align a strong model on the rest.

`labelrel.score(frame, methods=[...])` scores any table of answers; the command line does the rest.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "score"]

if TYPE_CHECKING:
    from labelrel.scoring import score


def __getattr__(name: str) -> Any:
    # polars takes a third of a second to import: `labelrel --help` should not pay for it
    if name == "score":
        from labelrel.scoring import score

        return score
    raise AttributeError(f"module 'labelrel' has no attribute '{name}'")

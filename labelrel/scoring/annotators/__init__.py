"""Models of the annotators: who is right how often, and what that says of every answer.

Each file fits one model to the sparse (item, annotator, answer) triples of a whole table, block by
block (`blocks.py`, `table.py`) in a few threads (`lanes.py`), and hands over posteriors (`finish.py`).
"""

from __future__ import annotations

# methods are listed in order of registration
# isort: off
from labelrel.scoring.annotators import majority  # noqa: F401
from labelrel.scoring.annotators import wawa  # noqa: F401
from labelrel.scoring.annotators import dawid_skene  # noqa: F401
from labelrel.scoring.annotators import one_coin  # noqa: F401
from labelrel.scoring.annotators import glad  # noqa: F401
from labelrel.scoring.annotators import mace  # noqa: F401
from labelrel.scoring.annotators import mmsr  # noqa: F401

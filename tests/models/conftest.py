"""What the tests of several model modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def quiet_transformers() -> Iterator[None]:
    """Loading a model silences transformers; give it its voice back for the tests that follow."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(level)
    logging.enable_progress_bar()

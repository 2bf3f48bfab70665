"""Seeds of single queries, for engines that draw in a place of their own."""

from __future__ import annotations

import hashlib

from labelrel.supervise.variants import Query


def derived_seed(seed: int, query: Query) -> int:
    """Return the seed of one query, in [0, 2^31).

    A hash of seed, item and variant: it does not depend on what else is asked, so that a rerun asks
    for the very same.
    """
    key = "\x1f".join([str(seed), str(query.item["item_id"]), query.variant_id]).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1

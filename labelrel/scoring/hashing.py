"""A hash that is the same on every machine, in every version and in every process."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

_FNV_PRIME = np.uint64(0x100000001B3)


def stable_hash(text: pl.Series) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash per text, (N,); polars' own may change with its version.

    A polynomial of the UTF-8 bytes modulo 2^64, stirred by the finaliser of splitmix64 (Steele,
    Lea & Flood 2014). Good for fair draws, not against an adversary.

    Args:
        text: N strings without nulls.
    """
    sizes = text.str.len_bytes().to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    data = np.frombuffer("".join(text).encode(), dtype=np.uint8).astype(np.uint64) + np.uint64(1)
    position = np.arange(data.size) - np.repeat(starts, sizes)
    powers = np.cumprod(np.full(int(sizes.max(initial=0)) + 1, _FNV_PRIME, dtype=np.uint64))
    # sums of a text's bytes as differences of one running sum: unsigned arithmetic wraps, which is the modulus
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(data * powers[position], dtype=np.uint64)])
    mixed = running[ends] - running[starts]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)

"""Which documents are held out for evaluation."""

from __future__ import annotations

import numpy as np

_MASK64 = (1 << 64) - 1


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer (Steele et al., 2014): every input bit changes about half of the output bits."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def holdout(hashes: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """True for the documents that are held out: about `fraction` of the distinct contents.

    hashes (N,) uint64 content hashes. Only a document's content and the seed decide, so duplicates are
    always on the same side, and a document stays on its side when others are added or removed.
    """
    salt = _mix(np.array([(seed * 0x9E3779B97F4A7C15 + 1) & _MASK64], dtype=np.uint64))
    # The top 53 bits are exact in a float in [0, 1).
    uniform = (_mix(hashes.astype(np.uint64) ^ salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform < fraction

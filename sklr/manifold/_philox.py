"""Philox, a random generator without state, for numbers and for arrays of them.

Entry t of column c of a projection is a function of the key, c and t alone. Kernels compile these
functions; NumPy runs them as they stand.
"""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))


def philox(c0, c1, c2, c3, k0, k1):
    """Return four 32-bit words of Philox4x32-10 for a counter and a key (all uint64)."""
    for _ in range(10):
        left = MULTIPLIERS[0] * c0
        right = MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> SHIFT) ^ c1 ^ k0,
            right & MASK,
            (left >> SHIFT) ^ c3 ^ k1,
            left & MASK,
        )
        k0 = (k0 + KEY_STEPS[0]) & MASK
        k1 = (k1 + KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


def uniform(high, low):
    """Return a double in (0, 1] of 53 random bits."""
    whole = (high >> np.uint64(5)) * np.uint64(67108864) + (low >> np.uint64(6))
    return (np.float64(whole) + 1.0) / 9007199254740992.0


def sparse_entries(key, columns, n_rows, density):
    """Return rows and signs of the non-zero entries of columns, and how many each column has.

    Gaps between entries are geometric, so each entry is there with the wanted probability,
    independently of all others. Signs are 1 and 0.
    """
    key, columns = np.uint64(key), columns.astype(np.uint64)[:, None]
    log_keep = np.log1p(-density) if density < 1 else -np.inf
    expected = density * n_rows
    batch = np.arange(int(expected + 3 * np.sqrt(expected)) + 2, dtype=np.uint64)
    rows, signs = np.full((len(columns), 1), -1), np.empty((len(columns), 0), dtype=bool)
    while rows[:, -1].min() < n_rows:
        counter = batch + np.uint64(signs.shape[1])
        a, b, sign, _ = philox(
            counter & MASK, counter >> SHIFT, columns, np.uint64(0), key & MASK, key >> SHIFT
        )
        # The gap is bounded before it becomes an integer.
        gaps = np.minimum(np.log(uniform(a, b)) / log_keep, 2.0 * n_rows).astype(np.int64)
        rows = np.concatenate([rows, rows[:, -1:] + np.cumsum(gaps + 1, axis=1)], axis=1)
        signs = np.concatenate([signs, (sign & np.uint64(1)).astype(bool)], axis=1)
    rows = rows[:, 1:]
    there = rows < n_rows
    return rows[there], signs[there], there.sum(axis=1)

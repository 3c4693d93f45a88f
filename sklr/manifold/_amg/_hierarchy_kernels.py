"""Matching, coarsening and cycles of the bootstrap multigrid: NumPy, SciPy, and three kernels.

Matrices are symmetric CSR with sorted indices and a stored diagonal. Coarse levels of a hierarchy
lie one behind the other in one CSR: rows of all levels in a row, columns counted from the level's
own first row.
"""

import numpy as np
from scipy import sparse

from sklr.utils._compile import njit

_EPS = 2.220446049250313e-16
# Up to so many coarse rows a dense table is quicker than what SciPy does before it begins.
_DENSE = 256


def diagonal_positions(indptr, indices):
    """Return where the diagonal of each row is stored; -1 where it is not."""
    n = len(indptr) - 1
    out = np.full(n, -1, dtype=np.int64)
    places = np.flatnonzero(indices == _row_numbers(indptr))
    out[indices[places]] = places
    return out


def _row_numbers(indptr):
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr))


def edge_weights(indptr, indices, data, diagonal, w):
    """Weights of a maximum product matching, as positive logarithms; 0 on the diagonal.

    ``c = 1 - 2 a_ij w_i w_j / (a_ii w_i^2 + a_jj w_j^2)``, then ``log(|c| / (0.999 min |c|))``.
    Both ends of an edge get the same number to the last bit.
    """
    counts = np.diff(indptr)
    energy = data[diagonal] * (w * w)
    total = np.repeat(energy, counts)
    total += energy[indices]
    out = np.repeat(w, counts)
    out *= w[indices]
    out *= data
    out *= -2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        out /= total
    out += 1.0
    np.abs(out, out=out)
    np.maximum(out, _EPS, out=out)
    out[~(total >= _EPS)] = _EPS
    out[diagonal] = np.inf
    smallest = out.min(initial=np.inf)
    out[diagonal] = 1.0
    np.log(out, out=out)
    out -= np.log(0.999 * smallest)
    out[diagonal] = 0.0
    return out


@njit
def _propose(indptr, indices, weights, mate, suitor, offer):
    """One run of Suitor among vertices without a mate; those who choose each other get it.

    `suitor` comes as -1, `offer` as zeros.
    """
    n = len(mate)
    for start in range(n):
        current = start if mate[start] < 0 else -1
        while current >= 0:
            best, best_weight = -1, 0.0
            for k in range(indptr[current], indptr[current + 1]):
                j, weight = np.int64(indices[k]), weights[k]
                if weight > best_weight and weight > offer[j] and mate[j] < 0 and j != current:
                    best, best_weight = j, weight
            if best < 0:
                break
            displaced = suitor[best]
            suitor[best] = current
            offer[best] = best_weight
            current = displaced
    for i in range(n):
        j = suitor[i]
        if j >= 0 and suitor[j] == i:
            mate[i] = j


def suitor_matching(indptr, indices, weights):
    """Half-approximate maximum weight matching (Suitor); return the mate of each vertex or -1.

    Every vertex proposes to its heaviest neighbour that has no better suitor; who is displaced
    proposes again. Weights are positive. Equal weights can leave vertices whose choice chose
    another: these are matched among themselves, ties broken by numbers, which always succeeds.
    """
    n = len(indptr) - 1
    mate = np.full(n, -1, dtype=np.int64)
    suitor = np.full(n, -1, dtype=np.int64)
    _propose(indptr, indices, weights, mate, suitor, np.zeros(n))
    if np.any((suitor >= 0) & (mate < 0)):
        # The edges that are left weigh their rank, the same at both ends.
        rows = _row_numbers(indptr)
        left = np.flatnonzero((mate[rows] < 0) & (mate[indices] < 0) & (rows != indices))
        i, j = rows[left], indices[left]
        order = np.lexsort((np.minimum(i, j), np.maximum(i, j), weights[left]))
        weights = weights.copy()
        weights[left[order]] = 1 + np.arange(len(left)) // 2
        suitor[:] = -1
        _propose(indptr, indices, weights, mate, suitor, np.zeros(n))
    return mate


def pair_aggregates(mate, w):
    """Aggregate of each vertex (-1: none), its entry of the prolongator, number of aggregates."""
    number = np.arange(len(mate))
    partner = np.where(mate < 0, number, mate)
    alone = partner == number
    size = np.where(alone, np.abs(w), np.hypot(w, w[partner]))
    kept = np.where(alone, size > _EPS, size > 0.0)
    first = kept & (number <= partner)
    aggregate = np.full(len(mate), -1, dtype=np.int32)
    aggregate[first] = np.arange(np.count_nonzero(first))
    aggregate[kept] = aggregate[np.minimum(number, partner)[kept]]
    entry = np.divide(w, size, out=np.zeros(len(w)), where=kept)
    return aggregate, entry, np.count_nonzero(first)


def galerkin(indptr, indices, data, aggregate, entry, n_coarse):
    """Return ``P^T A P`` in CSR, exactly symmetric, without stored zeros."""
    counts = np.diff(indptr)
    i, j = np.repeat(aggregate, counts), aggregate[indices]
    values = np.repeat(entry, counts)
    values *= data
    values *= entry[indices]
    # The lower triangle is the upper one, turned: both ends of an edge weigh the same. Of the
    # diagonal each has half.
    values[i == j] *= 0.5
    kept = np.flatnonzero((i <= j) & (i >= 0))
    i, j, values = i[kept], j[kept], values[kept]
    if n_coarse <= _DENSE:
        out = np.bincount(i * n_coarse + j, values, minlength=n_coarse**2)
        out = out.reshape(n_coarse, n_coarse)
        out = (out + out.T).ravel()
        places = np.flatnonzero(out)
        indptr = np.searchsorted(places, n_coarse * np.arange(n_coarse + 1))
        return indptr, (places % n_coarse).astype(np.int32), out[places]
    upper = sparse.coo_array((values, (i, j)), shape=(n_coarse, n_coarse))
    upper = upper.tocsr()
    out = upper + upper.T.tocsr()
    return out.indptr.astype(np.int64), out.indices.astype(np.int32, copy=False), out.data


def restrict_vector(aggregate, entry, w, n_coarse):
    """Return ``P^T w``."""
    kept = aggregate >= 0
    return np.bincount(aggregate[kept], (entry * w)[kept], minlength=n_coarse)


def compose(aggregate, entry, aggregate_2, entry_2):
    """Write the product of two prolongators into the first."""
    kept = aggregate >= 0
    old = aggregate[kept]
    aggregate[kept] = aggregate_2[old]
    entry[kept] *= np.where(aggregate_2[old] >= 0, entry_2[old], 0.0)


# In the cycles each loop stands once, for all levels: what is written twice is compiled twice.
# Row r of the coarse CSR is row r + n of all levels; `b` and `e` are counted as its rows.


@njit
def homogeneous_cycle(
    indptr, indices, data, diagonal, offsets, c_indptr, c_indices, c_data, c_diagonal,
    aggregate, entry, n_coarse_sweeps, x, upper, b, e,
):  # fmt: skip
    """One V(1,1) cycle for ``A x = 0``, in place.

    `upper` holds the product of the strict upper triangle with `x` before and after: a backward
    sweep computes it on its way, and the forward sweep that follows needs it. A hierarchy of one
    level has no backward sweep: there the caller computes it.
    """
    n = len(x)
    last = len(offsets) - 2
    for step in range(2 * last + 1):
        level = step if step <= last else 2 * last - step
        fine = level == 0
        if fine:
            first, columns, values, middle, y = indptr, indices, data, diagonal, x
            begin, end, shift = 0, n, 0
        else:
            first, columns, values, middle, y = c_indptr, c_indices, c_data, c_diagonal, e
            begin, end, shift = offsets[level] - n, offsets[level + 1] - n, n
        below = offsets[level + 1] - n
        if step > last:
            for r in range(begin, end):
                to = aggregate[shift + r]
                if to >= 0:
                    y[r] += entry[shift + r] * e[below + to]
        elif not fine:
            for r in range(begin, end):
                y[r] = 0.0
        for _ in range(n_coarse_sweeps if step == last else 1):
            for s in range(end - begin):
                r = end - 1 - s if step > last else begin + s
                above = 0.0
                if step >= last:
                    for k in range(middle[r] + 1, first[r + 1]):
                        above += values[k] * y[begin + columns[k]]
                elif fine:
                    above = upper[r]
                total = above
                for k in range(first[r], middle[r]):
                    total += values[k] * y[begin + columns[k]]
                if fine:
                    upper[r] = above
                else:
                    total -= b[r]
                y[r] = -total / values[middle[r]]
        if step < last:
            for r in range(below, offsets[level + 2] - n):
                b[r] = 0.0
            # After a forward sweep the residual is what the upper part has changed by.
            for r in range(begin, end):
                to = aggregate[shift + r]
                if to >= 0:
                    total = upper[r] if fine else 0.0
                    for k in range(middle[r] + 1, first[r + 1]):
                        total -= values[k] * y[begin + columns[k]]
                    b[below + to] += entry[shift + r] * total


@njit
def block_cycle(
    indptr, indices, data, diagonal, offsets, c_indptr, c_indices, c_data, c_diagonal,
    aggregate, entry, n_coarse_sweeps, B, X, b, e, row,
):  # fmt: skip
    """One V(1,1) cycle from zero for several right-hand sides: ``A X = B``, symmetric.

    The columns go through each row together, so that the matrix is read once for all of them.
    On the coarsest level forward and backward sweeps alternate, which keeps the cycle symmetric.
    `b`, `e` and `row` are room for coarse rows and one row.
    """
    n, width = X.shape
    last = len(offsets) - 2
    for step in range(2 * last + 1):
        level = step if step <= last else 2 * last - step
        if level == 0:
            first, columns, values, middle, Y, C = indptr, indices, data, diagonal, X, B
            begin, end, shift = 0, n, 0
        else:
            first, columns, values, middle, Y, C = c_indptr, c_indices, c_data, c_diagonal, e, b
            begin, end, shift = offsets[level] - n, offsets[level + 1] - n, n
        below = offsets[level + 1] - n
        for r in range(begin, end):
            to = aggregate[shift + r] if step > last else -1
            for c in range(width):
                if to >= 0:
                    Y[r, c] += entry[shift + r] * e[below + to, c]
                elif step <= last:
                    Y[r, c] = 0.0
        for sweep in range(n_coarse_sweeps if step == last else 1):
            backward = step > last or (sweep & 1) == 1
            for s in range(end - begin):
                r = end - 1 - s if backward else begin + s
                for c in range(width):
                    row[c] = C[r, c]
                # Forwards from zero only what lies below the diagonal counts.
                for k in range(first[r], middle[r] if step < last else first[r + 1]):
                    if k != middle[r]:
                        value, j = values[k], begin + columns[k]
                        for c in range(width):
                            row[c] -= value * Y[j, c]
                scale = 1.0 / values[middle[r]]
                for c in range(width):
                    Y[r, c] = row[c] * scale
        if step < last:
            for r in range(below, offsets[level + 2] - n):
                for c in range(width):
                    b[r, c] = 0.0
            for r in range(begin, end):
                to = aggregate[shift + r]
                if to >= 0:
                    share = entry[shift + r]
                    for k in range(middle[r] + 1, first[r + 1]):
                        value, j = share * values[k], begin + columns[k]
                        for c in range(width):
                            b[below + to, c] -= value * Y[j, c]


def _warm_up():
    """Compile every kernel on a path of twelve vertices."""
    n = 12
    indptr = np.concatenate((np.array([0]), np.cumsum(np.r_[2, np.full(n - 2, 3), 2]))).astype(
        np.int64
    )
    indices = np.concatenate(
        [np.arange(max(i - 1, 0), min(i + 2, n), dtype=np.int32) for i in range(n)]
    )
    data = np.where(indices == np.repeat(np.arange(n), np.diff(indptr)), 3.0, -1.0)
    diagonal = diagonal_positions(indptr, indices)
    w = np.ones(n)
    mate = suitor_matching(indptr, indices, edge_weights(indptr, indices, data, diagonal, w))
    aggregate, entry, n_coarse = pair_aggregates(mate, w)
    coarse = galerkin(indptr, indices, data, aggregate, entry, n_coarse)
    offsets = np.array([0, n, n + n_coarse], dtype=np.int64)
    aggregate = np.concatenate((aggregate, np.full(n_coarse, -1, np.int32)))
    entry = np.concatenate((entry, np.zeros(n_coarse)))
    hierarchy = (offsets, *coarse, diagonal_positions(*coarse[:2]), aggregate, entry)
    x, upper, b = np.ones(n), np.zeros(n), np.empty(n_coarse)
    homogeneous_cycle(indptr, indices, data, diagonal, *hierarchy, 2, x, upper, b, b.copy())
    B = np.ones((n, 2), np.float32)  # the estimators precondition in single precision
    work, row = np.empty((2, n_coarse, 2), np.float32), np.empty(2, np.float32)
    data, values, entry = (part.astype(np.float32) for part in (data, coarse[2], entry))
    hierarchy = (*hierarchy[:3], values, *hierarchy[4:6], entry)
    block_cycle(indptr, indices, data, diagonal, *hierarchy, 2, B, np.empty_like(B), *work, row)

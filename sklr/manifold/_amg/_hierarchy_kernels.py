"""Matching, coarsening and cycles of the bootstrap multigrid (Numba).

Matrices are symmetric CSR with sorted indices and a stored diagonal. Coarse levels of a hierarchy
lie one behind the other in one CSR: rows of all levels in a row, columns counted from the level's
own first row.
"""

import numpy as np

from sklr.utils._compile import inner, njit

_EPS = 2.220446049250313e-16


def diagonal_positions(indptr, indices):
    """Return where the diagonal of each row is stored; -1 where it is not."""
    n = len(indptr) - 1
    out = np.full(n, -1, dtype=np.int64)
    places = np.flatnonzero(
        indices == np.repeat(np.arange(n, dtype=indices.dtype), np.diff(indptr))
    )
    out[indices[places]] = places
    return out


@njit
def _edge_cosines(indptr, indices, data, diagonal, w, energy, out):
    """Write the |c| of `edge_weights` of each edge; return the smallest."""
    n = len(indptr) - 1
    for i in range(n):
        energy[i] = data[diagonal[i]] * (w[i] * w[i])
    smallest = np.inf
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j == i:
                continue
            total = energy[i] + energy[j]
            c = abs(1.0 - 2.0 * data[k] * (w[i] * w[j]) / total) if total >= _EPS else _EPS
            c = max(c, _EPS)
            out[k] = c
            smallest = min(smallest, c)
    return smallest


def edge_weights(indptr, indices, data, diagonal, w):
    """Weights of a maximum product matching, as positive logarithms; 0 on the diagonal.

    ``c = 1 - 2 a_ij w_i w_j / (a_ii w_i^2 + a_jj w_j^2)``, then ``log(|c| / (0.999 min |c|))``.
    Both ends of an edge get the same number to the last bit.
    """
    out = np.empty(len(data))
    smallest = _edge_cosines(indptr, indices, data, diagonal, w, np.empty(len(w)), out)
    out[diagonal] = 1.0
    np.log(out, out=out)
    out -= np.log(0.999 * smallest)
    out[diagonal] = 0.0
    return out


@inner()
def _comes_first(weight, i, j, other, k, l):  # noqa: E741
    """Whether edge (i, j) goes before edge (k, l): heavier, or as heavy and of higher numbers."""
    if weight != other:
        return weight > other
    first, second = max(i, j), max(k, l)
    if first != second:
        return first > second
    return min(i, j) > min(k, l)


@njit
def _propose(indptr, indices, weights, mate, ordered, suitor, offer):
    """One run of Suitor among vertices without a mate; those who choose each other get it."""
    n = len(mate)
    for i in range(n):
        suitor[i] = -1
        offer[i] = 0.0
    for start in range(n):
        current = start if mate[start] < 0 else -1
        while current >= 0:
            best, best_weight = np.int64(-1), 0.0
            for k in range(indptr[current], indptr[current + 1]):
                j, weight = np.int64(indices[k]), weights[k]
                if j == current or weight < offer[j] or weight < best_weight or mate[j] >= 0:
                    continue
                if weight == offer[j] and (
                    not ordered
                    or suitor[j] < 0
                    or not _comes_first(weight, current, j, offer[j], suitor[j], j)
                ):
                    continue
                if weight == best_weight and (
                    not ordered or not _comes_first(weight, current, j, weight, current, best)
                ):
                    continue
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
    suitor, offer = np.empty(n, dtype=np.int64), np.empty(n)
    _propose(indptr, indices, weights, mate, False, suitor, offer)
    if np.any((suitor >= 0) & (mate < 0)):
        _propose(indptr, indices, weights, mate, True, suitor, offer)
    return mate


def pair_aggregates(mate, w):
    """Aggregate of each vertex (-1: none), its entry of the prolongator, number of aggregates."""
    aggregate, entry = np.empty(len(mate), dtype=np.int32), np.empty(len(mate))
    return aggregate, entry, _pair(mate, w, aggregate, entry)


@njit
def _pair(mate, w, aggregate, entry):
    """Write what `pair_aggregates` returns; return how many there are."""
    n = len(mate)
    for i in range(n):
        aggregate[i] = -1
        entry[i] = 0.0
    count = 0
    for i in range(n):
        j = mate[i]
        if j >= 0:
            if j < i:
                continue
            r = np.hypot(w[i], w[j])
            if r > 0.0:
                aggregate[i] = aggregate[j] = count
                entry[i], entry[j] = w[i] / r, w[j] / r
                count += 1
        elif abs(w[i]) > _EPS:
            aggregate[i] = count
            entry[i] = 1.0 if w[i] > 0 else -1.0
            count += 1
    return count


def galerkin(indptr, indices, data, aggregate, entry, n_coarse):
    """Return ``P^T A P`` in CSR, exactly symmetric, without stored zeros."""
    pointers = np.zeros((4, n_coarse + 1), dtype=np.int64)
    columns = np.empty((2, len(indices)), dtype=np.int32)
    values = np.empty((2, len(indices)))
    rows = np.empty(len(aggregate), dtype=np.int32)
    _galerkin(indptr, indices, data, aggregate, entry, *pointers, rows, *columns, *values)
    kept = pointers[0, -1]
    return pointers[0], columns[1, :kept].copy(), values[1, :kept].copy()


@njit
def _galerkin(
    indptr, indices, data, aggregate, entry, coarse_ptr, first, starts, fill, rows,
    columns, out_columns, values, out_values,
):  # fmt: skip
    """Write the matrix that `galerkin` returns: `coarse_ptr`, `out_columns`, `out_values`.

    `coarse_ptr`, `first` and `starts` come as zeros.
    """
    n = len(indptr) - 1
    n_coarse = len(coarse_ptr) - 1
    # Rows of each aggregate.
    for i in range(n):
        if aggregate[i] >= 0:
            first[aggregate[i] + 1] += 1
    for c in range(n_coarse):
        first[c + 1] += first[c]
    for c in range(n_coarse):
        fill[c] = first[c]
    for i in range(n):
        c = aggregate[i]
        if c >= 0:
            rows[fill[c]] = i
            fill[c] += 1
    # Row by row, columns in order of appearance.
    place = fill
    for c in range(n_coarse):
        place[c] = -1
    count = 0
    for c in range(n_coarse):
        begin = count
        for s in range(first[c], first[c + 1]):
            i = rows[s]
            for k in range(indptr[i], indptr[i + 1]):
                to = aggregate[indices[k]]
                if to < 0:
                    continue
                value = entry[i] * data[k] * entry[indices[k]]
                at = place[to]
                if at >= begin:
                    values[at] += value
                else:
                    place[to] = count
                    columns[count] = to
                    values[count] = value
                    count += 1
        coarse_ptr[c + 1] = count
    # The transpose has sorted rows, and is the same matrix up to rounding.
    for k in range(count):
        starts[columns[k] + 1] += 1
    for c in range(n_coarse):
        starts[c + 1] += starts[c]
    for c in range(n_coarse):
        fill[c] = starts[c]
    for c in range(n_coarse):
        for k in range(coarse_ptr[c], coarse_ptr[c + 1]):
            at = fill[columns[k]]
            out_columns[at] = c
            out_values[at] = values[k]
            fill[columns[k]] += 1
    # The upper triangle is copied to the lower one: both ends of an edge weigh the same.
    for c in range(n_coarse):
        fill[c] = starts[c]
    for c in range(n_coarse):
        for k in range(starts[c], starts[c + 1]):
            j = out_columns[k]
            if j > c:
                out_values[fill[j]] = out_values[k]
                fill[j] += 1
    # Zeros are dropped in place.
    kept = 0
    for c in range(n_coarse):
        begin = kept
        for k in range(starts[c], starts[c + 1]):
            if out_values[k] != 0.0:
                out_columns[kept] = out_columns[k]
                out_values[kept] = out_values[k]
                kept += 1
        coarse_ptr[c] = begin
    coarse_ptr[n_coarse] = kept


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


@njit
def upper_product(indptr, indices, data, diagonal, x, out):
    """Write the product of the strict upper triangle with `x`."""
    for i in range(len(indptr) - 1):
        total = 0.0
        for k in range(diagonal[i] + 1, indptr[i + 1]):
            total += data[k] * x[indices[k]]
        out[i] = total


@njit
def homogeneous_cycle(
    indptr, indices, data, diagonal, offsets, c_indptr, c_indices, c_data, c_diagonal,
    aggregate, entry, n_coarse_sweeps, x, upper, b, e,
):  # fmt: skip
    """One V(1,1) cycle for ``A x = 0``, in place.

    `upper` holds the product of the strict upper triangle with `x` before and after: a backward
    sweep computes it on its way, and the forward sweep that follows needs it.
    """
    n = len(x)
    n_levels = len(offsets) - 1
    if n_levels == 1:
        # The fine matrix is the coarsest.
        for _ in range(n_coarse_sweeps):
            for i in range(n):
                total = 0.0
                for k in range(indptr[i], indptr[i + 1]):
                    if k != diagonal[i]:
                        total += data[k] * x[indices[k]]
                x[i] = -total / data[diagonal[i]]
        for i in range(n):
            upper[i] = 0.0
            for k in range(diagonal[i] + 1, indptr[i + 1]):
                upper[i] += data[k] * x[indices[k]]
        return
    # Forward sweep: the upper part is known.
    for i in range(n):
        total = upper[i]
        for k in range(indptr[i], diagonal[i]):
            total += data[k] * x[indices[k]]
        x[i] = -total / data[diagonal[i]]
    # After it the residual is what the upper part has changed by.
    for i in range(offsets[2] - n):
        b[i] = 0.0
    for i in range(n):
        if aggregate[i] >= 0:
            total = upper[i]
            for k in range(diagonal[i] + 1, indptr[i + 1]):
                total -= data[k] * x[indices[k]]
            b[aggregate[i]] += entry[i] * total
    _coarse_levels(
        n, offsets, c_indptr, c_indices, c_data, c_diagonal, aggregate, entry, n_coarse_sweeps, b, e
    )
    for i in range(n):
        if aggregate[i] >= 0:
            x[i] += entry[i] * e[aggregate[i]]
    for i in range(n - 1, -1, -1):
        above = 0.0
        for k in range(diagonal[i] + 1, indptr[i + 1]):
            above += data[k] * x[indices[k]]
        below = 0.0
        for k in range(indptr[i], diagonal[i]):
            below += data[k] * x[indices[k]]
        upper[i] = above
        x[i] = -(above + below) / data[diagonal[i]]


@inner()
def _coarse_levels(
    n, offsets, indptr, indices, data, diagonal, aggregate, entry, n_coarse_sweeps, b, e
):
    """Solve the coarse equation for the right-hand side in `b`, approximately, into `e`.

    Row r of the coarse CSR is row ``r + n`` of all levels; `b` and `e` are counted as its rows.
    """
    last = len(offsets) - 2
    for level in range(1, last):
        begin, end = offsets[level] - n, offsets[level + 1] - n
        size_below = offsets[level + 2] - offsets[level + 1]
        # Forward sweep from zero: only the lower part counts; the residual is minus the upper.
        for r in range(begin, end):
            total = b[r]
            for k in range(indptr[r], diagonal[r]):
                total -= data[k] * e[begin + indices[k]]
            e[r] = total / data[diagonal[r]]
        for r in range(end, end + size_below):
            b[r] = 0.0
        for r in range(begin, end):
            to = aggregate[n + r]
            if to >= 0:
                total = 0.0
                for k in range(diagonal[r] + 1, indptr[r + 1]):
                    total -= data[k] * e[begin + indices[k]]
                b[end + to] += entry[n + r] * total
    begin, end = offsets[last] - n, offsets[last + 1] - n
    for r in range(begin, end):
        e[r] = 0.0
    for _ in range(n_coarse_sweeps):
        for r in range(begin, end):
            total = b[r]
            for k in range(indptr[r], indptr[r + 1]):
                if k != diagonal[r]:
                    total -= data[k] * e[begin + indices[k]]
            e[r] = total / data[diagonal[r]]
    for level in range(last - 1, 0, -1):
        begin, end = offsets[level] - n, offsets[level + 1] - n
        for r in range(begin, end):
            to = aggregate[n + r]
            if to >= 0:
                e[r] += entry[n + r] * e[end + to]
        for r in range(end - 1, begin - 1, -1):
            total = b[r]
            for k in range(indptr[r], indptr[r + 1]):
                if k != diagonal[r]:
                    total -= data[k] * e[begin + indices[k]]
            e[r] = total / data[diagonal[r]]


@inner()
def _block_sweep(begin, end, backward, from_zero, indptr, indices, data, diagonal, B, X, row):
    """One Gauss-Seidel sweep over rows begin .. end for all columns, which go on from `begin`.

    Forwards from zero only what lies below the diagonal counts.
    """
    width = X.shape[1]
    for step in range(end - begin):
        r = end - 1 - step if backward else begin + step
        for c in range(width):
            row[c] = B[r, c]
        at = diagonal[r]
        for k in range(indptr[r], at if from_zero else indptr[r + 1]):
            if k != at:
                value, j = data[k], begin + indices[k]
                for c in range(width):
                    row[c] -= value * X[j, c]
        scale = 1.0 / data[at]
        for c in range(width):
            X[r, c] = row[c] * scale


@inner()
def _restrict_block(
    shift, begin, end, below, size, indptr, indices, data, diagonal, aggregate, entry, X, out, row
):  # fmt: skip
    """Write the residual after a forward sweep from zero, on the next coarser level.

    That has `size` rows of `out` from `below`. Aggregates and entries are counted from `shift`.
    """
    width = X.shape[1]
    for r in range(below, below + size):
        for c in range(width):
            out[r, c] = 0.0
    for r in range(begin, end):
        to = aggregate[shift + r]
        if to >= 0:
            for c in range(width):
                row[c] = 0.0
            for k in range(diagonal[r] + 1, indptr[r + 1]):
                value, j = data[k], begin + indices[k]
                for c in range(width):
                    row[c] -= value * X[j, c]
            for c in range(width):
                out[below + to, c] += entry[shift + r] * row[c]


@inner()
def _prolong_block(shift, begin, end, below, aggregate, entry, e, X):
    """Add what was found on the next coarser level, whose rows of `e` begin at `below`."""
    for r in range(begin, end):
        to = aggregate[shift + r]
        if to >= 0:
            for c in range(X.shape[1]):
                X[r, c] += entry[shift + r] * e[below + to, c]


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
    n = len(X)
    last = len(offsets) - 2
    # Variables: for constants the functions called would be compiled again.
    no, yes, zero = np.int64(0), np.int64(1), np.int64(0)
    if last == 0:  # the fine matrix is the coarsest
        for i in range(n):
            for c in range(X.shape[1]):
                X[i, c] = 0.0
        for sweep in range(n_coarse_sweeps):
            _block_sweep(zero, n, sweep % 2, no, indptr, indices, data, diagonal, B, X, row)
        return
    size = offsets[2] - offsets[1]
    _block_sweep(zero, n, no, yes, indptr, indices, data, diagonal, B, X, row)
    _restrict_block(
        zero, zero, n, zero, size, indptr, indices, data, diagonal, aggregate, entry, X, b, row
    )
    for level in range(1, last):
        begin, end = offsets[level] - n, offsets[level + 1] - n
        size = offsets[level + 2] - offsets[level + 1]
        _block_sweep(begin, end, no, yes, c_indptr, c_indices, c_data, c_diagonal, b, e, row)
        _restrict_block(
            n, begin, end, end, size, c_indptr, c_indices, c_data, c_diagonal, aggregate, entry,
            e, b, row,
        )  # fmt: skip
    begin, end = offsets[last] - n, offsets[last + 1] - n
    for r in range(begin, end):
        for c in range(X.shape[1]):
            e[r, c] = 0.0
    for sweep in range(n_coarse_sweeps):
        _block_sweep(begin, end, sweep % 2, no, c_indptr, c_indices, c_data, c_diagonal, b, e, row)
    for level in range(last - 1, 0, -1):
        begin, end = offsets[level] - n, offsets[level + 1] - n
        _prolong_block(n, begin, end, end, aggregate, entry, e, e)
        _block_sweep(begin, end, yes, no, c_indptr, c_indices, c_data, c_diagonal, b, e, row)
    _prolong_block(zero, zero, n, zero, aggregate, entry, e, X)
    _block_sweep(zero, n, yes, no, indptr, indices, data, diagonal, B, X, row)


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
    x, upper, b = np.ones(n), np.empty(n), np.empty(n_coarse)
    upper_product(indptr, indices, data, diagonal, x, upper)
    homogeneous_cycle(indptr, indices, data, diagonal, *hierarchy, 2, x, upper, b, b.copy())
    B = np.ones((n, 2), np.float32)  # the estimators precondition in single precision
    work, row = np.empty((2, n_coarse, 2), np.float32), np.empty(2, np.float32)
    data, values, entry = (part.astype(np.float32) for part in (data, coarse[2], entry))
    hierarchy = (*hierarchy[:3], values, *hierarchy[4:6], entry)
    block_cycle(indptr, indices, data, diagonal, *hierarchy, 2, B, np.empty_like(B), *work, row)

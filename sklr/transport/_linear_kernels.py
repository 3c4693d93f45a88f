"""Linear systems of the Newton step: products and incomplete factors (Numba).

The matrix is ``diag(d) - S' diag(inv_a) S`` with the kept entries S of the plan by rows; it is an
M-matrix with small off-diagonal sums, so that its incomplete factors exist.
"""

import numpy as np

from sklr.utils._compile import njit


@njit(fastmath={"contract"})
def schur_product(indptr, indices, values, inv_a, x, out):
    """Add ``S' diag(inv_a) S x`` to `out`: one walk through the entries of S.

    `indptr` may begin at any row: threads take chunks of rows.
    """
    for i in range(inv_a.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        s0 = s1 = s2 = s3 = 0.0
        whole = stop - (stop - start & 3)
        for k in range(start, whole, 4):
            s0 += values[k] * x[indices[k]]
            s1 += values[k + 1] * x[indices[k + 1]]
            s2 += values[k + 2] * x[indices[k + 2]]
            s3 += values[k + 3] * x[indices[k + 3]]
        for k in range(whole, stop):
            s0 += values[k] * x[indices[k]]
        total = ((s0 + s1) + (s2 + s3)) * inv_a[i]
        for k in range(start, stop):
            out[indices[k]] += values[k] * total


@njit
def _sort(rows, n_rows):
    """Sort the first numbers in place (Shell; compiling NumPy's sort would take a second)."""
    gap = 1
    while gap < n_rows // 3:
        gap = 3 * gap + 1
    while gap >= 1:
        for k in range(gap, n_rows):
            value = rows[k]
            place = k
            while place >= gap and rows[place - gap] > value:
                rows[place] = rows[place - gap]
                place -= gap
            rows[place] = value
        gap //= 3


@njit
def incomplete_cholesky(
    indptr, indices, weights, excess, drop, pivots, l_indptr, l_indices, l_values, work, room
):
    """Factor ``diag(excess) + Laplacian(weights)``, nearly ``(I - L) diag(pivots) (I - L')``.

    Column by column. Pivots are sums of positive numbers and never differences, so that clusters
    that hang together by next to nothing keep their small pivots to full precision. A link below
    `drop` times the pivot is cut, and both its ends are tied to zero instead.

    Parameters
    ----------
    indptr, indices, weights : ndarray
        Links below the diagonal by columns.
    excess : ndarray of shape (n,)
        Row sums of the matrix, positive; overwritten.
    drop : float
        Relative size below which links are cut.
    pivots : ndarray of shape (n,)
        Pivots, written.
    l_indptr, l_indices, l_values : ndarray
        Factor without its unit diagonal by columns, written.
    work, room : ndarray of shape (n,) and (5, n)
        Room: numbers, and indices.

    Returns
    -------
    enough : bool
        Whether the factor found room in `l_values`.
    """
    n = excess.shape[0]
    marked, rows = room[0], room[1]
    place = room[2]  # next row of each finished column
    head, chain = room[3], room[4]  # columns whose next row is this one, as a chain
    for j in range(n):
        marked[j] = head[j] = -1
    size = 0
    l_indptr[0] = 0
    for j in range(n):
        # Not counted up from a constant 0, for which `_sort` would be compiled once more.
        n_rows = indptr[j + 1] - indptr[j]
        for k in range(n_rows):
            i = indices[indptr[j] + k]
            work[i] = weights[indptr[j] + k]
            marked[i] = j
            rows[k] = i
        column = head[j]
        while column >= 0:
            following = chain[column]
            start, stop = place[column], l_indptr[column + 1]
            factor = l_values[start] * pivots[column]
            for k in range(start + 1, stop):
                i = l_indices[k]
                if marked[i] != j:
                    marked[i] = j
                    work[i] = 0.0
                    rows[n_rows] = i
                    n_rows += 1
                work[i] += l_values[k] * factor
            place[column] = start + 1
            if start + 1 < stop:
                i = l_indices[start + 1]
                chain[column] = head[i]
                head[i] = column
            column = following
        pivot = excess[j]
        for k in range(n_rows):
            pivot += work[rows[k]]
        pivots[j] = pivot
        if size + n_rows > l_values.shape[0]:
            return False
        _sort(rows, n_rows)
        begin = size
        own = excess[j]
        for k in range(n_rows):
            if work[rows[k]] <= drop * pivot:
                own += work[rows[k]]
        for k in range(n_rows):
            i = rows[k]
            if work[i] > drop * pivot:
                l_indices[size] = i
                l_values[size] = work[i] / pivot
                excess[i] += l_values[size] * own
                size += 1
            else:
                excess[i] += work[i]
        l_indptr[j + 1] = size
        if begin < size:
            place[j] = begin
            i = l_indices[begin]
            chain[j] = head[i]
            head[i] = j
    return True


@njit
def factor_solve(indptr, indices, values, pivots, x):
    """Solve ``(I - L) diag(pivots) (I - L') x = x`` in place."""
    n = pivots.shape[0]
    for j in range(n):
        for k in range(indptr[j], indptr[j + 1]):
            x[indices[k]] += values[k] * x[j]
    for j in range(n - 1, -1, -1):
        total = x[j] / pivots[j]
        for k in range(indptr[j], indptr[j + 1]):
            total += values[k] * x[indices[k]]
        x[j] = total


def _warm_up():
    indptr, indices = np.array([0, 2, 4]), np.array([0, 1, 0, 1], dtype=np.int32)
    values, inv_a = np.full(4, 0.25), np.full(2, 2.0)
    d, x = np.full(2, 0.6), np.zeros(2)
    schur_product(indptr, indices, values, inv_a, d, x)
    links = np.array([0, 1, 1]), np.array([1], dtype=np.int32), np.array([0.5])
    factor = np.zeros(3, dtype=np.int64), np.empty(1, dtype=np.int32), np.empty(1)
    incomplete_cholesky(*links, np.ones(2), 1e-3, d, *factor, x, np.empty((5, 2), np.int64))
    factor_solve(*factor, d, x)

"""Bootstrap algebraic multigrid: hierarchies that learn the smooth vectors of a matrix."""

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from sklr.utils._progress import progress

#: Sizes of the method: see Hierarchy.
MAX_COARSE = 10
MAX_LEVELS = 39
COARSE_SWEEPS = 20
# A sweep that shrinks by less than this makes a hierarchy content with a larger coarsest level.
SLOW_COARSENING = 1.2
_SMALLEST_NORM = 1e-290


class FineMatrix:
    """A symmetric positive definite CSR with the arrays that the kernels take."""

    def __init__(self, matrix: sparse.csr_array):
        from sklr.manifold._amg._hierarchy_kernels import diagonal_positions

        self.matrix = matrix
        self.n = matrix.shape[0]
        indptr = matrix.indptr.astype(np.int64)
        indices = matrix.indices.astype(np.int32, copy=False)
        self.arrays = (indptr, indices, matrix.data, diagonal_positions(indptr, indices))

    @functools.cached_property
    def upper(self) -> sparse.csr_array:
        """The strict upper triangle."""
        return sparse.triu(self.matrix, 1, format="csr")

    def norm(self, x: np.ndarray) -> float:
        """Return the energy norm of a vector."""
        return float(np.sqrt(np.dot(x, self.matrix @ x)))


class Hierarchy:
    """Unsmoothed aggregation by matching, compatible with one smooth vector.

    Each level is `n_sweeps` matchings: pairs of vertices that the vector couples most strongly.
    Every vertex belongs to one aggregate at most, so that a prolongator is an array of aggregates
    and one of entries.

    Parameters
    ----------
    fine : FineMatrix
        The matrix.
    vector : ndarray of shape (n,)
        The smooth vector, which the hierarchy represents exactly.
    n_sweeps : int
        Matchings a level.
    """

    def __init__(self, fine: FineMatrix, vector: np.ndarray, n_sweeps: int = 2):
        from sklr.manifold._amg import _hierarchy_kernels as kernels

        level, w = fine.arrays, np.ascontiguousarray(vector, dtype=np.float64)
        sizes, aggregates, entries, coarse = [fine.n], [], [], []
        largest = MAX_COARSE
        while len(sizes) < MAX_LEVELS and sizes[-1] > largest:
            aggregate = entry = None
            n = sizes[-1]
            for _ in range(n_sweeps):
                weights = kernels.edge_weights(*level, w)
                mate = kernels.suitor_matching(level[0], level[1], weights)
                one, value, n_coarse = kernels.pair_aggregates(mate, w)
                if n_coarse in (0, len(w)):
                    break
                if n_coarse * SLOW_COARSENING >= len(w):
                    largest = 100 * MAX_COARSE
                matrix = kernels.galerkin(*level[:3], one, value, n_coarse)
                level = (*matrix, kernels.diagonal_positions(*matrix[:2]))
                w = kernels.restrict_vector(one, value, w, n_coarse)
                if aggregate is None:
                    aggregate, entry = one, value
                else:
                    kernels.compose(aggregate, entry, one, value)
                if n_coarse <= MAX_COARSE:
                    break
            if aggregate is None:
                break
            sizes.append(len(w))
            aggregates.append(aggregate)
            entries.append(entry)
            coarse.append(level)
            assert len(w) < n
        self._pack(sizes, aggregates, entries, coarse)

    def _pack(self, sizes, aggregates, entries, coarse):
        n_last = sizes[-1]
        self.offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        filler = np.full(n_last, -1, dtype=np.int32), np.zeros(n_last)
        self.aggregate = np.concatenate([*aggregates, filler[0]])
        self.entry = np.concatenate([*entries, filler[1]])
        starts = np.concatenate(([0], np.cumsum([len(level[1]) for level in coarse]))).astype(
            np.int64
        )
        pointers = [level[0][:-1] + start for level, start in zip(coarse, starts)]
        self.indptr = np.concatenate([*pointers, starts[-1:]])
        empty = np.empty(0, dtype=np.int32), np.empty(0), np.empty(0, dtype=np.int64)
        self.indices = np.concatenate([level[1] for level in coarse] or [empty[0]])
        self.data = np.concatenate([level[2] for level in coarse] or [empty[1]])
        places = [level[3] + start for level, start in zip(coarse, starts)]
        self.diagonal = np.concatenate(places or [empty[2]])

    def shifted(self, shift: float) -> "Hierarchy":
        """Return the hierarchy of the matrix plus `shift` times the identity.

        Columns of prolongators are orthonormal, so the shift is the same on every level.
        """
        out = object.__new__(Hierarchy)
        out.__dict__.update(self.__dict__)
        out.data = self.data.copy()
        out.data[self.diagonal] += shift
        return out

    @property
    def arrays(self):
        """What the kernels take after the fine matrix."""
        return (
            self.offsets, self.indptr, self.indices, self.data, self.diagonal, self.aggregate,
            self.entry,
        )  # fmt: skip

    @property
    def n_levels(self) -> int:
        """Number of levels, the finest one included."""
        return len(self.offsets) - 1

    @property
    def n_coarse_rows(self) -> int:
        """Rows of all coarse levels together."""
        return int(self.offsets[-1] - self.offsets[1])

    def prolongator(self, level: int) -> sparse.csr_array:
        """Return the prolongator from `level` + 1 to `level`."""
        begin, end = self.offsets[level], self.offsets[level + 1]
        aggregate, entry = self.aggregate[begin:end], self.entry[begin:end]
        kept = aggregate >= 0
        indptr = np.concatenate(([0], np.cumsum(kept))).astype(np.int32)
        shape = (int(end - begin), int(self.offsets[level + 2] - end))
        return sparse.csr_array((entry[kept], aggregate[kept], indptr), shape=shape)

    def matrix(self, level: int) -> sparse.csr_array:
        """Return the matrix of a coarse level, from 1."""
        first = self.offsets[1]
        begin, end = self.offsets[level] - first, self.offsets[level + 1] - first
        indptr = self.indptr[begin : end + 1]
        inside = slice(int(indptr[0]), int(indptr[-1]))
        n = int(end - begin)
        return sparse.csr_array(
            (self.data[inside], self.indices[inside], (indptr - indptr[0]).astype(np.int32)),
            shape=(n, n),
        )


def _with_dtype(arrays, places, dtype):
    return tuple(
        array.astype(dtype, copy=False) if place in places else array
        for place, array in enumerate(arrays)
    )


def block_preconditioner(fine: FineMatrix, hierarchies: list[Hierarchy], dtype=np.float32):
    """Return a function that applies one cycle of each hierarchy, and back, to a block.

    With one hierarchy it is its cycle. With more they are composed symmetrically, first to last
    and last to first, so that the result is a symmetric positive definite preconditioner. Single
    precision is enough for a correction, and halves what goes through memory.
    """
    from sklr.manifold._amg._hierarchy_kernels import block_cycle

    matrix = _with_dtype(fine.arrays, (2,), dtype)
    levels = [_with_dtype(h.arrays, (3, 6), dtype) for h in hierarchies]
    order = [*levels, *levels[-2::-1]]
    rows = max(max(h.n_coarse_rows for h in hierarchies), 1)

    def cycle(level, B):
        X = np.empty_like(B)
        work = np.empty((2, rows, B.shape[1]), dtype=B.dtype)
        row = np.empty(B.shape[1], dtype=B.dtype)
        block_cycle(*matrix, *level, COARSE_SWEEPS, B, X, *work, row)
        return X

    def apply(B):
        X = cycle(order[0], np.ascontiguousarray(B, dtype=dtype)).astype(np.float64)
        for level in order[1:]:
            X += cycle(level, np.ascontiguousarray(B - fine.matrix @ X, dtype=dtype))
        return X

    return apply


@dataclass
class BootstrapResult:
    """What :func:`bootstrap` found."""

    vectors: np.ndarray
    rates: np.ndarray
    hierarchies: list[Hierarchy] = field(repr=False)
    operator_complexity: float


def bootstrap(
    fine: FineMatrix,
    *,
    max_hierarchies: int,
    tol: float,
    n_inner_iter: int,
    n_sweeps: int,
    composition: str,
    rng: Any,
    verbose: int = 0,
) -> BootstrapResult:
    """Build hierarchies one after the other, each for the vector that those before leave behind.

    Parameters
    ----------
    fine : FineMatrix
        The matrix.
    max_hierarchies : int
        Hierarchies built at most.
    tol : float
        Stop when a composite cycle shrinks the energy norm by this.
    n_inner_iter : int
        Composite cycles from each random start.
    n_sweeps : int
        Matchings a level.
    composition : {"multiplicative", "symmetric", "additive"}
        How the hierarchies' cycles make a composite one.
    rng : numpy.random.RandomState
        Random starts.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    result : BootstrapResult
        Vectors (the first is constant, others have energy norm 1), rates, hierarchies, and the
        mean over hierarchies of their stored entries by those of the matrix.
    """
    vectors, rates, hierarchies = [np.ones(fine.n)], [], []
    stored = 0
    for _ in progress(
        range(max_hierarchies),
        total=max_hierarchies,
        description="bootstrap",
        verbose=verbose,
    ):
        hierarchies.append(Hierarchy(fine, vectors[-1], n_sweeps))
        stored += len(hierarchies[-1].data)
        x = rng.uniform(-1.0, 1.0, fine.n)
        rate = _relax(fine, hierarchies, x, n_inner_iter, composition)
        rates.append(rate)
        vectors.append(x)
        if rate <= tol:
            break
    return BootstrapResult(
        np.stack(vectors, axis=1),
        np.array(rates),
        hierarchies,
        1.0 + stored / (len(hierarchies) * max(fine.matrix.nnz, 1)),
    )


def _relax(fine, hierarchies, x, n_iter, composition):
    """Apply composite cycles to `x` in place, leave it with energy norm 1; return the last rate.

    The iteration is linear: the vector is scaled to norm 1 after each cycle, so that a fast
    composite does not underflow.
    """
    rows = max(h.n_coarse_rows for h in hierarchies)
    work = np.empty(max(rows, 1)), np.empty(max(rows, 1))
    upper = fine.upper @ x
    diagonal = fine.matrix.data[fine.arrays[3]]
    norm = fine.norm(x)
    rate = 1.0
    if norm > 0:
        x /= norm
        upper /= norm
    last = x.copy()
    for _ in range(n_iter):
        composite_cycle(fine, hierarchies, x, upper, work, composition)
        # x^T A x from what the backward sweep left; rounding may spoil it near zero.
        rate = float(np.sqrt(max(np.dot(x, 2.0 * upper + diagonal * x), 0.0)))
        if not rate > _SMALLEST_NORM:
            x[:] = last
            return 0.0
        x /= rate
        upper /= rate
        last[:] = x
    x /= fine.norm(x)
    return rate


def composite_cycle(fine, hierarchies, x, upper, work, composition):
    """Apply one cycle of every hierarchy to ``A x = 0``, in place."""
    if composition == "additive":
        start, start_upper = x.copy(), upper.copy()
        total, total_upper = np.zeros_like(x), np.zeros_like(x)
        for hierarchy in hierarchies:
            x[:], upper[:] = start, start_upper
            _cycle(fine, hierarchy, x, upper, work)
            total += x
            total_upper += upper
        np.divide(total, len(hierarchies), out=x)
        np.divide(total_upper, len(hierarchies), out=upper)
        return
    order = hierarchies if composition == "multiplicative" else [*hierarchies, *hierarchies[::-1]]
    for hierarchy in order:
        _cycle(fine, hierarchy, x, upper, work)


def _cycle(fine, hierarchy, x, upper, work):
    from sklr.manifold._amg._hierarchy_kernels import homogeneous_cycle

    homogeneous_cycle(*fine.arrays, *hierarchy.arrays, COARSE_SWEEPS, x, upper, *work)
    if hierarchy.n_levels == 1:
        upper[:] = fine.upper @ x


def as_multilevel_solver(matrix: sparse.csr_array, hierarchy: Hierarchy) -> Any:
    """Return a hierarchy as PyAMG's solver: same levels, same smoothers.

    On the coarsest level forward and backward sweeps alternate, so that
    ``aspreconditioner()`` is symmetric and conjugate gradients may use it.
    """
    from pyamg.multilevel import MultilevelSolver
    from pyamg.relaxation.smoothing import change_smoothers

    levels = []
    for number in range(hierarchy.n_levels):
        level = MultilevelSolver.Level()
        level.A = _as_matrix(matrix if number == 0 else hierarchy.matrix(number))
        if number < hierarchy.n_levels - 1:
            level.P = _as_matrix(hierarchy.prolongator(number))
            level.R = level.P.T.tocsr()
        levels.append(level)
    coarse = ("gauss_seidel", {"sweep": "symmetric", "iterations": COARSE_SWEEPS // 2})
    solver = MultilevelSolver(levels, coarse_solver=coarse)
    change_smoothers(
        solver,
        presmoother=("gauss_seidel", {"sweep": "forward", "iterations": 1}),
        postsmoother=("gauss_seidel", {"sweep": "backward", "iterations": 1}),
    )
    return solver


def _as_matrix(array):
    """Return a sparse array in the older class that PyAMG's kernels take, sharing memory."""
    out = sparse.csr_matrix(array.shape, dtype=array.dtype)
    out.data, out.indices, out.indptr = array.data, array.indices, array.indptr
    out.has_sorted_indices = True
    return out

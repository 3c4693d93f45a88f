"""Entropic transport between two weighted sets: the functions that users call."""

from sklr.transport import _problem
from sklr.transport._options import check_count, check_options, check_positive
from sklr.utils._threads import ChunkThreads, single_blas_thread


def _run(a, b, C, reg, options, metric, relative, init, sparse, max_dense, n_jobs, solver, verbose):
    reg = check_positive(reg, "reg")
    max_dense = check_count(max_dense, "max_dense", 0)
    with ChunkThreads(n_jobs) as threads, single_blas_thread():
        cost = _problem.make_cost(C, metric, max_dense, threads.map)
        problem = _problem.make_problem(a, b, cost, reg, relative)
        state = _problem.solve(problem, options, init, solver=solver, verbose=verbose)
        return _problem.make_result(problem, state, options.tol, sparse)


def sinkhorn_newton(
    a,
    b,
    C,
    reg,
    *,
    metric="sqeuclidean",
    relative=False,
    n_warmup="auto",
    annealing="auto",
    max_iter=100,
    tol=1e-9,
    sparsify="adaptive",
    density=None,
    init=None,
    return_sparse=False,
    max_dense=_problem.MAX_DENSE,
    n_jobs=None,
    verbose=0,
):
    r"""Entropic optimal transport by Sinkhorn sweeps and sparse Newton steps.

    Minimises ``<C, P> + reg * sum(P * (log(P) - 1))`` over the plans P with row sums `a` and column
    sums `b`, to high accuracy also where `reg` is so small that Sinkhorn's iteration needs many
    thousands of sweeps or underflows.

    Parameters
    ----------
    a : array-like of shape (n,) or None
        Weights of the rows, not negative. None is uniform.
    b : array-like of shape (m,) or None
        Weights of the columns, with the sum of `a` (a relative difference of 1e-6 is evened out).
    C : array-like or sparse array of shape (n, m), or tuple (X, Y)
        Costs. Of a sparse array only stored entries (zeros among them) may carry mass. A tuple of
        points (n, d) and (m, d) stands for the distances between them.
    reg : float
        Regularisation, in units of the cost.
    metric : str or callable, default="sqeuclidean"
        Distance between points, where `C` is a tuple: "sqeuclidean", "euclidean", "cityblock", or
        what :func:`sklearn.metrics.pairwise_distances` takes.
    relative : bool, default=False
        Whether `reg` is a fraction of the range of the costs (largest minus smallest).
    n_warmup : int or "auto", default="auto"
        Sinkhorn sweeps at each regularisation before Newton steps. "auto" takes a few, and as many
        as needed where sweeps alone get to `tol` quickly.
    annealing : float, "auto" or None, default="auto"
        Factor by which the regularisation falls from stage to stage (epsilon scaling), from 2 % of
        the range of costs down to `reg`, each stage started from the potentials of the one before.
        "auto" is 4, and one stage where `reg` is above 1 % of the range. None is one stage: the
        algorithm of the paper.
    max_iter : int, default=100
        Most Newton steps, over all stages together.
    tol : float, default=1e-9
        Sum of the absolute errors of both marginals, as a part of the total mass.
    sparsify : {"adaptive", "topk"}, default="adaptive"
        Entries of the plan that a Newton step keeps: those above the marginal error divided by
        ``n * m``, or the largest `density` of all (the paper's rule).
    density : float, default=None
        Share of entries kept by ``sparsify="topk"``; the paper takes 2 / n, and 15 / n for L1
        costs.
    init : tuple of array-like, default=None
        Potentials (x, y) in units of the cost to start from, as a result holds them. Turns off
        annealing.
    return_sparse : bool, default=False
        Whether the plan comes as a CSR array without entries below ``1e-12 / (n * m)``.
    max_dense : int, default=2**25
        Entries up to which costs between points are stored as a matrix. Above, they are computed
        in blocks in each pass, and the plan is sparse.
    n_jobs : int, default=None
        Threads. Results do not depend on it.
    verbose : int, default=0
        Whether to print a line for each stage.

    Returns
    -------
    result : TransportResult
        Plan, potentials, value, gradients and what it took.

    Raises
    ------
    ValueError, TypeError
        Weights that are negative, of unequal sums or of the wrong shape; costs that are not
        finite; parameters out of range.

    Warns
    -----
    ConvergenceWarning
        The marginal error that was reached, if it is not below `tol`.

    See Also
    --------
    sinkhorn : Sinkhorn's iteration alone.
    ot.emd : POT's exact transport without regularisation: quicker for densities on a line with
        costs ``|x - y|``, and at some hundreds of points wherever no entropy is wanted.
    ot.sinkhorn : POT's Sinkhorn iteration.

    Notes
    -----
    A step costs one or two passes of exponentials over the costs and conjugate gradients on the
    kept entries. Memory beyond `C` is the kept entries (at most 1.5 n m doubles, a third of that
    above 2^25 entries) and the plan.

    References
    ----------
    .. [1] X. Tang, M. Shavlovsky, H. Rahmanian, E. Tardini, K. K. Thekumparampil, T. Xiao, L. Ying,
       "Accelerating Sinkhorn algorithm with sparse Newton iterations", ICLR 2024.
       https://arxiv.org/abs/2401.12253

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import sinkhorn_newton
    >>> C = np.random.default_rng(0).random((50, 50))
    >>> result = sinkhorn_newton(None, None, C, reg=1e-3)
    >>> result.converged, result.n_newton < 20
    (True, True)
    >>> bool(abs(result.plan.sum(axis=0) - 1 / 50).sum() < 1e-9)
    True
    """
    options = check_options(n_warmup, annealing, max_iter, tol, sparsify, density, 0)
    return _run(
        a, b, C, reg, options, metric, relative, init, return_sparse, max_dense, n_jobs,
        "sinkhorn-newton", verbose,
    )  # fmt: skip


def sinkhorn(
    a,
    b,
    C,
    reg,
    *,
    metric="sqeuclidean",
    relative=False,
    max_iter=10_000,
    tol=1e-9,
    init=None,
    return_sparse=False,
    max_dense=_problem.MAX_DENSE,
    n_jobs=None,
    verbose=0,
):
    """Entropic optimal transport by Sinkhorn's iteration alone, stabilised.

    Solves what :func:`sinkhorn_newton` solves. Fine where `reg` is large; for comparison where it
    is small.

    Parameters
    ----------
    a : array-like of shape (n,) or None
        Weights of the rows, not negative. None is uniform.
    b : array-like of shape (m,) or None
        Weights of the columns, with the sum of `a`.
    C : array-like or sparse array of shape (n, m), or tuple (X, Y)
        Costs, or points whose distances are the costs.
    reg : float
        Regularisation, in units of the cost.
    metric : str or callable, default="sqeuclidean"
        Distance between points, where `C` is a tuple.
    relative : bool, default=False
        Whether `reg` is a fraction of the range of the costs.
    max_iter : int, default=10000
        Most sweeps.
    tol : float, default=1e-9
        Sum of the absolute errors of both marginals, as a part of the total mass.
    init : tuple of array-like, default=None
        Potentials (x, y) in units of the cost to start from.
    return_sparse : bool, default=False
        Whether the plan comes as a CSR array without entries below ``1e-12 / (n * m)``.
    max_dense : int, default=2**25
        Entries up to which costs between points are stored as a matrix.
    n_jobs : int, default=None
        Threads. Results do not depend on it.
    verbose : int, default=0
        Whether to print what was reached.

    Returns
    -------
    result : TransportResult
        Plan, potentials, value, gradients and what it took.

    Raises
    ------
    ValueError, TypeError
        As :func:`sinkhorn_newton`.

    Warns
    -----
    ConvergenceWarning
        The marginal error that was reached, if it is not below `tol`.

    See Also
    --------
    sinkhorn_newton : Newton steps where sweeps are slow.
    ot.sinkhorn : POT's Sinkhorn iteration.

    Notes
    -----
    A sweep is one walk through a stored kernel. Scalings are absorbed into the potentials before
    they overflow, so that no `reg` gives NaN.

    References
    ----------
    .. [1] M. Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS
       2013. https://arxiv.org/abs/1306.0895
    .. [2] B. Schmitzer, "Stabilized sparse scaling algorithms for entropy regularized transport
       problems", SIAM J. Sci. Comput. 41(3), 2019. https://arxiv.org/abs/1610.06519

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import sinkhorn
    >>> C = np.random.default_rng(0).random((50, 50))
    >>> sinkhorn(None, None, C, reg=0.1).converged
    True
    """
    options = check_options("auto", None, max_iter, tol, "adaptive", None, 0)
    return _run(
        a, b, C, reg, options, metric, relative, init, return_sparse, max_dense, n_jobs,
        "sinkhorn", verbose,
    )  # fmt: skip

"""Domain adaptation by entropic transport, as a transformer."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.transport import _problem
from sklr.transport._cost import PointCost
from sklr.transport._distances import sinkhorn_divergence
from sklr.transport._options import Options, check_positive
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._threads import ChunkThreads, single_blas_thread
from sklr.utils._validation import check_sample_weight, validate_data


def _check_domain(sample_domain, n_samples):
    """Return which samples are of the source, and which of the target."""
    domain = np.asarray(sample_domain)
    if domain.shape != (n_samples,):
        raise ValueError(
            f"sample_domain must have shape ({n_samples},), one number a sample, got "
            f"{domain.shape}."
        )
    if domain.dtype.kind not in "iuf" or not np.isfinite(domain).all() or (domain == 0).any():
        raise ValueError(
            "sample_domain must be positive for samples of the source and negative for samples of "
            f"the target; it has the values {np.unique(domain)[:5].tolist()}."
        )
    return domain > 0, domain < 0


def _barycentres(X, support, potential, reg, metric, values, run):
    """Return the mean of `values` under weights like exp((potential_j - c(x, z_j)) / reg)."""
    kept = np.isfinite(potential)
    support, values, scaled = support[kept], values[kept], potential[kept] / reg
    cost = PointCost(np.array(X), support, metric, run)
    out = np.empty((len(X), values.shape[1]))

    def work(rows):
        W = cost.block(rows) * (-1.0 / reg)
        if not np.isfinite(W).all():
            raise ValueError(
                "The costs between X and the fitted samples contain NaN or infinity: samples are "
                "too far away, or the metric is not defined for them."
            )
        W += scaled
        W -= W.max(axis=1, keepdims=True)
        np.exp(W, out=W)
        total = W.sum(axis=1, keepdims=True)
        out[rows] = (W @ values) / total

    for _ in run(work, cost.chunks):
        pass
    return out


class EntropicTransport(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Map samples of one domain onto another by entropic optimal transport.

    Learns the transport plan between a source and a target, without labels, and maps each sample
    to the mean of the target under the plan. The map comes from the potentials, so that it holds
    for new samples too.

    Parameters
    ----------
    reg : float, default=0.1
        Regularisation, as a fraction of the scale of the costs that `cost_norm` takes. Small
        values map onto single target samples, large ones onto the target's mean.
    metric : str or callable, default="sqeuclidean"
        Cost between samples: "sqeuclidean", "euclidean", "cityblock", or what
        :func:`sklearn.metrics.pairwise_distances` takes.
    cost_norm : {"target", "mean", "max"} or None, default="target"
        Scale of the costs that `reg` refers to: the median cost within the target, the mean cost
        between the domains, the largest, or one. Outliers, and how far apart the domains are, have
        no say in the first.
    solver : {"auto", "sinkhorn-newton", "sinkhorn"}, default="sinkhorn-newton"
        Newton steps or plain sweeps. "auto" begins with `max_iter` sweeps where `reg` is at least
        5 % of the range of costs, which mostly do.
    tol : float, default=1e-9
        Sum of the absolute errors of both marginals.
    max_iter : int, default=100
        Most Newton steps; a hundred times as many sweeps with ``solver="sinkhorn"``.
    n_warmup : int or "auto", default="auto"
        Sinkhorn sweeps before Newton steps.
    n_jobs : int, default=None
        Threads. Results do not depend on it.
    verbose : int, default=0
        Whether to print a line for each stage of annealing.

    Attributes
    ----------
    plan_ : ndarray or csr_array of shape (n_source, n_target)
        The plan, of mass one; sparse above 2**25 entries.
    potentials_ : tuple of ndarray
        Potentials of source and target samples, in units of the cost; minus infinity for samples
        of weight zero.
    cost_ : float
        Transport cost of the plan, ``<C, P>``.
    cost_scale_ : float
        Scale of the costs.
    reg_ : float
        Regularisation in units of the cost.
    source_ : ndarray of shape (n_source, n_features)
        Source samples.
    target_ : ndarray of shape (n_target, n_features)
        Target samples.
    n_iter_ : int
        Sweeps and Newton steps.
    marginal_error_ : float
        Error that was reached.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only when `X` has names.

    See Also
    --------
    sinkhorn_newton : The solver.
    ot.da.SinkhornTransport : POT's transformer; by default it maps new samples in the same way.
    skada.SinkhornMapping : Domain adaptation in pipelines with skada's own router.

    Notes
    -----
    The target is given in one of two ways. `sample_domain` (positive for source, negative for
    target samples, as in skada) goes with the samples through the splits of cross-validation. An
    `X_target` is passed whole; but when it has as many rows as `X`, cross-validation takes it for
    something that belongs to the samples and splits it. Without either, `fit` refuses. Both, and
    `sample_weight`, are passed through pipelines by metadata routing::

        sklearn.set_config(enable_metadata_routing=True)
        mapping = EntropicTransport().set_fit_request(sample_domain=True)
        mapping.set_transform_request(sample_domain=True)

    References
    ----------
    .. [1] X. Tang et al., "Accelerating Sinkhorn algorithm with sparse Newton iterations", ICLR
       2024. https://arxiv.org/abs/2401.12253
    .. [2] N. Courty, R. Flamary, D. Tuia, A. Rakotomamonjy, "Optimal transport for domain
       adaptation", IEEE Trans. PAMI 39(9), 2017. https://arxiv.org/abs/1507.00504
    .. [3] A.-A. Pooladian, J. Niles-Weed, "Entropic estimation of optimal transport maps", 2021.
       https://arxiv.org/abs/2109.12004

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import EntropicTransport
    >>> X = np.random.default_rng(0).random((100, 2))
    >>> mapping = EntropicTransport(reg=1e-3).fit(X[:60], X_target=X[:60] + [5.0, 0.0])
    >>> (mapping.transform(X[60:]) - X[60:]).mean(axis=0).round(1)
    array([ 5., -0.])
    """

    _parameter_constraints: dict = {
        "reg": [Interval(Real, 0, None, closed="neither")],
        "metric": [StrOptions(set(_problem.METRICS)), Callable],
        "cost_norm": [StrOptions({"target", "mean", "max"}), None],
        "solver": [StrOptions({"auto", "sinkhorn-newton", "sinkhorn"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_warmup": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        reg=0.1,
        metric="sqeuclidean",
        *,
        cost_norm="target",
        solver="sinkhorn-newton",
        tol=1e-9,
        max_iter=100,
        n_warmup="auto",
        n_jobs=None,
        verbose=0,
    ):
        self.reg = reg
        self.metric = metric
        self.cost_norm = cost_norm
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.n_warmup = n_warmup
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_target=None, sample_domain=None, sample_weight=None):
        """Find the plan from the source to the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Source samples; with `sample_domain`, of both domains.
        y : array-like of shape (n_samples,), default=None
            Ignored: labels are not needed. The target does not go here.
        X_target : array-like of shape (n_target, n_features), default=None
            Target samples.
        sample_domain : array-like of shape (n_samples,), default=None
            Positive for samples of the source, negative for samples of the target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples of `X`, in their own domain. `X_target` is weighted uniformly.

        Returns
        -------
        self : EntropicTransport
            The fitted transformer.

        Raises
        ------
        ValueError
            `X_target` and `sample_domain` both given or both missing, weights that are negative or
            sum to zero in a domain, samples that are not finite or have other features than the
            target.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        check_reg = check_positive(self.reg, "reg")
        weights = None if sample_weight is None else check_sample_weight(sample_weight, X)
        if sample_domain is not None:
            if X_target is not None:
                raise ValueError("Give X_target or sample_domain, not both.")
            is_source, is_target = _check_domain(sample_domain, len(X))
            if not (is_source.any() and is_target.any()):
                raise ValueError(
                    f"sample_domain has {is_source.sum()} samples of the source (positive) and "
                    f"{is_target.sum()} of the target (negative): both are needed."
                )
            source, target = X[is_source], X[is_target]
            a, b = (None if weights is None else weights[k] for k in (is_source, is_target))
        elif X_target is None:
            raise ValueError(
                "EntropicTransport needs a target: fit(X, X_target=Z), or fit(X, sample_domain=d) "
                "with d > 0 for samples of the source and d < 0 for samples of the target."
                + (
                    " The second argument is y, which is ignored: give Z by its name."
                    if np.ndim(y) == 2
                    else ""
                )
            )
        else:
            source, target = X, _problem.check_points(X_target, "X_target")
            a, b = weights, None
            if target.shape[1] != X.shape[1]:
                raise ValueError(
                    f"X_target has {target.shape[1]} features, but X has {X.shape[1]}: they must "
                    "be equal."
                )
        a, b = (self._normalised(w, name) for w, name in ((a, "source"), (b, "target")))
        source, target = (np.array(Z, dtype=np.float64, order="C") for Z in (source, target))
        max_iter = self.max_iter * (100 if self.solver == "sinkhorn" else 1)
        options = Options(self.n_warmup, "auto", max_iter, self.tol)
        with ChunkThreads(self.n_jobs) as threads, single_blas_thread():
            cost = _problem.make_cost(
                (source, target), self.metric, _problem.MAX_DENSE, threads.map
            )
            problem = _problem.make_problem(a, b, cost, 1.0, False)
            scale = self._cost_scale(problem, target, b, threads.map)
            problem = _problem.with_reg(problem, check_reg * scale)
            state = _problem.solve(problem, options, solver=self.solver, verbose=self.verbose)
            result = _problem.make_result(problem, state, self.tol, False)
        self.plan_ = result.plan
        self.potentials_ = result.potentials
        self.cost_ = result.cost
        self.cost_scale_ = float(scale)
        self.reg_ = result.reg
        self.source_, self.target_ = source, target
        self.n_iter_ = result.n_warmup + result.n_newton
        self.marginal_error_ = result.marginal_error
        return self

    def fit_transform(self, X, y=None, *, X_target=None, sample_domain=None, sample_weight=None):
        """Fit, and map the samples of the source; those of the target stay as they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Source samples; with `sample_domain`, of both domains.
        y : None
            Ignored.
        X_target : array-like of shape (n_target, n_features), default=None
            Target samples.
        sample_domain : array-like of shape (n_samples,), default=None
            Positive for samples of the source, negative for samples of the target.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples of `X`.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            Mapped samples.
        """
        self.fit(X, y, X_target=X_target, sample_domain=sample_domain, sample_weight=sample_weight)
        return self.transform(X, sample_domain=sample_domain)

    def transform(self, X, *, sample_domain=None):
        """Map samples of the source onto the target, each by itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, those of `fit` or new ones.
        sample_domain : array-like of shape (n_samples,), default=None
            Negative for samples of the target, which are returned as they are. None takes all
            samples for the source's.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features)
            Mapped samples.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self._map(X, sample_domain, self.target_, self.potentials_[1], source=True)

    def inverse_transform(self, X, *, sample_domain=None):
        """Map samples of the target back onto the source, each by itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, those of `fit` or new ones.
        sample_domain : array-like of shape (n_samples,), default=None
            Positive for samples of the source, which are returned as they are. None takes all
            samples for the target's.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Mapped samples.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self._map(X, sample_domain, self.source_, self.potentials_[0], source=False)

    def score(self, X, y=None, *, sample_domain=None):
        """Return minus the Sinkhorn divergence between the mapped samples and the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of the source.
        y : None
            Ignored.
        sample_domain : array-like of shape (n_samples,), default=None
            Negative for samples of the target, which are left out.

        Returns
        -------
        score : float
            At most zero; the larger, the better the map meets the target.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        if sample_domain is not None:
            X = X[_check_domain(sample_domain, len(X))[0]]
        kept = np.isfinite(self.potentials_[1])
        weights = np.asarray(self.plan_.sum(axis=0))[kept]
        return -sinkhorn_divergence(
            self._map(np.asarray(X, dtype=np.float64), None, self.target_, self.potentials_[1]),
            self.target_[kept],
            b=weights / weights.sum(),
            metric=self.metric,
            reg=self.reg_,
            relative=False,
            tol=self.tol,
            n_jobs=self.n_jobs,
        )

    def _map(self, X, sample_domain, support, potential, source=True):
        moved = np.ones(len(X), dtype=bool)
        if sample_domain is not None:
            moved = _check_domain(sample_domain, len(X))[0 if source else 1]
        out = np.array(X)
        if moved.any():
            with ChunkThreads(self.n_jobs) as threads, single_blas_thread():
                out[moved] = _barycentres(
                    np.asarray(X[moved], dtype=np.float64),
                    support,
                    potential,
                    self.reg_,
                    self.metric,
                    support,
                    threads.map,
                )
        return out

    def _cost_scale(self, problem, target, b, run):
        """Return what `reg` is multiplied by."""
        found = 1.0
        if self.cost_norm == "max":
            found = max(map(abs, problem.extent))
        elif self.cost_norm == "mean":
            found = abs(problem.cost.mean(problem.a, problem.b))
        elif self.cost_norm == "target":
            b = np.full(len(target), 1.0 / len(target)) if b is None else b
            kept = target[b > 0]
            found = abs(PointCost(kept, kept, self.metric, run).median(b[b > 0], b[b > 0]))
            if found == 0.0:  # half of the target or more is one point
                found = abs(problem.cost.mean(problem.a, problem.b))
        return found if found > 0 else 1.0

    @staticmethod
    def _arguments_for_checks(n_features, given):
        """Return the arguments of `fit` with a target, for the checks of every estimator."""
        if any(given.get(name) is not None for name in ("X_target", "sample_domain")):
            return given
        rng = np.random.default_rng(n_features)
        return {**given, "X_target": rng.standard_normal((12, n_features)) ** 2}

    def _normalised(self, weights, domain):
        if weights is None:
            return None
        if (weights < 0).any():
            raise ValueError(
                f"sample_weight must not be negative, its smallest entry is {weights.min():.6g}."
            )
        if not weights.sum() > 0:
            raise ValueError(f"sample_weight sums to zero over the {domain}.")
        return weights / weights.sum()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

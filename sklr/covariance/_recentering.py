"""Recentring of covariance matrices, session by session or subject by subject."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._matrix_output import MatrixTransformerMixin
from sklr.geometry._bures_core import Coordinates, Point, mean_square_distance, move, plain_mean
from sklr.geometry._bures_wasserstein import _square_distance, warn_unless_converged
from sklr.geometry._spd_frame import Frame
from sklr.geometry._spd_mean import newton_mean
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._spd_checks import require_definite, rounding
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_array, check_spd_stack
from sklr.utils._warnings import warn_user


class _Affine:
    """The affine-invariant geometry; centres go to the identity."""

    def __init__(self, n_jobs):
        self.n_jobs = n_jobs

    def mean(self, X):
        return newton_mean(X, np.full(len(X), 1.0 / len(X)), n_jobs=self.n_jobs)

    def variance(self, X, mean):
        return float((Frame(mean).logs(X, self.n_jobs) ** 2).sum(axis=(1, 2)).mean())

    def distance(self, A, B):
        """Squared."""
        return self.variance(B[None], A)

    def geodesic(self, A, B, t):
        frame = Frame(A)
        return frame.exps(t * frame.logs(B[None]))[0]

    def centre(self, X, mean):
        return Frame(mean).whiten(X)


class _BuresWasserstein:
    """The Bures-Wasserstein geometry relative to a shared matrix, to which all centres go.

    Vectors grow with the root of their group's amplitude, and long ones would leave the manifold
    where they arrive: they are divided by it.
    """

    def __init__(self, metric, n_jobs):
        self.coordinates = Coordinates(metric, 1.0)
        self.n_jobs = n_jobs

    def mean(self, X):
        Y = self.coordinates.into(X)
        weights = np.full(len(X), 1.0 / len(X))
        G, _, residual = plain_mean(Y, weights, Y.mean(axis=0), 1e-10, 50, self.n_jobs)
        warn_unless_converged(residual, 1e-10, 50)
        return self.coordinates.out(G)

    def variance(self, X, mean):
        point = Point(self.coordinates.into(mean), "The mean of the matrices")
        weights = np.full(len(X), 1.0 / len(X))
        return mean_square_distance(self.coordinates.into(X), weights, point, self.n_jobs)

    def distance(self, A, B):
        """Squared."""
        return float(_square_distance(self.coordinates.into(A), self.coordinates.into(B)))

    def geodesic(self, A, B, t):
        point = Point(self.coordinates.into(A), "The mean of the matrices")
        log = point.log(self.coordinates.into(B))
        return self.coordinates.out(point.exp(t * point.lyapunov(log)))

    def centre(self, X, mean):
        source = Point(self.coordinates.into(mean), "The mean of the matrices")
        target = Point(np.eye(X.shape[1]), "The identity")
        factor = float(np.sqrt(X.shape[1] / source.values.sum()))
        moved, folded = move(self.coordinates.into(X), source, target, factor, self.n_jobs)
        if folded.any():
            warn_user(
                f"{int(folded.sum())} of {len(X)} matrices were pushed over the edge of the "
                "Bures-Wasserstein manifold and folded back; metric='riemann' has no edge.",
            )
        return self.coordinates.out(moved)


class GroupRecentering(MatrixTransformerMixin, BaseEstimator):
    r"""Move the centre of each session or subject to one common point.

    Electrodes, impedances and people change from one recording to the next, and the covariance
    matrices of all trials move with them. Here each group of matrices is moved so that its own
    mean lies at the same place as everybody else's; a classifier trained on some groups can then
    be used on others. No labels are used. :class:`TangentSpace`, :class:`MDM` or another
    classifier comes after it.

    Parameters
    ----------
    metric : {"riemann", "wasserstein"}, default="riemann"
        "riemann" is the affine-invariant metric: matrices become
        :math:`M_g^{-1/2} X M_g^{-1/2}` with :math:`M_g` the mean of their group, and all
        centres are the identity. Any linear mixing of channels that changes between groups
        changes the result by a rotation only. "wasserstein" moves tangent vectors along the
        Bures-Wasserstein manifold; the matrix of its metric is shared by all groups, and all
        centres go there; vectors are divided by the root of their group's amplitude.
    ungrouped : {"batch", "fitted"}, default="batch"
        What `transform` does without `groups`. "batch": the matrices of one call are one new
        group; their mean is drawn towards the mean seen in `fit` by as much as it is uncertain,
        so that a batch of the session seen in `fit`, or a single matrix, hardly moves.
        "fitted": they are centred by the mean seen in `fit`.
    min_samples : int, default=10
        Matrices from which a group that `fit` has not seen is centred by its own mean as it is.
        With fewer, its mean is drawn towards the one seen in `fit` as above.
    momentum : float, default=None
        Weight of a new matrix in `partial_fit`. None weighs all of a group alike.
    n_jobs : int, default=None
        Threads over matrices. Results do not depend on it.

    Attributes
    ----------
    groups_ : ndarray of shape (n_groups,)
        Names of the groups, sorted in `fit`; those that `partial_fit` adds come after them. None
        is the one group of a `fit` without `groups`.
    means_ : ndarray of shape (n_groups, n, n)
        Mean of each group.
    n_samples_ : ndarray of shape (n_groups,)
        Matrices seen of each group.
    mean_ : ndarray of shape (n, n)
        Mean of the groups' means, all groups alike.
    var_ : float
        Mean squared distance of the matrices in `fit` from the mean of their group.
    metric_ : ndarray of shape (n, n) or None
        Matrix of the Bures-Wasserstein metric, where the centres are moved to.
    n_features_in_ : int
        Rows of each matrix.

    See Also
    --------
    BuresWassersteinScaler : One group, and a variance that is set.
    pyriemann.transfer.TLCenter : Recentring with the domains written into the labels.

    Notes
    -----
    `groups` go to `fit`, `partial_fit` and `transform` by metadata routing: see the example.
    Without `groups` in `fit` all matrices are one group; without them in `transform` see
    `ungrouped`. MOABB's evaluations pass none, so a test session or subject is centred as a batch.

    Recentring assumes that classes are about as frequent in each group as in the others: the
    mean of a batch of one class is that class's mean, and what is centred by it looks like no
    class in particular.

    A mean that is "drawn" goes to the point at :math:`w = \max(0, 1 - s^2 / d^2)` of the
    geodesic from `mean_` to the mean of the n matrices, where d is their distance and
    :math:`s^2` is what sampling alone would leave of it, ``var_ * (1 / n + 1 / n_fit)``
    (the positive part of James and Stein's rule).

    Time is that of the means, O(n_matrices n^3) a step with four or five steps.

    References
    ----------
    .. [1] P. Zanini, M. Congedo, C. Jutten, S. Said, Y. Berthoumieu, "Transfer learning: a
       Riemannian geometry framework with applications to brain-computer interfaces", IEEE
       Trans. Biomed. Eng. 65(5), 2018. https://doi.org/10.1109/TBME.2017.2742541
    .. [2] P. L. C. Rodrigues, C. Jutten, M. Congedo, "Riemannian Procrustes analysis: transfer
       learning for brain-computer interfaces", IEEE Trans. Biomed. Eng. 66(8), 2019.
       https://doi.org/10.1109/TBME.2018.2889705

    Examples
    --------
    Two sessions, in the second of which a channel is seen at three times its size:

    >>> import numpy as np
    >>> from sklr.covariance import GroupRecentering
    >>> from sklr.geometry import mean_riemann
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((40, 3, 50))
    >>> X = Z @ Z.transpose(0, 2, 1) / 50
    >>> X[20:] *= np.outer([3, 1, 1], [3, 1, 1])
    >>> session = np.repeat(["monday", "friday"], 20)
    >>> centred = GroupRecentering().fit_transform(X, groups=session)
    >>> [mean_riemann(centred[session == s]).round(6).trace() for s in ("monday", "friday")]
    [np.float64(3.0), np.float64(3.0)]

    In a pipeline, groups are routed:

    >>> import sklearn
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklr.covariance import TangentSpace
    >>> y = np.tile([0, 1], 20)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     centre = GroupRecentering().set_fit_request(groups=True)
    ...     centre.set_transform_request(groups=True)
    ...     pipe = make_pipeline(centre, TangentSpace(), LogisticRegression())
    ...     pipe.fit(X[:20], y[:20], groups=session[:20])
    ...     labels = pipe.predict(X[20:], groups=session[20:])
    GroupRecentering(...)
    Pipeline(...)
    """

    # How the public estimator checks lift a table: to SPD matrices.
    _takes_spd = True

    _parameter_constraints: dict = {
        "metric": [StrOptions({"riemann", "wasserstein"})],
        "ungrouped": [StrOptions({"batch", "fitted"})],
        "min_samples": [Interval(Integral, 1, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="right"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self, metric="riemann", *, ungrouped="batch", min_samples=10, momentum=None, n_jobs=None
    ):
        self.metric = metric
        self.ungrouped = ungrouped
        self.min_samples = min_samples
        self.momentum = momentum
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, groups=None):
        """Compute the mean of each group.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        y : None
            Ignored.
        groups : array-like of shape (n_matrices,), default=None
            Session or subject of each matrix. None: all are of one group.

        Returns
        -------
        self : GroupRecentering
            The fitted transformer.

        Raises
        ------
        ValueError
            Matrices that are not SPD, `groups` of another length or with missing values, or a
            group of one matrix, which would be its own centre.
        """
        X, groups = self._checked(X, groups, reset=True)
        for name, rows in _parts(groups, len(X)):
            if len(rows) < 2:
                of = "" if name is None else f" of group {name!r}"
                raise ValueError(
                    f"One matrix{of} (n_samples=1) is its own centre, and nothing would be left "
                    "of it: give more, or take them one by one with partial_fit."
                )
        return self._fit(X, groups)

    def _fit(self, X, groups):
        parts = list(_parts(groups, len(X)))
        with single_blas_thread():
            self.metric_ = None
            if self.metric == "wasserstein":
                self.metric_ = np.mean([X[rows].mean(axis=0) for _, rows in parts], axis=0)
            geometry = self._geometry()
            means = np.stack([geometry.mean(X[rows]) for _, rows in parts])
            within = [
                len(rows) * geometry.variance(X[rows], mean)
                for (_, rows), mean in zip(parts, means)
            ]
            self.mean_ = means[0] if len(means) == 1 else geometry.mean(means)
        self.groups_ = _names([name for name, _ in parts])
        self.means_ = means
        self.n_samples_ = np.array([len(rows) for _, rows in parts])
        # A mean takes one degree of freedom of each group.
        self.var_ = sum(within) / max(1, len(X) - len(parts))
        self._n_fit = len(X)
        self._given = len(parts)  # groups whose means are used as they are
        return self

    def fit_transform(self, X, y=None, groups=None):
        """Fit, and centre each group by its own mean.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        y : None
            Ignored.
        groups : array-like of shape (n_matrices,), default=None
            Session or subject of each matrix. None: all are of one group.

        Returns
        -------
        X_centred : ndarray of shape (n_matrices, n, n)
            The moved matrices.
        """
        self.fit(X, y, groups=groups)
        X, groups = self._checked(X, groups, reset=False)
        with single_blas_thread():
            geometry = self._geometry()
            out = np.empty_like(X)
            for (_, rows), mean in zip(_parts(groups, len(X)), self.means_):
                out[rows] = geometry.centre(X[rows], mean)
        return out

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, groups=None):
        """Take further matrices, one or many, into the means of their groups.

        The mean of a group goes along the geodesic towards the new matrices, in the order of
        `X`. Name a new session by `groups`, and it starts anew; without them the one group of a
        `fit` without groups goes on.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        y : None
            Ignored.
        groups : array-like of shape (n_matrices,), default=None
            Session or subject of each matrix.

        Returns
        -------
        self : GroupRecentering
            The fitted transformer.
        """
        first = not hasattr(self, "means_")
        X, groups = self._checked(X, groups, reset=first)
        if first:
            return self._fit(X, groups)
        if groups is None and not (len(self.groups_) == 1 and self.groups_[0] is None):
            raise ValueError(
                f"fit has seen groups {list(self.groups_)}: name the group of the new matrices "
                "by groups."
            )
        with single_blas_thread():
            geometry = self._geometry()
            for name, rows in _parts(groups, len(X)):
                self._update(geometry, name, X[rows])
        return self

    def _update(self, geometry, name, X):
        place = self._place(name)
        if place is None:
            self.groups_ = _names([*self.groups_, name])
            self.means_ = np.concatenate([self.means_, X[:1]])
            self.n_samples_ = np.append(self.n_samples_, 1)
            place, X = len(self.groups_) - 1, X[1:]
        mean, seen = self.means_[place], int(self.n_samples_[place])
        alone = self._n_fit == self.n_samples_.sum()  # a stream from the start: var_ goes on too
        for matrix in X:
            seen += 1
            t = 1.0 / seen if self.momentum is None else self.momentum
            if alone:
                distance = geometry.distance(mean, matrix)
                self.var_ += (distance * (1.0 - 1.0 / seen) - self.var_) / max(1, seen - 1)
            mean = geometry.geodesic(mean, matrix, t)
        means, counts = self.means_.copy(), self.n_samples_.copy()
        means[place], counts[place] = mean, seen
        self.means_, self.n_samples_ = means, counts
        if alone or len(means) == 1:
            self.mean_, self._n_fit = mean, seen

    def transform(self, X, groups=None):
        """Centre matrices by the means of their groups.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        groups : array-like of shape (n_matrices,), default=None
            Session or subject of each matrix. A group that is not known is centred by the mean
            of its matrices here. None: see `ungrouped`.

        Returns
        -------
        X_centred : ndarray of shape (n_matrices, n, n)
            The moved matrices.
        """
        check_is_fitted(self)
        X, groups = self._checked(X, groups, reset=False)
        out = np.empty_like(X)
        with single_blas_thread():
            geometry = self._geometry()
            for name, rows in _parts(groups, len(X)):
                out[rows] = geometry.centre(X[rows], self._centre_of(geometry, name, X[rows]))
        return out

    def _centre_of(self, geometry, name, X):
        """Mean by which the matrices of one group are centred."""
        if name is None:
            if self.ungrouped == "fitted":
                return self.mean_
            return self._drawn(geometry, geometry.mean(X), len(X))
        place = self._place(name)
        if place is None:
            mean, seen = geometry.mean(X), len(X)
        else:
            mean, seen = self.means_[place], int(self.n_samples_[place])
            if place < self._given:
                return mean
        return mean if seen >= self.min_samples else self._drawn(geometry, mean, seen)

    def _drawn(self, geometry, mean, seen):
        distance = geometry.distance(self.mean_, mean)
        noise = self.var_ * (1.0 / seen + 1.0 / self._n_fit)
        if distance <= noise:
            return self.mean_
        return geometry.geodesic(self.mean_, mean, 1.0 - noise / distance)

    def _place(self, name):
        found = [place for place, known in enumerate(self.groups_) if known == name]
        return found[0] if found else None

    def _geometry(self):
        if self.metric == "riemann":
            return _Affine(self.n_jobs)
        return _BuresWasserstein(self.metric_, self.n_jobs)

    def _checked(self, X, groups, reset):
        eps = rounding(X)
        X = check_spd_stack(self, X, reset=reset)
        require_definite(X, eps=eps)
        if groups is not None:
            groups = check_array(
                groups, ensure_2d=False, dtype=None, input_name="groups", ensure_all_finite=True
            )
            if groups.ndim != 1:
                raise ValueError(f"groups must be one-dimensional, got shape {groups.shape}.")
            check_consistent_length(X, groups)
            if any(name is None for name in groups.tolist()):
                raise ValueError("groups contains None: name the group of each matrix.")
        return X, groups


def _parts(groups, n):
    """Yield name and rows of each group, sorted by name."""
    if groups is None:
        yield None, np.arange(n)
        return
    names, codes = np.unique(groups, return_inverse=True)
    for code, name in enumerate(names.tolist()):
        yield name, np.flatnonzero(codes == code)


def _names(names):
    if names == [None]:
        return np.array(names, dtype=object)
    kinds = {type(name) for name in names}
    return np.array(names) if len(kinds) == 1 else np.array(names, dtype=object)

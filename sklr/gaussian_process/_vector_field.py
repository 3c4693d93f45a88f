"""Gaussian process regression of tangent vector fields on a point cloud."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.base import RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklr.gaussian_process._field_features import FieldFeatures
from sklr.gaussian_process._field_regression import FieldRegression
from sklr.gaussian_process._laplacian_eigenpairs import lowest_eigenpairs
from sklr.geometry._diffusion import graph_laplacian
from sklr.geometry._frames import check_n_neighbors, connection_of, frames_of
from sklr.geometry._neighbors_graph import check_extent, nearest_neighbors, neighbors_graph
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_array, validate_data
from sklr.utils._warnings import warn_user


class VectorFieldGPRegressor(FieldFeatures, FieldRegression, RegressorMixin, BaseEstimator):
    r"""Gaussian process for a tangent vector field known at some points of a manifold.

    The manifold is given by points alone. Tangent frames and the connection Laplacian are
    estimated from neighbours; its lowest eigenvectors, lifted to the ambient space, are the
    features of a Gaussian process whose kernel is a function of the eigenvalues (RVGP [1]_).
    Predictions are tangent, come with their uncertainty, and follow the manifold where it bends
    or comes near itself. A target of one dimension is a scalar function on the manifold, with
    the graph Laplacian in the place of the connection Laplacian.

    Parameters
    ----------
    n_neighbors : int, default=10
        Neighbours in the graph. One and a half times as many span a tangent space.
    n_eigenpairs : int, default=50
        Eigenvectors that make up the field: more of them, finer details. A multiple eigenvalue
        that would be cut in two is left out.
    intrinsic_dim : int or "auto", default="auto"
        Dimension of the manifold; "auto" as in :func:`~sklr.geometry.tangent_frames`.
    explained_variance : float, default=0.8
        Share of the neighbourhoods' variance that "auto" wants in the tangent spaces.
    kernel : {"matern", "squared_exponential"}, default="matern"
        Prior variance of an eigenvector as a function of its eigenvalue :math:`\lambda`:
        :math:`(2\nu/\kappa^2+\lambda)^{-\nu}`, or :math:`\exp(-\kappa^2\lambda/2)`.
    nu : float or "auto", default=1.5
        Smoothness of the Matern kernel; "auto" is found together with the rest. On a manifold
        of dimension m it is what the literature calls nu + m/2.
    length_scale : float, default=None
        :math:`\kappa`, a length in the units of `X`. None is a fifth of the cloud's diameter,
        taken as twice the largest distance from the mean. Used when `optimizer` is None.
    variance : float, default=1.0
        Prior variance of the field in a tangent direction, averaged over points. Used when
        `optimizer` is None.
    noise : float, default=1e-2
        Variance of the noise on each component of `y`. Used when `optimizer` is None.
    optimizer : {"lbfgs"} or None, default="lbfgs"
        "lbfgs" maximises the marginal likelihood of length scale, variance and noise, from the
        best points of a coarse grid of starting values.
    n_restarts : int, default=1
        How many further points of the grid the optimiser starts from.
    random_state : int, RandomState instance or None, default=None
        Start vector of the eigensolver; has no effect beyond rounding.
    n_jobs : int, default=None
        Threads of the neighbour search. Results do not depend on it.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (r,)
        Lowest eigenvalues in the units of the manifold's own Laplacian, one over a squared
        length of `X`; r is `n_eigenpairs` or less.
    eigenvectors_ : ndarray of shape (n_nodes * intrinsic_dim, r) or (n_nodes, r)
        Eigenvectors of the connection Laplacian in frame coordinates, or of the graph
        Laplacian when `y` has one dimension.
    frames_ : ndarray of shape (n_nodes, n_features, intrinsic_dim)
        Tangent frames.
    nodes_ : ndarray of shape (n_nodes, n_features)
        Distinct positions of the training points.
    intrinsic_dim_ : int
        Dimension of the manifold.
    laplacian_ : csr_array of shape (n_nodes, n_nodes)
        Graph Laplacian.
    connection_laplacian_ : csr_array of shape (n_nodes * intrinsic_dim, n_nodes * intrinsic_dim)
        Connection Laplacian, only for vector fields.
    length_scale_, nu_, variance_, noise_ : float
        Hyperparameters in use.
    log_marginal_likelihood_value_ : float
        Log marginal likelihood at them.
    y_mean_ : float
        What is subtracted from `y`: the mean of a scalar function, 0 for a vector field.
    model_error_ : float
        Variance, in a direction, of what the model itself gets wrong: errors of estimated frames
        and details that were cut off, from residuals of neighbours.
    n_neighbors_ : int
        Neighbours in use.
    n_components_ : int
        Connected components of the graph.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, with `X` that has them.

    See Also
    --------
    sklearn.gaussian_process.GaussianProcessRegressor : The better choice where the field is
        smooth in the ambient space and points that are near are near on the manifold.
    sklr.geometry.vector_diffusion : Smooths a field without a model of noise.

    Notes
    -----
    The regression is solved in the space of the r features: O(n r^2) once, O(r^3) for each
    likelihood, however many observations there are. Unlabelled points shape graph and frames
    and cost no more than that, so pass all positions to `fit`, with rows of NaN in `y` where
    nothing is known. A single NaN in a row is an unknown component.

    The predicted variance is that of the field without noise: the posterior's, the model error
    (frames are estimated, and what is finer than the last eigenvector is cut off; residuals of
    neighbours have it in common, noise they have not), and, away from all nodes, a part that
    grows to the variance of the field within a length scale. Points that were not in `fit` get
    the eigenvectors of their neighbours, carried to a frame of their own and interpolated there.
    `sample_y` draws from the posterior alone.

    References
    ----------
    .. [1] R. L. Peach, M. Vinao-Carl, N. Grossman, M. David, E. Mallas, D. Sharp,
       P. A. Malhotra, P. Vandergheynst, A. Gosztolai, "Implicit Gaussian process representation
       of vector fields over arbitrary latent manifolds", ICLR 2024.
       https://arxiv.org/abs/2309.16746

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.gaussian_process import VectorFieldGPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 3))
    >>> X /= np.linalg.norm(X, axis=1, keepdims=True)  # a sphere
    >>> Y = np.cross([0, 0, 1], X)  # winds around the axis
    >>> known = Y + 0.1 * rng.standard_normal(Y.shape)
    >>> known[100:] = np.nan  # three quarters are unknown
    >>> gp = VectorFieldGPRegressor().fit(X, known)
    >>> mean, std = gp.predict(X, return_std=True)
    >>> mean.shape, std.shape, gp.intrinsic_dim_
    ((400, 3), (400, 3), 2)
    >>> bool(np.linalg.norm(mean - Y) < 0.2 * np.linalg.norm(Y))
    True
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_eigenpairs": [Interval(Integral, 1, None, closed="left")],
        "intrinsic_dim": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "explained_variance": [Interval(Real, 0, 1, closed="right")],
        "kernel": [StrOptions({"matern", "squared_exponential"})],
        "nu": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "length_scale": [Interval(Real, 0, None, closed="neither"), None],
        "variance": [Interval(Real, 0, None, closed="neither")],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions({"lbfgs"}), None],
        "n_restarts": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_neighbors=10,
        n_eigenpairs=50,
        *,
        intrinsic_dim="auto",
        explained_variance=0.8,
        kernel="matern",
        nu=1.5,
        length_scale=None,
        variance=1.0,
        noise=1e-2,
        optimizer="lbfgs",
        n_restarts=1,
        random_state=None,
        n_jobs=None,
    ):
        self.n_neighbors = n_neighbors
        self.n_eigenpairs = n_eigenpairs
        self.intrinsic_dim = intrinsic_dim
        self.explained_variance = explained_variance
        self.kernel = kernel
        self.nu = nu
        self.length_scale = length_scale
        self.variance = variance
        self.noise = noise
        self.optimizer = optimizer
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn the manifold from all points and the field from the labelled ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Positions, labelled and not. Positions that occur twice are one point of the
            manifold with two observations.
        y : array-like of shape (n_samples, n_features) or (n_samples,)
            Vectors, or values of a scalar function. NaN is unknown.

        Returns
        -------
        self : VectorFieldGPRegressor
            The fitted estimator.
        """
        X, y = self._check(X, y)
        scalar = y.ndim == 1
        _, first, node = np.unique(X, axis=0, return_index=True, return_inverse=True)
        # Nodes in the order of their first row, so that without duplicates they are the rows.
        order = np.argsort(first)
        nodes = X[first[order]]
        node = np.argsort(order)[node.ravel()]
        n = len(nodes)
        self.n_neighbors_ = check_n_neighbors(self.n_neighbors, n)

        neighbors = nearest_neighbors(nodes, self._n_span(n), n_jobs=self.n_jobs)
        frames = frames_of(
            nodes, neighbors[1], self.intrinsic_dim, self.explained_variance, "intrinsic_dim"
        )
        m = frames.shape[2]
        self._sizes = neighbors[0][:, self.n_neighbors_ - 1]
        A = neighbors_graph(nodes, self.n_neighbors_, kernel="binary", neighbors=neighbors)
        laplacian = graph_laplacian(A)
        n_components = self._tell_components(A, node, y)
        L = laplacian if scalar else connection_of(frames, A)
        n_eigenpairs = self.n_eigenpairs
        if n_eigenpairs > L.shape[0]:
            warn_user(
                f"n_eigenpairs={n_eigenpairs} is more than there are, {L.shape[0]} for {n} "
                f"distinct points; all {L.shape[0]} are taken.",
            )
            n_eigenpairs = L.shape[0]
        values, vectors = lowest_eigenpairs(
            L, n_eigenpairs, random_state=check_random_state(self.random_state)
        )

        # The graph Laplacian tends to the manifold's times degree * squared length / (2 m).
        i, j = A.nonzero()
        squared = np.mean(((nodes[i] - nodes[j]) ** 2).sum(axis=1))
        values = values * (2.0 * m / (len(i) / n * squared))

        self.nodes_, self.frames_, self.intrinsic_dim_ = nodes, frames, m
        self.laplacian_, self.n_components_ = laplacian, n_components
        if not scalar:
            self.connection_laplacian_ = L
        self.eigenvalues_, self.eigenvectors_ = values, vectors
        self._scalar = scalar
        # Hundreds of likelihoods of small matrices: a second BLAS thread only gets in the way.
        with single_blas_thread():
            self._regress(node, y)
        return self

    def _check(self, X, y):
        name = type(self).__name__
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if y is None:
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is None."
            )
        y = check_array(
            y,
            dtype=np.float64,
            ensure_2d=False,
            ensure_all_finite="allow-nan",
            input_name="y",
            estimator=self,
        )
        check_consistent_length(X, y)
        if y.ndim == 2 and y.shape[1] == 1 and X.shape[1] > 1:
            warn_user(
                "A column-vector y was passed when a 1d array was expected: it is taken as a "
                "scalar function. Use ravel() to say so.",
                DataConversionWarning,
            )
            y = y.ravel()
        if y.ndim > 2 or (y.ndim == 2 and y.shape[1] != X.shape[1]):
            raise ValueError(
                f"y must have shape (n_samples,) or, one vector for each point, the shape of X, "
                f"{X.shape}; got {y.shape}."
            )
        if np.isnan(y).all():
            raise ValueError("y is NaN everywhere: at least one vector or value must be known.")
        check_extent(y[~np.isnan(y)], "y")
        return X, y

    def _tell_components(self, A, node, y):
        """Count the connected components, and say so when there are several."""
        n_components, member = connected_components(A, directed=False)
        if n_components > 1:
            known = ~np.isnan(y) if y.ndim == 1 else ~np.isnan(y).all(axis=1)
            without = n_components - len(np.unique(member[node[known]]))
            warn_user(
                f"The graph of {self.n_neighbors} neighbours has {n_components} connected "
                f"components, of {np.bincount(member).min()} points or more. Nothing is learnt "
                f"across them; {without} of them have no label and are predicted by the prior. "
                "A larger n_neighbors connects them.",
            )
        return n_components

    def _check_predict(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64)

    def predict(self, X, return_std=False, return_cov=False):
        """Predict the field, at training points or others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Positions.
        return_std : bool, default=False
            Whether to return the standard deviation of each component.
        return_cov : bool, default=False
            Whether to return covariances.

        Returns
        -------
        y_mean : ndarray of shape (n_samples, n_features) or (n_samples,)
            Posterior mean.
        y_std : ndarray of the shape of `y_mean`
            Standard deviation of the field without noise, with `return_std`: posterior and model
            error, growing away from the points of `fit`.
        y_cov : ndarray of shape (n_samples, n_features, n_features) or (n_samples, n_samples)
            With `return_cov`: the covariance of the vector at each point; for a scalar
            function that of its values at all points, as scikit-learn's regressor gives it.
        """
        if return_std and return_cov:
            raise RuntimeError("At most one of return_std or return_cov can be requested.")
        X = self._check_predict(X)
        means, spreads, diagonal = [], [], []
        for rows in self._batches(np.arange(len(X))):
            Phi = self._features(X[rows])
            means.append(Phi @ self._mean)
            if return_std or return_cov:
                half = Phi @ self._spread
                extra = self._extra_covariance(X[rows])
                if return_std:
                    more = np.einsum("ndd->nd", extra)
                    spreads.append(np.sqrt((half * half).sum(axis=2) + more))
                elif self._scalar:
                    spreads.append(half[:, 0])
                    diagonal.append(extra[:, 0, 0])
                else:
                    spreads.append(np.matmul(half, half.transpose(0, 2, 1)) + extra)
        mean = np.concatenate(means) + self.y_mean_
        mean = mean[:, 0] if self._scalar else mean
        if not return_std and not return_cov:
            return mean
        spread = np.concatenate(spreads)
        if self._scalar:
            if return_std:
                return mean, spread[:, 0]
            return mean, spread @ spread.T + np.diag(np.concatenate(diagonal))
        return mean, spread

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination of the predictions, over the rows of `y` that are known.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Positions.
        y : array-like of shape (n_samples, n_features) or (n_samples,)
            Vectors or values; rows with NaN are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            R^2, for vectors averaged over their components.
        """
        from sklearn.metrics import r2_score

        predicted = self.predict(X)
        y = check_array(
            y, dtype=np.float64, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y"
        )
        check_consistent_length(predicted, y)
        known = ~np.isnan(y.reshape(len(y), -1)).any(axis=1)
        if not known.any():
            raise ValueError("y has no row without NaN: there is nothing to score.")
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)[known]
        return r2_score(y[known], predicted[known], sample_weight=sample_weight)

    def sample_y(self, X, n_samples=1, random_state=0):
        """Draw whole fields from the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            Positions.
        n_samples : int, default=1
            Number of fields.
        random_state : int, RandomState instance or None, default=0
            Generator of the draws.

        Returns
        -------
        y_samples : ndarray of shape (n_samples_X, n_features, n_samples) or \
                (n_samples_X, n_samples)
            The fields, without noise. A field is the same function at whatever points, as long
            as the seed is the same.
        """
        X = self._check_predict(X)
        rng = check_random_state(random_state)
        draws = rng.standard_normal((n_samples, len(self.eigenvalues_))).T
        weights = self._mean[:, None] + self._spread @ draws
        parts = [self._features(X[rows]) @ weights for rows in self._batches(np.arange(len(X)))]
        fields = np.concatenate(parts) + self.y_mean_
        return fields[:, 0] if self._scalar else fields

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

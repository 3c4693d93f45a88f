"""Diffusion spectral entropy as an estimator that keeps its bandwidth."""

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklr.metrics._diffusion_entropy import ENTROPY_CONSTRAINTS, Settings, entropy_of_cloud
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import validate_data


class DiffusionSpectralEntropy(BaseEstimator):
    r"""Diffusion spectral entropy of point clouds at one bandwidth: fit once, score many.

    `fit` finds the bandwidth and the entropy of a point cloud. `score` gives the entropy of
    another one at that bandwidth, so that epochs of a training, or samples of several
    conditions, can be compared: entropies at different bandwidths or numbers of points cannot.

    Parameters
    ----------
    bandwidth : float or "median", default="median"
        Standard deviation of the kernel, in the units of `X`. "median" is the median distance
        of at most 1000 points over the square root of two.
    t : float, default=1
        Steps of the random walk; 2 is recommended for noisy data.
    anisotropy : float, default=0.0
        Exponent of the density that is divided out of the kernel.
    solver : {"exact", "lanczos", "landmark"}, default="exact"
        As in :func:`~sklr.metrics.diffusion_spectral_entropy`.
    n_neighbors : int, default=None
        Keep the kernel between this many neighbours only.
    n_landmarks : int, default=1000
        Largest number of landmarks.
    n_probes : int, default=40
        Random vectors of "lanczos", and as many leading directions.
    n_steps : int, default=30
        Lanczos steps for each.
    max_samples : int or None, default=10_000
        "exact" and "lanczos" take at most this many random rows; None takes all.
    base : float, default=2
        Base of the logarithm: 2 gives bits.
    random_state : int, RandomState instance or None, default=None
        Draws rows, probes and landmarks.

    Attributes
    ----------
    entropy_ : float
        Entropy of the training points, from 0 to log n.
    effective_rank_ : float
        `base` to the power of the entropy: how many equal eigenvalues would have it.
    eigenvalues_ : ndarray of shape (n_eigenvalues,)
        Eigenvalues of the diffusion operator, decreasing; only with "exact" and "landmark".
    standard_error_ : float
        Standard error of the entropy over the probes of "lanczos"; 0 for the other solvers.
    bandwidth_ : float
        Bandwidth in use.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, with `X` that has them.

    See Also
    --------
    sklr.metrics.diffusion_spectral_entropy : The same as a function.
    sklr.metrics.diffusion_spectral_mutual_information : What a target says about the points.
    sklearn.decomposition.PCA : Its explained variance counts linear directions.

    Notes
    -----
    Layers of different widths cannot be scored by one estimator. Pass a bandwidth that you have
    chosen to the function instead.

    References
    ----------
    .. [1] D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel,
       I. Adelstein, S. Krishnaswamy, "Assessing neural network representations during training
       using noise-resilient diffusion spectral entropy", 2023. https://arxiv.org/abs/2312.04823

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.manifold import DiffusionSpectralEntropy
    >>> rng = np.random.default_rng(0)
    >>> line = rng.standard_normal((200, 1)) * np.ones(5)
    >>> cloud = rng.standard_normal((200, 5))
    >>> dse = DiffusionSpectralEntropy(t=2).fit(line)
    >>> dse.score(cloud) > dse.entropy_
    True
    """

    _parameter_constraints: dict = {**ENTROPY_CONSTRAINTS}

    def __init__(
        self,
        bandwidth="median",
        t=1,
        *,
        anisotropy=0.0,
        solver="exact",
        n_neighbors=None,
        n_landmarks=1000,
        n_probes=40,
        n_steps=30,
        max_samples=10_000,
        base=2,
        random_state=None,
    ):
        self.bandwidth = bandwidth
        self.t = t
        self.anisotropy = anisotropy
        self.solver = solver
        self.n_neighbors = n_neighbors
        self.n_landmarks = n_landmarks
        self.n_probes = n_probes
        self.n_steps = n_steps
        self.max_samples = max_samples
        self.base = base
        self.random_state = random_state

    def _entropy(self, X, bandwidth):
        settings = Settings(
            bandwidth, self.t, self.anisotropy, self.solver, self.n_neighbors, self.n_landmarks,
            self.n_probes, self.n_steps, self.max_samples, self.base,
        )  # fmt: skip
        return entropy_of_cloud(X, settings, check_random_state(self.random_state))

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the bandwidth and the entropy of a point cloud.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The points.
        y : None
            Ignored.

        Returns
        -------
        self : DiffusionSpectralEntropy
            The fitted estimator.
        """
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2)
        found = self._entropy(X, self.bandwidth)
        self.entropy_, self.standard_error_ = found.value, found.standard_error
        self.effective_rank_ = float(self.base) ** found.value
        self.bandwidth_ = found.bandwidth
        if found.eigenvalues is not None:
            self.eigenvalues_ = found.eigenvalues
        return self

    def score(self, X, y=None):
        """Return the entropy of points at the fitted bandwidth.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The points.
        y : None
            Ignored.

        Returns
        -------
        entropy : float
            Their entropy.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2
        )
        return self._entropy(X, self.bandwidth_).value

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

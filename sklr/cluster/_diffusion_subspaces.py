"""Clustering into subspaces as a mixture of low-rank Gaussians, with its diffusion model."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.special import logsumexp
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from sklr.cluster._low_rank_mixture import LowRankMixture
from sklr.cluster._subspace_fit import fit_partition
from sklr.cluster._subspaces import (
    denoising_descent,
    energies,
    hard_mixture,
    noise_floor,
    soft_em,
    spectra,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

# Rows and share of the mean in their energy from which an offset is warned about.
_MANY = 20
_OFFSET = 0.9


def _tell_offset(X):
    """Warn where nearly all the energy of the rows is that of their mean."""
    X = X / np.abs(X).max()  # squares neither vanish nor overflow
    energy = float((X**2).sum())
    share = len(X) * float((X.mean(axis=0) ** 2).sum()) / energy if energy else 0.0
    if len(X) >= _MANY and share > _OFFSET:
        warn_user(
            f"{share:.0%} of the energy of X is that of its mean, and subspaces go through the "
            "origin: all of them are then near one direction. Set center=True, or drop constant "
            "columns, unless the subspaces do go through the origin.",
        )


def _bounded(X, max_norm):
    """Return rows of which none is longer than `max_norm` times the median; others are that long.

    Squared energies would let a few gross errors decide over the subspaces. Where a row is nearest
    does not depend on its length.
    """
    if max_norm is None:
        return X
    largest = np.abs(X).max(axis=1)  # squares of large entries may overflow
    norms = largest * np.sqrt(((X / largest[:, None]) ** 2).sum(axis=1))
    median = float(np.median(norms))
    long = norms > max_norm * median
    if not long.any():
        return X
    X = X.copy()
    X[long] *= (median / norms[long])[:, None]
    return X


def _with_fixed_signs(bases, variances):
    """Give each row the sign that makes its largest entry positive."""
    out = []
    for basis in bases:
        largest = np.abs(basis).argmax(axis=1)
        out.append(basis * np.sign(basis[np.arange(len(basis)), largest])[:, None])
    return out, variances


class DiffusionSubspaceClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, DensityMixin, BaseEstimator
):
    r"""Mixture of low-rank Gaussians, fitted by subspace clustering.

    Models data on a union of low-dimensional subspaces,
    :math:`x \sim \sum_k \pi_k N(0, U_k U_k^\top)`. The paper proves that a diffusion model of
    this form, trained on its denoising loss, solves subspace clustering. So that is how it is
    fitted here: bases and labels by K-subspaces from spectral starts. What a diffusion model
    offers then follows in closed form: the denoiser at any noise level and its Jacobian,
    likelihoods, and new samples.

    Parameters
    ----------
    n_clusters : int, default=2
        Number of subspaces.
    n_components : int, sequence of int, float or "gap", default=2
        Dimension of the subspaces, or of each. A float in (0, 1) takes what explains this share
        of each cluster's energy; "gap" cuts each cluster's singular values at their largest
        drop.
    init : {"spectral", "angles", "sim", "random"}, default="spectral"
        Starts. "angles" clusters the graph of the smallest angles between samples, "sim" the
        squared shape-interaction matrix, "random" is `n_init` random partitions; "spectral" runs
        all of them. The largest objective wins, and the first of those that are equal.
    soft : bool, default=False
        Whether expectation-maximisation of the likelihood follows.
    orthogonal : bool, default=False
        Whether the subspaces are made orthogonal to each other.
    noise_variance : float or "auto", default="auto"
        Variance of the noise in each direction; "auto" estimates it from what lies outside the
        subspaces.
    solver : {"ksubspaces", "sgd"}, default="ksubspaces"
        "sgd" descends on the denoising loss itself from the winning start: slower, and there to
        show that both agree.
    center : bool, default=False
        Whether the mean of the data is subtracted; otherwise subspaces go through the origin.
    n_init : int, default=10
        Random starts of ``init="spectral"`` and "random", and of exchanges (see Notes).
        "spectral" goes on to its next kind of start only while the best so far leaves more
        unexplained than noise can be.
    max_iter : int, default=300
        Largest number of iterations of each start, of expectation-maximisation, and epochs of
        "sgd".
    tol : float, default=1e-6
        Relative gain of the objective below which iterations end.
    max_norm : float or None, default=5.0
        Rows longer than so many times the median row are brought to its length before the
        subspaces are sought: otherwise three gross errors in 300 rows decide over them. None takes
        all rows as they are.
    spectrum : {"unit", "full"}, default="unit"
        Variances inside the subspaces: one, as in the paper, or those of each cluster along its
        basis. Take "full" for data that were not scaled to the paper's model; labels of the
        hard rule are the same.
    random_state : int, RandomState instance or None, default=None
        Seed of starts, of "sgd" and of samples.
    n_jobs : int, default=None
        Threads over random starts. Results do not depend on it.
    verbose : int, default=0
        Whether progress is shown.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample.
    components_ : ndarray of shape (n_clusters, n_components, n_features) or list of ndarray
        Orthonormal rows that span each subspace; a list where dimensions differ.
    n_components_ : ndarray of shape (n_clusters,)
        Dimensions of the subspaces.
    weights_ : ndarray of shape (n_clusters,)
        Shares of the clusters.
    signal_variances_ : list of ndarray of shape (n_components,)
        Variances along the rows of `components_`.
    noise_variance_ : float
        Variance of the noise in each direction.
    mean_ : ndarray of shape (n_features,)
        Mean of the data; zero without ``center=True``.
    objective_ : float
        Sum of the samples' squared projections on their own subspaces.
    objective_history_ : ndarray of shape (n_iter_,)
        What was maximised, by iteration: the objective (less a term for unequal dimensions), the
        mean log-likelihood with ``soft=True``; with ``solver="sgd"`` the loss, which falls.
    explained_variance_ratio_ : ndarray of shape (n_clusters,)
        Share of each cluster's energy inside its subspace.
    init_ : str
        The start that won.
    n_iter_ : int
        Iterations from it.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, when all are strings.

    See Also
    --------
    sklr.datasets.make_molrg : Data of this model.
    sklearn.mixture.GaussianMixture : Full covariances; needs many more samples than features.
    sklearn.cluster.SpectralClustering : Clusters by neighbourhood, not by subspace.
    sklearn.decomposition.PCA : The case of one cluster, centred.

    Notes
    -----
    An iteration takes :math:`O(n p \sum_k d_k)`, starts are made on 1000 to 5000 rows, and
    memory is O(n p).

    `predict` follows the rule that fitted the labels: nearest subspace, or with ``soft=True``
    the most probable component. `predict_proba` also counts the weights, and can differ on
    samples near two subspaces. Zero rows lie in every subspace and go to the first cluster.

    A cluster needs at least as many samples as dimensions. Where no cluster has more than that,
    any partition fits exactly, and the one whose clusters span the smallest volumes is taken
    (unless ``orthogonal=True``): it is the most likely one, with a spectrum for each cluster.

    References
    ----------
    .. [1] P. Wang, H. Zhang, Z. Zhang, S. Chen, Y. Ma, Q. Qu, "Diffusion models learn
       low-dimensional distributions via subspace clustering", 2024.
       https://arxiv.org/abs/2409.02426

    Examples
    --------
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from sklr.cluster import DiffusionSubspaceClustering
    >>> from sklr.datasets import make_molrg
    >>> X, y = make_molrg(n_samples=40, n_clusters=2, dim=7, noise=0.05, random_state=0)
    >>> model = DiffusionSubspaceClustering(n_clusters=2, n_components=7, random_state=0).fit(X)
    >>> adjusted_rand_score(y, model.labels_)
    1.0
    >>> model.denoise(X, sigma=0.05).shape
    (40, 48)
    """

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"gap"}),
            "array-like",
        ],
        "init": [StrOptions({"spectral", "angles", "sim", "random"})],
        "soft": ["boolean"],
        "orthogonal": ["boolean"],
        "noise_variance": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"ksubspaces", "sgd"})],
        "center": ["boolean"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_norm": [Interval(Real, 1, None, closed="left"), None],
        "spectrum": [StrOptions({"unit", "full"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters=2,
        n_components=2,
        *,
        init="spectral",
        soft=False,
        orthogonal=False,
        noise_variance="auto",
        solver="ksubspaces",
        center=False,
        n_init=10,
        max_iter=300,
        tol=1e-6,
        max_norm=5.0,
        spectrum="unit",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.init = init
        self.soft = soft
        self.orthogonal = orthogonal
        self.noise_variance = noise_variance
        self.solver = solver
        self.center = center
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.max_norm = max_norm
        self.spectrum = spectrum
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.

        Returns
        -------
        self : DiffusionSubspaceClustering
            The fitted model.

        Raises
        ------
        ValueError
            Fewer (non-zero) samples than clusters, subspaces as large as the space, or too large
            to be orthogonal to each other.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=1)
        X = X.astype(np.float64, copy=self.center)  # it is centred in place
        self._check_sizes(X)
        mean = X.mean(axis=0) if self.center else np.zeros(X.shape[1])
        if self.center:
            X -= mean
        zero = ~(X != 0).any(axis=1)
        inside = _bounded(self._without_zero_rows(X, zero), self.max_norm)
        if not self.center and self.n_clusters > 1:
            _tell_offset(inside)
        rng = np.random.default_rng(
            check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        )
        with single_blas_thread():
            of_inside = self._fit_inside(inside, rng)
        self.labels_, self.mean_ = np.zeros(len(X), dtype=np.int64), mean
        self.labels_[~zero] = of_inside
        self._n_features_out = int(self.n_components_.sum())
        return self

    def predict(self, X):
        """Assign samples to subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of a cluster.
        """
        X = self._checked(X)
        if self.soft:
            return self._mixture().posterior(X, self.noise_variance_).argmax(axis=1)
        return (energies(X, list(self.components_)) - self._dim_penalty).argmax(axis=1)

    def predict_proba(self, X, sigma=None):
        """Return the probability of each cluster given noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one.
        """
        X = self._checked(X)
        return self._mixture().posterior(X, self._noise_of(sigma, len(X)))

    def transform(self, X):
        """Return the coordinates of samples in all subspaces, one after the other.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        coordinates : ndarray of shape (n_samples, sum of n_components_)
            Inner products with the rows of `components_`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return ((X - self.mean_) @ np.concatenate(list(self.components_)).T).astype(X.dtype)

    def denoise(self, X, sigma=None):
        """Return the mean of the clean samples given noisy ones.

        Samples that are scaled and noisy, ``s x + g e``, are denoised by
        ``denoise(X / s, g / s)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        clean : ndarray of shape (n_samples, n_features)
            Posterior means: nearest projections for small `sigma`, the overall mean for large.
        """
        X = self._checked(X)
        return self.mean_ + self._mixture().denoise(X, self._noise_of(sigma, len(X)))

    def score_samples(self, X, sigma=None):
        """Return the log-density of noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithms.
        """
        X = self._checked(X)
        return logsumexp(self._mixture().log_joint(X, self._noise_of(sigma, len(X))), axis=1)

    def score(self, X, y=None):
        """Return the mean log-density at the noise found in `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Mean over samples.
        """
        return float(self.score_samples(X).mean())

    def bic(self, X):
        """Return the Bayesian information criterion: the lower, the better the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        bic : float
            Minus twice the log-likelihood, plus the logarithm of `n_samples` for each parameter.
        """
        likelihood = self.score_samples(X)
        return float(self._n_parameters() * np.log(len(likelihood)) - 2.0 * likelihood.sum())

    def aic(self, X):
        """Return the Akaike information criterion: the lower, the better the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        aic : float
            Minus twice the log-likelihood, plus two for each parameter.
        """
        return float(2.0 * self._n_parameters() - 2.0 * self.score_samples(X).sum())

    def _n_parameters(self):
        """Count free numbers: subspaces, spectra, weights, noise, and the mean where it is."""
        dims, p = self.n_components_, self.n_features_in_
        subspaces = int((dims * (p - dims)).sum())
        if self.spectrum == "full":  # axes inside the subspaces, and variances along them
            subspaces += int((dims * (dims - 1) // 2 + dims).sum())
        fixed = self.noise_variance != "auto"
        return subspaces + len(dims) - 1 + (not fixed) + p * self.center

    def sample(self, n_samples=1, method="exact", *, n_steps=40, sigma_min=0.002, sigma_max=80.0):
        """Draw new samples.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        method : {"exact", "diffusion"}, default="exact"
            Draw from the mixture, or run the deterministic diffusion sampler (EDM: Heun's
            method) from pure noise with the closed-form denoiser. Both have one distribution.
        n_steps : int, default=40
            Noise levels of the diffusion sampler. With EDM's 18 the variances come out 9 % too
            large, with 40 they are right to 2 %.
        sigma_min : float, default=0.002
            Its smallest noise level, in units of the largest signal's standard deviation.
        sigma_max : float, default=80.0
            Its largest, in the same units.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, with the noise found in `fit`.
        y : ndarray of shape (n_samples,)
            Their clusters.
        """
        check_is_fitted(self)
        self._check_sampler(n_samples, method, n_steps, sigma_min, sigma_max)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        rng, mixture = np.random.default_rng(seed), self._mixture()
        if method == "exact":
            X, labels = mixture.draw(n_samples, self.noise_variance_, rng)
        else:
            unit = float(np.sqrt(mixture.spectrum.max())) or 1.0
            X, labels = mixture.draw_by_diffusion(
                n_samples,
                self.noise_variance_,
                rng,
                n_steps=n_steps,
                sigma_min=sigma_min * unit,
                sigma_max=sigma_max * unit,
            )
        return self.mean_ + X, labels

    def jacobian_rank(self, X, sigma=None, *, energy=0.99):
        """Return the numerical rank of the denoiser's Jacobian at noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.
        energy : float, default=0.99
            The rank is the number of leading singular values whose root sum of squares reaches
            this share of all.

        Returns
        -------
        rank : ndarray of shape (n_samples,)
            At most the sum of the dimensions; the dimension of one subspace where a sample
            clearly belongs to it.
        """
        if not 0 < energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {energy!r}.")
        X = self._checked(X)
        _, J = self._mixture().jacobian(X, self._noise_of(sigma, len(X)))
        power = np.cumsum(np.linalg.eigvalsh(J)[:, ::-1] ** 2, axis=1)
        reached = power >= (energy**2 - 1e-12) * power[:, -1:]
        return reached.argmax(axis=1) + 1

    def semantic_directions(self, X, sigma=None, *, n_directions=1):
        """Return the directions in which the denoised sample moves most with the noisy one.

        They are singular vectors of the denoiser's Jacobian; ``denoise(x) + alpha * direction``
        edits a sample and stays near its subspace.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.
        n_directions : int, default=1
            How many.

        Returns
        -------
        directions : ndarray of shape (n_samples, n_directions, n_features)
            Unit vectors, the largest singular value first.
        values : ndarray of shape (n_samples, n_directions)
            Singular values.
        """
        X = self._checked(X)
        common, J = self._mixture().jacobian(X, self._noise_of(sigma, len(X)))
        if not 1 <= n_directions <= len(common):
            raise ValueError(
                f"n_directions must be from 1 to {len(common)}, the dimension of all subspaces "
                f"together, got {n_directions!r}."
            )
        values, vectors = np.linalg.eigh(J)
        values = values[:, ::-1][:, :n_directions]
        return np.swapaxes(vectors[:, :, ::-1][:, :, :n_directions], 1, 2) @ common, values

    def _check_sizes(self, X):
        n, p = X.shape
        if n < self.n_clusters:
            raise ValueError(f"n_samples={n} must be at least n_clusters={self.n_clusters}.")
        if np.ndim(self.n_components) > 0:
            dims = np.asarray(self.n_components)
            if dims.shape != (self.n_clusters,) or dims.dtype.kind not in "iu" or dims.min() < 1:
                raise ValueError(
                    f"n_components must be one integer >= 1 or n_clusters={self.n_clusters} of "
                    f"them, got {self.n_components!r}."
                )
        elif isinstance(self.n_components, Integral):
            dims = np.full(self.n_clusters, self.n_components)
        else:
            dims = np.ones(self.n_clusters, dtype=int)  # at least
        if dims.max() >= p:
            raise ValueError(
                f"n_components={dims.max()} must be less than n_features={p}: a subspace that "
                "fills the space tells nothing apart."
            )
        if self.orthogonal and dims.sum() > p:
            raise ValueError(
                f"{self.n_clusters} orthogonal subspaces with n_components={self.n_components} "
                f"need {dims.sum()} features, got n_features={p}; use orthogonal=False."
            )
        if self.solver == "sgd" and (self.soft or len(set(dims)) > 1):
            raise ValueError("solver='sgd' needs soft=False and subspaces of one dimension.")

    def _without_zero_rows(self, X, zero):
        if not zero.any():
            return X
        n_zero = int(zero.sum())
        if len(X) - n_zero < self.n_clusters:
            raise ValueError(
                f"{n_zero} of n_samples={len(X)} rows are zero{' once centred' * self.center}; "
                f"the others are fewer than n_clusters={self.n_clusters}."
            )
        warnings.warn(
            f"{n_zero} of {len(X)} rows are zero and lie in every subspace: they are assigned to "
            "the first cluster and left out of the fit.",
            UserWarning,
            stacklevel=4,
        )
        return X[~zero]

    def _fit_inside(self, X, rng):
        """Fit rows that are not zero, set the attributes, return the rows' labels."""
        settings = {"joint": self.orthogonal, "max_iter": self.max_iter, "tol": self.tol}
        part, name, penalty = fit_partition(
            X,
            self.n_clusters,
            self.n_components,
            init=self.init,
            n_init=self.n_init,
            rng=rng,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            **settings,
        )
        labels, bases, history, converged = part.labels, part.bases, part.history, part.converged
        dim_penalty = penalty * np.array([len(basis) for basis in bases])
        if self.solver == "sgd":
            scale = np.sqrt((X**2).sum() / (len(X) * len(bases[0])))
            bases, history, converged = denoising_descent(
                X / scale,
                bases,
                rng,
                joint=self.orthogonal,
                n_epochs=self.max_iter,
                tol=self.tol,
            )
            labels = (energies(X, bases) - dim_penalty).argmax(axis=1)
        found = spectra(X, labels, bases)
        mixture, noise = hard_mixture(
            X, labels, bases, spectrum=self.spectrum, noise=self.noise_variance, found=found
        )
        if self.soft:
            mixture, noise, history, converged = soft_em(
                X,
                mixture,
                noise,
                spectrum=self.spectrum,
                fixed_noise=self.noise_variance != "auto",
                **settings,
            )
            labels = mixture.posterior(X, noise).argmax(axis=1)
            found = spectra(X, labels, mixture.bases)
        self._warn(part, converged, history)
        bases, variances = _with_fixed_signs(mixture.bases, mixture.variances)
        inside, outside, sizes = found
        captured = np.array([values.sum() for values in inside]) * sizes
        same = len({len(basis) for basis in bases}) == 1
        self.components_ = np.stack(bases) if same else bases
        self.n_components_ = np.array([len(basis) for basis in bases])
        self.weights_ = mixture.weights
        self.signal_variances_, self.noise_variance_ = variances, noise
        self.objective_, self.objective_history_ = float(captured.sum()), np.array(history)
        self.explained_variance_ratio_ = captured / np.maximum(captured + outside, 1e-300)
        self.init_, self.n_iter_ = name, len(history)
        self._dim_penalty = dim_penalty
        self._floor = noise_floor(X, [len(basis) for basis in bases])
        return labels

    def _warn(self, part, converged, history):
        if not converged:
            gain = abs(history[-1] - history[-2]) / abs(history[-2]) if len(history) > 1 else np.inf
            warnings.warn(
                f"No convergence in max_iter={self.max_iter} iterations: the last one changed the "
                f"objective by a share of {gain:.2g}, more than tol={self.tol:g}. Raise max_iter.",
                ConvergenceWarning,
                stacklevel=5,
            )
        if part.n_empty:
            warnings.warn(
                f"{part.n_empty} of {self.n_clusters} clusters are empty: the other subspaces "
                "explain all samples. Take fewer clusters or smaller subspaces.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _checked(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X - self.mean_

    def _noise_of(self, sigma, n_samples):
        """Return the noise variance for a standard deviation, not below rounding."""
        if sigma is None:
            return self.noise_variance_
        sigma = np.asarray(sigma, dtype=np.float64)
        if sigma.shape not in ((), (n_samples,)) or not (sigma >= 0).all():
            raise ValueError(
                "sigma must be a number >= 0 or one for each of the "
                f"n_samples={n_samples}, got {sigma if sigma.ndim == 0 else sigma.shape}."
            )
        if not np.isfinite(sigma).all():
            raise ValueError("sigma must be finite.")
        return np.maximum(sigma**2, 1e-4 * self._floor)

    def _mixture(self):
        return LowRankMixture(list(self.components_), self.signal_variances_, self.weights_)

    @staticmethod
    @validate_params(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "method": [StrOptions({"exact", "diffusion"})],
            "n_steps": [Interval(Integral, 1, None, closed="left")],
            "sigma_min": [Interval(Real, 0, None, closed="neither")],
            "sigma_max": [Interval(Real, 0, None, closed="neither")],
        },
        prefer_skip_nested_validation=True,
    )
    def _check_sampler(n_samples, method, n_steps, sigma_min, sigma_max):
        if sigma_min >= sigma_max:
            raise ValueError(f"sigma_min={sigma_min:g} must be below sigma_max={sigma_max:g}.")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

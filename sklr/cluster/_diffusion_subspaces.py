"""Clustering into subspaces as a mixture of low-rank Gaussians, with its diffusion model."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.cluster._low_rank_density import LowRankDensity
from sklr.cluster._subspace_choice import (
    Found,
    around_means,
    evidence,
    is_clear,
    nearest_means,
    weighted_rows,
)
from sklr.cluster._subspace_fit import fit_partition
from sklr.cluster._subspace_rows import bounded, distinct, nonzero
from sklr.cluster._subspaces import (
    denoising_descent,
    energies,
    hard_mixture,
    noise_floor,
    soft_em,
    spectra,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._threads import single_blas_thread, single_openmp_thread
from sklr.utils._validation import check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

# Dimension of subspaces by default, where there are more features.
_DEFAULT_DIM = 2
# Share of the mean in the energy of the rows from which the mean may be taken off.
_OFFSET = 0.9


def _with_fixed_signs(bases, variances):
    """Give each row the sign that makes its largest entry positive."""
    out = []
    for basis in bases:
        largest = np.abs(basis).argmax(axis=1)
        out.append(basis * np.sign(basis[np.arange(len(basis)), largest])[:, None])
    return out, variances


class DiffusionSubspaceClustering(
    ClassNamePrefixFeaturesOutMixin,
    LowRankDensity,
    TransformerMixin,
    ClusterMixin,
    DensityMixin,
    BaseEstimator,
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
    n_components : int, sequence of int, float, "gap" or None, default=None
        Dimension of the subspaces, or of each; None is two, and one for two features. A float
        in (0, 1) takes what explains this share of each cluster's energy; "gap" cuts each
        cluster's singular values at their largest drop.
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
    center : bool, "clusters" or "auto", default="auto"
        What the subspaces go through: the origin (False), the mean of the data (True), or each
        the mean of its own cluster, where clusters are places and not directions ("clusters":
        k-means and the leading directions around each mean). "auto" keeps subspaces through the
        origin where they are clearly found, and else takes what has the larger evidence (see
        Notes).
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
    spectrum : {"unit", "full"}, default="full"
        Variances inside the subspaces: one, as in the paper, or those of each cluster along its
        basis. "unit" is for data that were scaled to the paper's model; labels of the hard rule are
        the same.
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
    center_ : bool or "clusters"
        What the subspaces go through.
    mean_ : ndarray of shape (n_features,)
        Mean of the data; zero where subspaces go through the origin.
    means_ : ndarray of shape (n_clusters, n_features)
        What each subspace goes through: `mean_`, or the means of the clusters.
    objective_ : float
        Sum of the samples' squared projections on their own subspaces, from what these go
        through.
    objective_history_ : ndarray of shape (n_iter_,)
        What was maximised, by iteration: the objective (less a term for unequal dimensions), the
        mean log-likelihood with ``soft=True``; with ``solver="sgd"`` the loss, which falls. One
        number for k-means: minus its inertia.
    explained_variance_ratio_ : ndarray of shape (n_clusters,)
        Share of each cluster's energy inside its subspace.
    init_ : str
        The start that won, or "k-means".
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

    ``center="auto"`` keeps subspaces through the origin where labels are certain (probability
    0.99 on average, by the noise outside the subspaces), no two subspaces share more than 0.7 of
    their directions, and the mean of the data has less than 0.9 of their energy. Otherwise it also
    finds the clusters' means (and with such a mean, subspaces through it), and compares the
    evidence of the partitions (minus half of BIC) as Gaussians with d directions and a noise
    variance each.

    `predict` follows the rule that fitted the labels: nearest subspace, nearest mean around
    clusters' means, or with ``soft=True`` the most probable component. `predict_proba` also counts
    the weights, and can differ on samples near two subspaces. Zero rows lie in every subspace and
    go to the first cluster.

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
            None,
        ],
        "init": [StrOptions({"spectral", "angles", "sim", "random"})],
        "soft": ["boolean"],
        "orthogonal": ["boolean"],
        "noise_variance": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"ksubspaces", "sgd"})],
        "center": ["boolean", StrOptions({"auto", "clusters"})],
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
        n_components=None,
        *,
        init="spectral",
        soft=False,
        orthogonal=False,
        noise_variance="auto",
        solver="ksubspaces",
        center="auto",
        n_init=10,
        max_iter=300,
        tol=1e-6,
        max_norm=5.0,
        spectrum="full",
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
    def fit(self, X, y=None, sample_weight=None):
        """Find the subspaces.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each sample counts. Samples of weight zero get the labels of `predict`.

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
        X = X.astype(np.float64, copy=False)
        dims = self._check_sizes(X.shape, len(X))
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            self._check_sizes(X.shape, np.count_nonzero(weights))
            if self.solver == "sgd":
                raise ValueError("solver='sgd' takes no sample_weight: use solver='ksubspaces'.")
        # Fewer distinct rows than this may all fit exactly, and then copies say what belongs.
        rows, weights, index = distinct(X, weights, self.n_clusters * (dims.max() + 1))
        rng = np.random.default_rng(
            check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        )
        with single_blas_thread(), single_openmp_thread():
            found = self._find(rows, weights, rng)
            labels = self._keep(found, rng)
        self._n_features_out = int(self.n_components_.sum())
        if not found.inside.all():
            n_zero = int((X == self.mean_).all(axis=1).sum())
            warn_user(
                f"{n_zero} of {len(X)} rows are zero{' once centred' * bool(self.center_)} and lie "
                "in every subspace: they are assigned to the first cluster and left out of the fit."
            )
        if index is not None:
            without = index < 0
            labels = labels[index]
            if without.any():
                labels[without] = self._assigned(X[without] - self.mean_)
        self.labels_ = labels
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
        return self._assigned(self._checked(X))

    def _assigned(self, X):
        """Return labels of rows relative to `mean_`, by the rule that fitted them."""
        if self.soft:
            return self._mixture().posterior(X, self.noise_variance_).argmax(axis=1)
        if self._means is not None:
            return nearest_means(X, self._means)
        return (energies(X, list(self.components_)) - self._dim_penalty).argmax(axis=1)

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
        return self._mixture().coordinates(X - self.mean_).astype(X.dtype)

    def _rule(self, n_features):
        """Return what dimensions are wanted, the default resolved."""
        if self.n_components is None:
            return max(1, min(_DEFAULT_DIM, n_features - 1))
        return self.n_components

    def _check_sizes(self, shape, n):
        """Return the least dimensions; `n` samples are there."""
        p = shape[1]
        if n < self.n_clusters:
            with_weight = "" if n == shape[0] else " with a positive sample_weight"
            raise ValueError(
                f"n_samples={n}{with_weight} must be at least n_clusters={self.n_clusters}."
            )
        if self.n_components is None:
            dims = np.full(self.n_clusters, self._rule(p))
        elif np.ndim(self.n_components) > 0:
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
                f"{self.n_clusters} orthogonal subspaces with n_components={self._rule(p)} "
                f"need {dims.sum()} features, got n_features={p}; use orthogonal=False."
            )
        if self.solver == "sgd" and (self.soft or len(set(dims)) > 1):
            raise ValueError("solver='sgd' needs soft=False and subspaces of one dimension.")
        for name, value in (("orthogonal", self.orthogonal), ("solver", self.solver)):
            if self.center == "clusters" and value not in (False, "ksubspaces"):
                raise ValueError(
                    f"center='clusters' does not go with {name}={value!r}: give center=False."
                )
        return dims

    def _find(self, X, weights, rng):
        """Return the partition, with `center_` resolved."""
        center = self.center
        if not isinstance(center, str):
            self.center_ = bool(center)
            found = self._through_one_point(X, weights, self.center_, rng)
        elif center == "clusters":
            self.center_ = center
            found = self._around_means(X, weights, rng)
        else:
            self.center_, found = self._chosen(X, weights, rng)
        if found.means is None:
            share = found.offset
            if not self.center_ and self.n_clusters > 1 and share > _OFFSET:
                warn_user(
                    f"{share:.0%} of the energy of X is that of its mean, and subspaces go through "
                    "the origin: all of them are then near one direction. Set center=True, or drop "
                    "constant columns, unless the subspaces do go through the origin.",
                )
        return found

    def _chosen(self, X, weights, rng):
        """Return what the subspaces go through, and the partition, by the evidence."""
        first = self._through_one_point(X, weights, False, rng)
        if self.n_clusters == 1 or self.orthogonal or self.solver == "sgd":
            return False, first
        offset = first.offset > _OFFSET
        if not offset and is_clear(first):
            return False, first
        found = {False: first, "clusters": self._around_means(X, weights, rng)}
        if offset and (X != np.average(X, axis=0, weights=weights)).any(axis=1).all():
            found[True] = self._through_one_point(X, weights, True, rng)
        rows = X.copy()  # the same for all
        rows[first.inside] = first.rows
        dims = {center: [len(b) for b in f.part.bases] for center, f in found.items()}
        spread = rows - rows.mean(axis=0)
        floor = noise_floor(weighted_rows(spread, weights), dims[False], weights)
        merit = {
            center: evidence(rows, weights, f.labels(), dims[center], center, floor)
            for center, f in found.items()
        }
        best = max(merit, key=merit.get)  # the first of those that are equal
        return best, found[best]

    def _through_one_point(self, X, weights, centred, rng):
        """Find subspaces that all go through the origin, or through the mean."""
        mean = np.average(X, axis=0, weights=weights) if centred else np.zeros(X.shape[1])
        Y = X - mean if centred else X
        inside = nonzero(Y)
        n_zero = int((~inside).sum())
        if n_zero:
            if len(X) - n_zero < self.n_clusters:
                raise ValueError(
                    f"{n_zero} of n_samples={len(X)} rows are zero{' once centred' * centred}; "
                    f"the others are fewer than n_clusters={self.n_clusters}."
                )
            Y, weights = Y[inside], None if weights is None else weights[inside]
        Y, total = bounded(Y, self.max_norm, weights)
        part, name, penalty = fit_partition(
            weighted_rows(Y, weights),
            self.n_clusters,
            self._rule(X.shape[1]),
            init=self.init,
            n_init=self.n_init,
            rng=rng,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            weights=weights,
            **self._settings(),
        )
        found = Found(part, Y, weights, inside, mean, name, penalty)
        if total is not None:
            found.total = total if weights is None else total * weights
        return found

    def _around_means(self, X, weights, rng):
        """Find means, and a subspace around each."""
        center = np.median(X, axis=0)
        Y = X - center
        away = nonzero(Y)
        Y[away], _ = bounded(Y[away], self.max_norm, None if weights is None else weights[away])
        mean = center + np.average(Y, axis=0, weights=weights)
        Y -= mean - center
        part, means = around_means(
            Y,
            weights,
            self.n_clusters,
            self._rule(X.shape[1]),
            n_init=self.n_init,
            max_iter=self.max_iter,
            seed=int(rng.integers(np.iinfo(np.int32).max)),
        )
        # Labels of the rows as they are: those that were brought near may be nearer to another.
        part.labels = nearest_means(X - mean, means)
        return Found(part, Y, weights, np.ones(len(X), dtype=bool), mean, "k-means", 0.0, means)

    def _settings(self):
        return {"joint": self.orthogonal, "max_iter": self.max_iter, "tol": self.tol}

    def _keep(self, found, rng):
        """Fit the mixture of a partition, set the attributes, return labels of all rows."""
        part, X, weights = found.part, found.rows, found.weights
        labels, bases, history, converged = part.labels, part.bases, part.history, part.converged
        dims = [len(basis) for basis in bases]
        dim_penalty = found.penalty * np.array(dims)
        if self.solver == "sgd":
            scale = np.sqrt((X**2).sum() / (len(X) * dims[0]))
            bases, history, converged = denoising_descent(
                X / scale,
                bases,
                rng,
                joint=self.orthogonal,
                n_epochs=self.max_iter,
                tol=self.tol,
            )
            labels = (energies(X, bases) - dim_penalty).argmax(axis=1)
        if found.means is None:
            squares = found.squares() if bases is part.bases else None
            Y, known = weighted_rows(X, weights), {"squares": squares, "total": found.total}
        else:
            Y, known = found.centred(), {}
        energy = float(found.total.sum()) if found.means is None else None
        self._floor = noise_floor(Y, dims, weights, energy=energy)
        within = spectra(Y, labels, bases, weights, **known)
        mixture, noise = hard_mixture(
            within,
            self._floor,
            bases,
            spectrum=self.spectrum,
            noise=self.noise_variance,
            means=found.means,
        )
        if self.soft:
            mixture, noise, history, converged = soft_em(
                X,
                mixture,
                noise,
                floor=self._floor,
                spectrum=self.spectrum,
                fixed_noise=self.noise_variance != "auto",
                sample_weight=weights,
                **self._settings(),
            )
            labels = mixture.posterior(X, noise).argmax(axis=1)
            Y = X if mixture.means is None else X - mixture.means[labels]
            within = spectra(weighted_rows(Y, weights), labels, mixture.bases, weights)
        self._warn(part, converged, history)
        bases, variances = _with_fixed_signs(mixture.bases, mixture.variances)
        inside, outside, sizes = within
        captured = np.array([values.sum() for values in inside]) * sizes
        same = len({len(basis) for basis in bases}) == 1
        self.components_ = np.stack(bases) if same else bases
        self.n_components_ = np.array([len(basis) for basis in bases])
        self.weights_, self.mean_, self._means = mixture.weights, found.mean, mixture.means
        self.means_ = found.mean + (np.zeros((self.n_clusters, 1)) if self._means is None
                                    else self._means)  # fmt: skip
        self.signal_variances_, self.noise_variance_ = variances, noise
        self.objective_, self.objective_history_ = float(captured.sum()), np.array(history)
        self.explained_variance_ratio_ = captured / np.maximum(captured + outside, 1e-300)
        self.init_, self.n_iter_ = found.init, len(history)
        self._dim_penalty = dim_penalty
        found.part.labels = labels
        return found.labels()

    def _warn(self, part, converged, history):
        if not converged:
            gain = abs(history[-1] - history[-2]) / abs(history[-2]) if len(history) > 1 else np.inf
            warn_user(
                f"No convergence in max_iter={self.max_iter} iterations: the last one changed the "
                f"objective by a share of {gain:.2g}, more than tol={self.tol:g}. Raise max_iter.",
                ConvergenceWarning,
            )
        if part.n_empty:
            warn_user(
                f"{part.n_empty} of {self.n_clusters} clusters are empty: the others explain all "
                "samples. Take fewer clusters or smaller subspaces.",
                ConvergenceWarning,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

"""A density and a sampler for data on a low-dimensional set."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from sklr._torch._batches import refuse_datasets
from sklr._torch._modules import mlp
from sklr._torch._rng import derive_seeds
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._loop import Stage, TrainState
from sklr.neural_network._singular_law import draw_latents, fit_law, mixture_by_bic
from sklr.neural_network._singular_likelihood import (
    Cells,
    best_latents,
    best_sigma,
    bound_of,
    encoded,
    fit_weights,
    importance_bound,
    importance_terms,
    log_density,
    log_sigma,
    quadrature_loss,
)
from sklr.neural_network._singular_noise import FEWEST, noise_path, rate
from sklr.neural_network._singular_start import start
from sklr.utils._base import fit_context
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from torch import Tensor, nn

# First noise, in units of the scale. From 1 an encoder settles on a constant generator; quadrature
# cannot, and from .15 the first gradient is so large that Adam's steps stay short.
_FIRST_SIGMA = {"quadrature": 0.5, "iwae": 0.15}
# The noise has to fall by orders of magnitude: its learning rate, in learning rates, and how soon
# Adam forgets the large gradients of the begin.
_FASTER, _BETAS = 5.0, (0.9, 0.99)
# Samples of a step.
_BATCH = {"quadrature": 1000, "iwae": 100}
# Steps. Fewer leave an encoder behind, and samples set aside at a disadvantage.
_STEPS = {"quadrature": 600, "iwae": 1200}
# Cells by number of components.
_CELLS = {1: 200, 2: 625}
# Importance samples of score_samples, and samples that share a pass of them.
_SCORE_IMPORTANCE, _SCORE_ROWS = 500, 32
# Samples that the weights of latents are fitted to, at most.
_WEIGHED = 5000
# Columns whose spreads are further apart than this get a warning: the noise that is added, a
# twentieth of the scale or so, covers the small ones.
_UNLIKE = 50
# So does a scale of so many times what it is without a twentieth of the rows: outliers made it.
_OUTLYING = 2.0
# Steps and samples from which the density is compared with a mixture's on samples set aside for
# that, at most so many; a mixture that is ahead by less than this, in nats a sample, is no matter.
_COMPARED, _FEWEST_COMPARED, _HELD, _BEHIND = 300, 80, 1000, 0.1
# Different samples from which sigma is fitted to a quarter, set aside.
_FEWEST_HELD = 10
# What is expected of it before: the logarithm of sigma is normal, so far above what training finds,
# with such a spread. Of few samples one, where nothing was learnt, would decide alone.
_TIMES, _SPREAD = 1.0, 1.0
# So is this share of the variance, where the samples are off the set.
_LEFT_OUT = 0.1


class PerturbedGenerativeModel(
    DensityMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchEstimator
):
    r"""Density and sampler of data on a curve, a surface or another low-dimensional set.

    A network f draws samples from latents, :math:`x = f(z) + \sigma \epsilon`, and is fitted by
    maximum likelihood. On data without noise the likelihood has no bound, as sigma goes to 0, and
    the fit stops following where the mass is. So noise is added to the data, once, before the fit,
    and left out again when samples are drawn: they are f(z), on the set.

    Parameters
    ----------
    n_components : int, default=2
        Latents: the dimension of the set.
    noise_scale : float, "auto" or "rate", default="rate"
        Standard deviation of the noise that is added, in the unit of the data. "rate" is what
        theory says for smooth generators, :math:`n^{-1/(2 + d)} / 4` of the scale of the data for
        d components. "auto" tries none, and 2 % to 20 % of the scale, and takes what generates
        samples nearest to those set aside; six fits instead of one, for some hundreds of samples
        at least. Below 20 samples it is "rate".
    likelihood : {"auto", "quadrature", "iwae"}, default="auto"
        How the likelihood is computed: by quadrature over one or two latents, or as a bound from
        samples of an encoder (an importance weighted autoencoder). "auto" is quadrature where it
        can be.
    n_importance : int, default=5
        Samples of the encoder for each sample in training; 1 is a variational autoencoder.
    n_quadrature : int or "auto", default="auto"
        Cells of the quadrature, for two latents rounded to a square. "auto" is 200 for one, 625
        for two.
    standardize : bool, default=False
        Whether each feature gets unit variance; `noise_scale` and `sigma_` are in that unit then.
        False keeps angles and distances.
    latent_law : {{"fitted", "uniform"}}, default="fitted"
        Whether where there is more of the data is fitted once more when the generator is trained,
        which learns that slowly: as smooth weights of the cells, or for "iwae" as a mixture of
        normal distributions of what the encoder says. With "uniform" the latents keep the law that
        they are trained with, as in the paper: uniform, and for "iwae" normal.
    hidden_layer_sizes : array-like of int, default=(64, 64)
        Widths of the generator's hidden layers; the encoder has them backwards. Empty is linear.
    resample_noise : bool, default=False
        Whether noise is drawn anew in each step, not once.
    sigma_min : float, default=1e-3
        Least sigma, in units of the scale; what was added is another bound.
    learning_rate : float, default=3e-3
        First learning rate of Adam, which falls to 0; that of sigma is five times larger.
    max_iter : int or "auto", default="auto"
        Steps of the optimiser, each on `batch_size` samples. "auto" is 600, and 1200 for "iwae",
        whose steps are quick and whose encoder learns slowly. The first two thirds leave out a
        quarter of the samples, which say what sigma is, and what a mixture says more
        (`held_out_`); not below 300 steps.
    batch_size : int or "auto", default="auto"
        Samples of a step. "auto" is all, 1000 at most, for quadrature, and 100 for "iwae".
    validation_fraction : float, default=0.1
        Share of the samples set aside while ``noise_scale="auto"`` is chosen. The final fit has
        them too.
    n_jobs : int, default=None
        Processes for the fits of ``noise_scale="auto"``. Results do not depend on it.
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    noise_scale_ : float
        Standard deviation of the noise that was added.
    held_out_ : dict of str to float
        Mean log-density of a quarter of the samples (1000 at most), with the noise that was added,
        before they were trained on: of the "model" after two thirds of the steps, with the sigma
        that suits them, and of a Gaussian "mixture" by BIC. A warning says so where the mixture is
        clearly ahead. Empty below 80 samples or 300 steps.
    noise_path_ : dict of float to float
        What "auto" tried, and the energy distance to samples set aside; empty for the others.
    sigma_ : float
        Noise of the fitted model, in the unit of the data: what was added, what the data had, and
        how far samples that are not trained on are off what is generated. It is fitted to a quarter
        of the samples, set aside, where there are 10 different samples and 300 steps, and is no
        less than what training finds: few samples are followed too closely, and are no judges of
        that.
    likelihood_ : str
        "quadrature" or "iwae".
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the data.
    scale_ : float or ndarray of shape (n_features_in_,)
        What centred data are divided by: their root mean square; with `standardize` one a feature.
    module_ : torch.nn.ModuleDict
        "generator", "noise", and "encoder" for "iwae".
    generator_ : torch.nn.Module
        From latents to scaled samples.
    encoder_ : torch.nn.Module or None
        From scaled samples to means and log variances of latents.
    {loss_curve_}
    n_iter_ : int
        Steps done.
    n_features_in_ : int
        Features.
    {feature_names_in_}

    See Also
    --------
    sklearn.mixture.GaussianMixture : Where data fill the space.
    sklearn.neighbors.KernelDensity : Where they are few and near each other.
    sklr.metrics.wasserstein_distance_nd : How good samples are.
    sklr.metrics.energy_distance : The same, quicker.

    Notes
    -----
    A step costs O(batch n_quadrature n_features), or O(batch n_importance) passes. Likelihoods of
    data with different noise cannot be compared, and favour none: a search over `noise_scale` by
    ``score`` is misled; "auto" is not.

    References
    ----------
    .. [1] M. Chae, D. Kim, Y. Kim and L. Lin, "A likelihood approach to nonparametric estimation
       of a singular distribution using deep generative models", JMLR 24(77) (2023),
       arXiv:2105.04046.
    .. [2] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance weighted autoencoders", ICLR 2016,
       arXiv:1509.00519.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.neural_network import PerturbedGenerativeModel
    >>> angle = np.random.default_rng(0).uniform(0, 3, 100)
    >>> arc = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> model = PerturbedGenerativeModel(1, noise_scale=0.05, max_iter=60, random_state=0).fit(arc)
    >>> model.sample(5).shape
    (5, 2)
    >>> model.transform(arc).shape
    (100, 1)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "noise_scale": [StrOptions({"auto", "rate"}), Interval(Real, 0, None, closed="left")],
        "likelihood": [StrOptions({"auto", "quadrature", "iwae"})],
        "n_importance": [Interval(Integral, 1, None, closed="left")],
        "n_quadrature": [StrOptions({"auto"}), Interval(Integral, 4, None, closed="left")],
        "standardize": ["boolean"],
        "latent_law": [StrOptions({"fitted", "uniform"})],
        "resample_noise": ["boolean"],
        "sigma_min": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        **training_constraints(
            "hidden_layer_sizes",
            "learning_rate",
            "max_iter",
            "batch_size",
            "validation_fraction",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    }

    # Squares of distances are compared with those of the noise, down to the millionth part.
    _training_dtype = "float64"
    # Not where noises are tried.
    _compares = True
    _units_matter = False
    _network_parameters = ("n_components", "sigma_min")

    def __init__(
        self,
        n_components: int = 2,
        *,
        noise_scale: float | str = "rate",
        likelihood: str = "auto",
        n_importance: int = 5,
        n_quadrature: int | str = "auto",
        standardize: bool = False,
        latent_law: str = "fitted",
        hidden_layer_sizes: Sequence[int] = (64, 64),
        resample_noise: bool = False,
        sigma_min: float = 1e-3,
        learning_rate: float = 3e-3,
        max_iter: int | str = "auto",
        batch_size: int | str = "auto",
        validation_fraction: float = 0.1,
        n_jobs: int | None = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.n_components = n_components
        self.noise_scale = noise_scale
        self.likelihood = likelihood
        self.n_importance = n_importance
        self.n_quadrature = n_quadrature
        self.standardize = standardize
        self.latent_law = latent_law
        self.hidden_layer_sizes = hidden_layer_sizes
        self.resample_noise = resample_noise
        self.sigma_min = sigma_min
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> PerturbedGenerativeModel:
        """Fit the generator and its noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with self._ready_to_train():
            X = self._validate(X, reset=True)
            self._check_sizes(*X.shape)
            self._measure(X)
            self._draw_seed()
            self._choose_noise(X)
            S = self._scaled(X)
            self._repeats = np.unique(S, axis=0, return_inverse=True)[1].reshape(-1)
            if not self.resample_noise:
                seed = derive_seeds(self._seed, 5, 1)[0]
                S = S + self._added * np.random.default_rng(seed).standard_normal(S.shape)
            self._fit_network(S)
            if self.latent_law == "fitted":
                self._fit_law(self.module_, S)
            self._raise_sigma(self.module_)
        self.sigma_ = math.exp(float(log_sigma(self.module_).detach())) * self._unit()
        self._n_features_out = self.n_components
        if self.held_out_:
            self._warn_of_what_is_left_out(X.shape[1])
        return self

    def _fit_law(self, module: Any, S: np.ndarray) -> None:
        """Fit the law of the latents to what the trained network says of samples."""
        S = S[np.linspace(0, len(S) - 1, min(len(S), _WEIGHED)).astype(int)]
        x = self._tensor(S, next(module.parameters()).device)
        if self.likelihood_ == "quadrature":
            fit_weights(module, x, self._cells)
            return
        import torch

        seed = derive_seeds(self._seed, 7, 1)[0]
        with torch.no_grad():
            mean, log_variance = (part.cpu().double().numpy() for part in encoded(module, x))
        noise = np.random.default_rng(seed).standard_normal(mean.shape)
        fit_law(module, mean + np.exp(0.5 * log_variance) * noise, seed)

    def _raise_sigma(self, module: Any) -> None:
        """Set sigma to that of samples not seen, where it is larger."""
        import torch

        if self._sigma_not_seen:
            with torch.no_grad():
                log_sigma(module).clamp_(min=math.log(self._sigma_not_seen))

    def _warn_of_what_is_left_out(self, n_features: int) -> None:
        own = max(0.0, (self.sigma_ / self._unit()) ** 2 - self._added**2)
        share = own * (n_features - self.n_components) / n_features
        if share > _LEFT_OUT:
            warn_user(
                f"{100 * share:.0f} % of the variance is off the set of {self.n_components} "
                f"dimensions (noise fitted {self.sigma_:.3g}, added {self.noise_scale_:.3g}), and "
                "samples lack it: sample(noise=True) adds it; or raise n_components",
            )

    # Input.

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        refuse_datasets(X)
        return validate_data(self, X, y, reset=reset, dtype=np.float64, order="C")

    def _check_sizes(self, n_samples: int, n_features: int) -> None:
        d = self.n_components
        if d > n_features:
            raise ValueError(
                f"n_components={d} exceeds n_features={n_features}: a set in {n_features} "
                "dimensions has no more; lower n_components"
            )
        if n_samples == 1:
            raise ValueError("n_samples=1: one sample has no distribution; give 10 or more")
        if self.likelihood == "quadrature" and d > 2:
            raise ValueError(
                f"likelihood='quadrature' is for n_components of 1 or 2, got {d}: use 'iwae'"
            )
        if n_samples < 10:
            warn_user(
                f"n_samples={n_samples} is very little for a distribution: give 10 or more",
            )
        quadrature = self.likelihood == "quadrature" or (self.likelihood == "auto" and d <= 2)
        self.likelihood_ = "quadrature" if quadrature else "iwae"
        self._auto_batch_size = _BATCH[self.likelihood_]
        auto = self.max_iter == "auto"
        self._n_steps = _STEPS[self.likelihood_] if auto else int(self.max_iter)
        if quadrature:
            wanted: Any = _CELLS[d] if self.n_quadrature == "auto" else self.n_quadrature
            self._cells = Cells(d, max(2, round(wanted ** (1 / d))))

    def _measure(self, X: np.ndarray) -> None:
        """Set mean and scale, whatever the unit."""
        first = X[0]
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_ = first + (X - first).mean(axis=0)
            centred = X - self.mean_
            largest = float(np.abs(centred).max())
        size = float(np.abs(X).max())
        if not np.isfinite(largest):
            raise ValueError(f"values of X, up to {size:.3g}, are too far apart for a number")
        if largest <= 1e-13 * size or largest < 1e-290:
            raise ValueError(
                f"all {len(X)} samples are equal ({'to rounding' if largest else 'constant'}): "
                "there is no distribution to fit"
            )
        spreads = largest * np.sqrt(np.square(centred / largest).mean(axis=0))
        varied = spreads[spreads > 1e-13 * np.abs(self.mean_)]
        if self.standardize:
            self.scale_: Any = np.where(spreads > 1e-13 * np.abs(self.mean_), spreads, 1.0)
        else:
            self.scale_ = float(largest * np.sqrt(np.square(centred / largest).mean()))
            if varied.max() > _UNLIKE * varied.min():
                warn_user(
                    f"features have standard deviations from {varied.min():.3g} to "
                    f"{varied.max():.3g}: the small ones count for nothing; bring them to like "
                    "units, or set standardize=True",
                )
        self._warn_of_outliers(
            (X - np.median(X, axis=0)) / largest, largest, spreads > 1e-13 * np.abs(self.mean_)
        )

    def _warn_of_outliers(self, apart: np.ndarray, unit: float, varied: np.ndarray) -> None:
        """Warn where a few rows make the scale: of all, or of a feature with `standardize`."""
        if self.standardize:
            # Seldom values of a feature that else is constant are no outliers.
            far = np.abs(apart) * unit * (varied & (np.median(np.abs(apart), axis=0) > 0))
            scales, what = self.scale_, "standard deviation of feature "
        else:
            far = np.sqrt(np.square(apart).mean(axis=1, keepdims=True)) * unit
            scales, what = np.array([self.scale_]), "root mean square of X"
        others = np.sort(far, axis=0)[: max(1, int(0.95 * len(far)))]
        # In the unit of each, as squares of the least are 0.
        of_others = np.sqrt(np.square(others / scales).mean(axis=0))
        made = np.divide(1.0, of_others, out=np.zeros_like(of_others), where=of_others > 0)
        worst = int(made.argmax())
        if made[worst] > _OUTLYING:
            far = far[:, worst]
            warn_user(
                f"the {what}{worst if self.standardize else ''}, {scales[worst]:.3g}, is made by a "
                f"few outliers (row {int(far.argmax())} is {far.max():.3g} from the median, half "
                f"of the rows no more than {np.median(far):.3g}), and the other samples are fitted "
                "roughly: leave outliers out",
            )

    def _unit(self) -> float:
        """Return what one is, of `noise_scale` and `sigma_`, in the unit of those."""
        return 1.0 if self.standardize else self.scale_

    def _least_sigma(self) -> float:
        # What was added is there for certain; with less of it a generator goes through samples.
        return max(self.sigma_min, self._added)

    def _choose_noise(self, X: np.ndarray) -> None:
        self.noise_path_: dict[float, float] = {}
        unit = self._unit()
        if not isinstance(self.noise_scale, str):
            self.noise_scale_ = float(self.noise_scale)
        elif self.noise_scale == "rate" or len(X) < FEWEST:
            self.noise_scale_ = unit * rate(len(X), self.n_components)
        else:
            self.noise_path_ = noise_path(self, X, self.scale_, unit, self._seed)
            self.noise_scale_ = min(self.noise_path_, key=lambda noise: self.noise_path_[noise])
        self._added = self.noise_scale_ / unit

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        # Rounded, so that neither unit nor offset is seen.
        return ((X - self.mean_) / self.scale_).astype(np.float32).astype(np.float64)

    # Network and training.

    def _is_compared(self) -> bool:
        return self._compares and self._n_steps >= _COMPARED

    def _stages(self) -> list[Stage]:
        """Return two thirds of the steps without a quarter of the samples, and a third with all.

        The former show what the density is on samples not seen, beside a mixture's.
        """
        n_steps = self._n_steps
        if not self._is_compared():
            return [Stage(n_steps)]
        first = 2 * n_steps // 3
        return [
            Stage(first, name="compared"),
            Stage(n_steps - first, begin=self._compare),
        ]

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        import torch

        self.held_out_: dict[str, float] = {}
        order = torch.randperm(len(step.X), generator=step.shuffle)
        self._sigma_not_seen = 0.0
        counts = np.bincount(self._repeats)
        enough = self._is_compared() and len(counts) >= _FEWEST_HELD
        held = min(len(order) // 4, _HELD) if enough else 0
        if held and len(counts) < len(order):
            # Copies of what is set aside are so too; what many samples are is another matter.
            many = counts > max(len(order) // 10, 2 * len(order) / len(counts))
            single = np.arange(len(counts), len(counts) + len(order))
            groups = np.where(many[self._repeats], single, self._repeats)
            groups = np.unique(groups, return_inverse=True)[1]
            place = torch.randperm(int(groups.max()) + 1, generator=step.shuffle)[groups]
            order = order[place[order].argsort(stable=True)]
            held = int((place <= place[order[held - 1]]).sum())
        order = order.to(step.X.device)
        step.memory |= {"held": order[:held], "rows": order[held:].sort().values}
        if self.likelihood_ == "quadrature":
            seen = step.X[step.memory["rows"]]
            if self.resample_noise:
                noise = torch.randn(seen.shape, generator=step.generator, device=seen.device)
                seen = seen + self._added * noise.to(seen.dtype)
            options = self._least_sigma(), step.rng, self._optimizers, self._n_steps
            start(module, seen, self._cells, *options)

    def _compare(self, module: nn.Module, step: TrainState) -> None:
        """Fit sigma to samples not seen; warn where a mixture says much more of them."""
        import torch

        rows, held = (step.memory.pop(name) for name in ("rows", "held"))
        if not len(held):
            return
        S = step.X.cpu().double().numpy()
        if self.resample_noise:
            S = S + self._added * np.random.default_rng(self._seed).standard_normal(S.shape)
        seen, new = S[rows.cpu().numpy()], S[held.cpu().numpy()]
        trained = copy.deepcopy(module).eval()
        if self.latent_law == "fitted":
            self._fit_law(trained, seen)
        x = self._tensor(new, step.device)
        self._sigma_not_seen = self._fit_sigma(trained, x)
        if len(S) < _FEWEST_COMPARED:
            return
        self._raise_sigma(trained)
        with torch.no_grad():
            ours = self._log_density(trained, x).cpu().numpy()
        mixture = mixture_by_bic(seen[:_WEIGHED], derive_seeds(self._seed, 8, 1)[0], 1e-6)
        gain = mixture.score_samples(new) - ours
        volume = self._log_volume(S.shape[1])
        self.held_out_ = {
            "model": float(ours.mean()) - volume,
            "mixture": float((ours + gain).mean()) - volume,
        }
        behind = float(gain.mean())
        if behind > max(_BEHIND, 2 * float(gain.std()) / math.sqrt(len(gain))):
            warn_user(
                f"the mean log-density of {len(new)} samples not seen is "
                f"{self.held_out_['model']:.3g}, and {self.held_out_['mixture']:.3g} by "
                f"GaussianMixture({mixture.n_components}), {behind:.2g} more: take that (of "
                "sklearn.mixture) where the density is what you want; for points on the set "
                "try another n_components, another max_iter or more samples",
            )

    def _fit_sigma(self, module: Any, x: Tensor) -> float:
        """Return the sigma of samples not seen: the most likely, given what training found."""
        import torch

        noise = log_sigma(module)
        trained = float(noise.detach())
        expected, spread = trained + _TIMES, _SPREAD * math.sqrt(len(x))
        if self.likelihood_ == "iwae":
            draws = self._importance_noise(x)
            with torch.no_grad():
                parts = [importance_terms(module, part, draws) for part in x.split(_SCORE_ROWS)]
            squares, ratios = (torch.cat(terms, 1) for terms in zip(*parts, strict=True))

        def density(logarithm: float) -> float:
            with torch.no_grad():
                noise.fill_(logarithm)
                if self.likelihood_ == "quadrature":
                    mean = log_density(x, module, self._cells).mean()
                else:
                    mean = bound_of(squares, ratios, noise, x.shape[1]).mean()
            return float(mean) - 0.5 * ((logarithm - expected) / spread) ** 2

        found = best_sigma(density, self._least_sigma())
        with torch.no_grad():
            noise.fill_(trained)
        return found

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        import torch
        from torch import nn

        sizes = list(self.hidden_layer_sizes)
        first = math.log(max(_FIRST_SIGMA[self.likelihood_], self._least_sigma()))
        parts: dict[str, nn.Module] = {"generator": mlp(self.n_components, sizes, n_in)}
        noise = {"log_sigma": nn.Parameter(torch.tensor(first))}
        if self.likelihood_ == "quadrature":
            equal = torch.full((self._cells.number,), -math.log(self._cells.number))
            noise["log_weights"] = nn.Parameter(equal, requires_grad=False)
        else:
            parts["encoder"] = mlp(n_in, sizes[::-1], 2 * self.n_components)
        parts["noise"] = nn.ParameterDict(noise)
        return nn.ModuleDict(parts)

    def _optimizers(self, module: nn.Module) -> Any:
        import torch

        noise = log_sigma(module)
        weights = [p for p in module.parameters() if p.requires_grad and p is not noise]
        faster = {"params": [noise], "lr": _FASTER * self.learning_rate, "betas": _BETAS}
        groups: list[dict[str, Any]] = [{"params": weights}, faster]
        return torch.optim.Adam(groups, self.learning_rate)

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    def _batches(self, step: TrainState) -> Iterator[Any]:
        """Yield one batch: `max_iter` counts steps, whatever the number of samples."""
        import torch

        rows = step.memory["rows"] if step.stage.name == "compared" else None
        n = len(step.X) if rows is None else len(rows)
        size = min(n, step.batch_size)
        if size == n:
            yield slice(None) if rows is None else rows
            return
        left = step.memory.get("left", ())
        if len(left) < size:
            left = torch.randperm(n, generator=step.shuffle)
        step.memory["left"] = left[size:]
        yield left[:size].to(step.X.device) if rows is None else rows[left[:size].to(rows.device)]

    def _n_batches(self, step: TrainState) -> int:
        return 1

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=step.generator, dtype=xb.dtype, device=xb.device)

        if self.resample_noise:
            xb = xb + self._added * normal(*xb.shape)
        if self.likelihood_ == "quadrature":
            return quadrature_loss(module, xb, self._cells)
        noise = normal(self.n_importance, len(xb), self.n_components)
        return -importance_bound(module, xb, noise).mean()

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        loss = super()._step(module, xb, yb, step)
        with torch.no_grad():
            log_sigma(module).clamp_(min=math.log(self._least_sigma()))
        return loss

    # What a fitted model answers.

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-density of samples, with the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Log-density, in the unit of the data; for "iwae" a lower bound from 500 importance
            samples, the same for all samples and calls.
        """
        check_is_fitted(self)
        S = self._scaled(self._validate(X, reset=False))
        return self._infer(S, self._log_density) - self._log_volume(S.shape[1])

    def _log_volume(self, n_features: int) -> float:
        """Return the logarithm of the volume of one scaled unit, in the unit of the data."""
        return float(np.sum(np.log(np.broadcast_to(self.scale_, n_features))))

    def _log_density(self, module: nn.Module, x: Tensor) -> Tensor:
        import torch

        if self.likelihood_ == "quadrature":
            return log_density(x, module, self._cells)
        noise = self._importance_noise(x)
        return torch.cat([importance_bound(module, part, noise) for part in x.split(_SCORE_ROWS)])

    def _importance_noise(self, x: Tensor) -> Tensor:
        rng = np.random.default_rng(derive_seeds(self._seed, 6, 1)[0])
        return x.new_tensor(rng.standard_normal((_SCORE_IMPORTANCE, 1, self.n_components)))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-density of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Mean log-density. It favours small `noise_scale`, and must not choose it.
        """
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, *, noise: bool = False, random_state: Any = None
    ) -> np.ndarray:
        """Draw samples on the set, f(z).

        Parameters
        ----------
        n_samples : int, default=1
            Samples.
        noise : bool, default=False
            Whether noise of standard deviation `sigma_` is added.
        random_state : int, RandomState instance or None, default=None
            Seeds what is drawn; None takes the estimator's own, so that calls are alike where that
            is an integer.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, in the unit of the data.
        """
        check_is_fitted(self)
        if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer of at least 1, got {n_samples!r}")
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if self.likelihood_ == "quadrature":
            log_weights = self.module_["noise"]["log_weights"]  # type: ignore[index]
            Z = self._cells.draw(rng, n_samples, log_weights.exp().cpu().numpy())
        else:
            Z = draw_latents(self.module_, rng, n_samples, self.n_components)
        drawn = self.inverse_transform(Z)
        if noise:
            spread = self.sigma_ / self._unit() * self.scale_
            drawn = drawn + spread * rng.standard_normal(drawn.shape)
        return drawn

    def transform(self, X: Any) -> np.ndarray:
        """Return the latents of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            The most probable latents (quadrature), or the mean that the encoder says ("iwae").
        """
        check_is_fitted(self)
        S = self._scaled(self._validate(X, reset=False))
        if self.likelihood_ == "quadrature":
            return self._infer(S, lambda module, x: best_latents(x, module, self._cells))
        return self._infer(S, lambda module, x: encoded(module, x)[0])

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return what the generator makes of latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Latents.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Points on the set, in the unit of the data.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64, input_name="Z")
        if Z.shape[1] != self.n_components:
            raise ValueError(f"Z has {Z.shape[1]} columns, and n_components is {self.n_components}")
        made = self._infer(Z, lambda module, z: module["generator"](z))  # type: ignore[index]
        return made * self.scale_ + self.mean_

    def denoise(self, X: Any) -> np.ndarray:
        """Return the point of the set that each sample belongs to.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        X_clean : ndarray of shape (n_samples, n_features)
            ``inverse_transform(transform(X))``.
        """
        return self.inverse_transform(self.transform(X))

    @property
    def generator_(self) -> nn.Module:
        """From latents to scaled samples."""
        return self.module_["generator"]  # type: ignore[index]

    @property
    def encoder_(self) -> nn.Module | None:
        """From scaled samples to means and log variances of latents."""
        module: Any = self.module_
        return module["encoder"] if "encoder" in module else None

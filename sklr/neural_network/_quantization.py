"""A filter in front of classifiers: images through short binary codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from sklr._torch._batches import refuse_datasets
from sklr._torch._modules import evaluated
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._input import warn_caller
from sklr.neural_network._loop import TrainState
from sklr.neural_network._quantization_networks import (
    build_networks,
    draw_code_input,
    gradient_norms,
    hard_code,
    lipschitz_bound,
    rein_in,
    soft_code,
    spread_means,
)
from sklr.neural_network._transformer import TorchTransformerMixin
from sklr.utils._validation import validate_data

if TYPE_CHECKING:
    from torch import Tensor, nn

# Samples that the attributes are computed from, at most.
_LOOKED_AT = 2048


class LatentQuantizationFilter(OneToOneFeatureMixin, TorchTransformerMixin, TorchEstimator):
    r"""Clean images by drawing them anew from short binary codes.

    An encoder of bounded slope turns a sample into latent means :math:`\mu`; bit j says whether
    :math:`|\mu_j| < t`. A decoder that was trained on clean samples draws the sample anew from its
    bits. Small changes of a sample rarely flip a bit, and what comes out is always drawn by a
    decoder that has seen clean samples only. It needs neither labels, nor the classifier, nor
    examples of attacks, and stands in front of any classifier in a pipeline.

    **It is no defence against somebody who knows of it**: an attack through the filter gets past
    it (the user guide has the figures).

    Parameters
    ----------
    n_bits : int, default=128
        Bits of a code.
    threshold : float, default=0.3
        The t of the bits. The authors' code has 0.1, with a softness of 500 and 64 bits, which
        keeps less of the samples.
    softness : float, default=100.0
        Sharpness of the differentiable code that the encoder is trained through.
    recon_weight : float, default=2.5
        Weight of the reconstruction errors, which are counted in units of the mean variance of
        the features. The authors' 10, on the scale of [-1, 1], is about this for MNIST.
    lipschitz_weight : float, default=10.0
        Weight of the penalty on the encoder's slope; 0 leaves it out.
    lipschitz_target : float, default=0.1
        Slope that the penalty asks for, and the bound of "spectral". Samples are in [-1, 1] there.
    lipschitz : {{"sum", "random", "spectral"}}, default="sum"
        What the penalty looks at: the gradient of the sum of the latent means; of their sum with
        random weights of unit length, which signs cannot cancel; or none: "spectral" keeps the
        spectral norm of each layer of the encoder so low that the whole is never steeper than
        `lipschitz_target`, for :meth:`certified_radius`.
    feature_range : tuple (low, high) or "auto", default="auto"
        What is mapped to [-1, 1]; "auto" takes the smallest and the largest value of all
        training samples. Values beyond it are clipped in ``transform``.
    stochastic : bool, default=False
        Whether ``encode`` and ``transform`` draw the latent noise that training has, anew in each
        call.
    module : "conv", torch.nn.Module or callable, default=None
        The encoder: it makes a table from which two linear maps make means and variances. None is
        a perceptron of `hidden_layer_sizes`; "conv" a small convolutional network for images of
        shape (n_samples, n_channels, height, width), or for rows that are square images.
        {how_module_is_given}
    decoder : callable, default=None
        Called with `n_bits`, returns the Module that draws samples on the scale of [-1, 1] from
        codes of -1 and 1. None mirrors the encoder.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the hidden layers of the default encoder; the decoders have them backwards.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    {max_iter}
    batch_size : int or "auto", default=64
        Samples of a batch.
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    module_ : torch.nn.ModuleDict
        All networks: "trunk", "mean", "log_variance", "soft_decoder", "decoder".
    encoder_ : torch.nn.Module
        From samples on the scale of [-1, 1] to latent means.
    decoder_ : torch.nn.Module
        From codes of -1 and 1 to samples on the scale of [-1, 1].
    soft_decoder_ : torch.nn.Module
        The decoder of the differentiable codes, which the encoder was trained with.
    data_min_, data_max_ : float
        What is mapped to -1 and 1.
    bit_usage_ : ndarray of shape (n_bits,)
        How often each bit is 1 in (at most 2048 of) the training samples.
    gradient_norm_ : float
        Mean norm of the gradient of the sum of the latent means there.
    lipschitz_bound_ : float or None
        What the means' change over a change of the sample, both in Euclidean norm, cannot exceed,
        in the units of the samples: a product of spectral norms. None where `module` is given.
    loss_terms_ : dict of list of float
        Mean of "kl", "soft", "hard" and "lipschitz" in each epoch, without weights; errors of 1
        are those of the mean sample.
    {loss_curve_}
    {n_iter_}
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklearn.preprocessing.Binarizer : Rounds each feature to one bit: where samples are nearly
        black and white this is the better filter.
    sklearn.decomposition.PCA : The linear filter, ``inverse_transform(transform(X))``.

    Notes
    -----
    A step costs about four times that of an autoencoder of the same networks; filtering one pass
    of the encoder and one of the decoder. ``transform`` answers in float32 for float32.

    References
    ----------
    .. [1] V. Kyatham, M. Mishra, T. K. Yadav, D. Mishra and Prathosh A. P., "Variational inference
       with latent space quantization for adversarial resilience", arXiv:1903.09940.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklr.neural_network import LatentQuantizationFilter
    >>> X, _ = load_digits(return_X_y=True)
    >>> images = LatentQuantizationFilter(16, max_iter=3, random_state=0).fit(X[:300])
    >>> images.encode(X[:2]).shape
    (2, 16)
    >>> images.transform(X[:2]).shape
    (2, 64)
    """

    _parameter_constraints: dict = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="neither")],
        "softness": [Interval(Real, 0, None, closed="neither")],
        "recon_weight": [Interval(Real, 0, None, closed="neither")],
        "lipschitz_weight": [Interval(Real, 0, None, closed="left")],
        "lipschitz_target": [Interval(Real, 0, None, closed="neither")],
        "lipschitz": [StrOptions({"sum", "random", "spectral"})],
        "feature_range": [StrOptions({"auto"}), tuple, list],
        "stochastic": ["boolean"],
        "decoder": [callable, None],
        **training_constraints(
            "hidden_layer_sizes",
            "learning_rate",
            "max_iter",
            "batch_size",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
        "module": [StrOptions({"conv"}), callable, None],
    }

    _units_matter = False  # samples are scaled by their range
    _network_parameters = ("n_bits", "decoder", "feature_range", "lipschitz")

    def __init__(
        self,
        n_bits: int = 128,
        *,
        threshold: float = 0.3,
        softness: float = 100.0,
        recon_weight: float = 2.5,
        lipschitz_weight: float = 10.0,
        lipschitz_target: float = 0.1,
        lipschitz: str = "sum",
        feature_range: Any = "auto",
        stochastic: bool = False,
        module: Any = None,
        decoder: Callable[..., Any] | None = None,
        hidden_layer_sizes: Sequence[int] = (256,),
        learning_rate: float = 1e-3,
        max_iter: int = 50,
        batch_size: int | str = 64,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.n_bits = n_bits
        self.threshold = threshold
        self.softness = softness
        self.recon_weight = recon_weight
        self.lipschitz_weight = lipschitz_weight
        self.lipschitz_target = lipschitz_target
        self.lipschitz = lipschitz
        self.feature_range = feature_range
        self.stochastic = stochastic
        self.module = module
        self.decoder = decoder
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    # What users call.

    def transform(self, X: Any) -> np.ndarray:
        """Return the samples as the decoder draws them from their codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        filtered : ndarray of the shape of X
            Filtered samples, in the units of X.
        """
        filtered = self.decode(self.encode(X))
        return filtered.astype(np.float32) if _is_single(X) else filtered

    def encode(self, X: Any) -> np.ndarray:
        """Return the binary codes of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        codes : ndarray of uint8 of shape (n_samples, n_bits)
            1 where the latent mean is nearer to 0 than `threshold`.
        """
        latent = self._latent(X)
        means = latent[:, 0]
        if self.stochastic:
            drawn = np.random.default_rng().standard_normal(means.shape)
            means = means + self.threshold / 2 * np.exp(latent[:, 1] / 2) * drawn
        return (np.abs(means) <= self.threshold).astype(np.uint8)

    def decode(self, codes: Any) -> np.ndarray:
        """Return what the decoder draws from binary codes.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes of 0 and 1.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples, in the units of the training samples.
        """
        check_is_fitted(self)
        codes = check_array(codes, dtype=np.float64)
        n_bits = _part(self.module_, "mean").out_features
        if codes.shape[1] != n_bits or not np.isin(codes, (0, 1)).all():
            raise ValueError(
                f"codes must have {n_bits} columns of 0 and 1, got shape {codes.shape} with values "
                f"from {codes.min():.4g} to {codes.max():.4g}"
            )
        drawn = self._infer(2 * codes - 1, lambda module, b: _part(module, "decoder")(b))
        width = self.data_max_ - self.data_min_
        filtered = self.data_min_ + width * (0.5 + 0.5 * drawn)
        return filtered.reshape(-1, *self._sample_shape)

    def reconstruction_error(self, X: Any) -> np.ndarray:
        """Return the mean squared difference of each sample and its filtered self.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        errors : ndarray of shape (n_samples,)
            Mean squared errors in squared units of X; a large one says that a sample is unlike
            those of the training.
        """
        check_is_fitted(self)
        difference = self._checked(X, reset=False) - self.decode(self.encode(X))
        return (difference**2).reshape(len(difference), -1).mean(axis=1)

    def bit_flips(self, X: Any, X2: Any) -> np.ndarray:
        """Return which share of the bits differs between pairs of samples.

        Parameters
        ----------
        X, X2 : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, \
width)
            Samples, and as many others (attacked, noisy).

        Returns
        -------
        flips : ndarray of shape (n_samples,)
            Share of different bits of each pair.
        """
        first, second = self.encode(X), self.encode(X2)
        check_consistent_length(first, second)
        return (first != second).mean(axis=1)

    def certified_radius(self, X: Any) -> np.ndarray:
        """Return how far each sample can be moved, in Euclidean norm, before a bit may flip.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        radii : ndarray of shape (n_samples,)
            No change of smaller norm changes the filtered sample: the least distance of a latent
            mean to the threshold over `lipschitz_bound_`. With ``lipschitz="spectral"`` this is
            tighter.
        """
        means = self._latent(X)[:, 0]
        if self.lipschitz_bound_ is None:
            raise ValueError(
                "certified_radius needs the default encoder: no bound on the slope of a given "
                "module is known"
            )
        margins = np.abs(np.abs(means) - self.threshold).min(axis=1)
        return margins / max(self.lipschitz_bound_, np.finfo(float).tiny)

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the mean squared error of the filtered samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Minus the mean of :meth:`reconstruction_error`.
        """
        return -float(self.reconstruction_error(X).mean())

    @property
    def encoder_(self) -> nn.Module:
        """From samples on the scale of [-1, 1] to latent means."""
        from torch import nn

        return nn.Sequential(_part(self.module_, "trunk"), _part(self.module_, "mean"))

    @property
    def decoder_(self) -> nn.Module:
        """From codes of -1 and 1 to samples on the scale of [-1, 1]."""
        return _part(self.module_, "decoder")

    @property
    def soft_decoder_(self) -> nn.Module:
        """The decoder of the differentiable codes."""
        return _part(self.module_, "soft_decoder")

    # Input: samples come to the networks in [-1, 1], rounded to float32 there, so that neither
    # their unit nor their offset is seen.

    def _allow_nd(self) -> bool:
        return True

    def _allow_integers(self) -> bool:
        return False

    def _checked(self, X: Any, *, reset: bool) -> np.ndarray:
        """Return samples in their own units."""
        refuse_datasets(X)
        X = validate_data(self, X, reset=reset, dtype=np.float64, allow_nd=True, order="C")
        if X.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {X.ndim} dimensions, shape {X.shape}"
            )
        if 0 in X.shape[1:]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        known = getattr(self, "_sample_shape", None)
        if not reset and known is not None and X.shape[1:] != known:
            raise ValueError(
                f"X has samples of shape {X.shape[1:]}, but {type(self).__name__} was fitted on "
                f"samples of shape {known}"
            )
        return X

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        X = self._checked(X, reset=reset)
        if reset:
            self._learn_range(X)
        else:
            self._look_at_range(X)
        middle, half = (0.5 * self.data_max_ + 0.5 * self.data_min_), self._half()
        return np.clip((X - middle) / half, -1, 1).astype(np.float32).astype(np.float64)

    def _half(self) -> float:
        return 0.5 * self.data_max_ - 0.5 * self.data_min_

    def _learn_range(self, X: np.ndarray) -> None:
        least, most = float(X.min()), float(X.max())
        if not isinstance(self.feature_range, str):
            low, high = _pair(self.feature_range)
            if least < low or most > high:
                raise ValueError(
                    f"X has values from {least:.6g} to {most:.6g}, outside "
                    f"feature_range=({low:.6g}, {high:.6g}): scale X, or set feature_range='auto'"
                )
            least, most = low, high
        if least == most:
            raise ValueError(
                f"all values of X are {least:.6g}: there is nothing to encode; give samples that "
                "differ, or n_samples = 1 or n_features = 1 is too little"
            )
        self.data_min_, self.data_max_ = least, most
        if self._half() == 0:
            raise ValueError(f"the values of X, {least!r} to {most!r}, differ by rounding only")

    def _look_at_range(self, X: np.ndarray) -> None:
        """Warn of samples on another scale: clipping would hide it."""
        least, most, width = float(X.min()), float(X.max()), 2 * self._half()
        if most > self.data_max_ + width or least < self.data_min_ - width:
            found = "far outside"
        elif 0 < most - least < 0.01 * width:
            found = "all within a hundredth of"
        else:
            return
        warn_caller(
            f"X has values from {least:.4g} to {most:.4g}, {found} the range of the training "
            f"samples, {self.data_min_:.4g} to {self.data_max_:.4g}, to which they are clipped: "
            "are they on the same scale?",
            UserWarning,
        )

    # Networks and loss.

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        # One sample, or many equal ones, has none.
        self._variance = max(float(X.var(axis=0).mean()), 1e-6)

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        return build_networks(n_in, self.n_bits, self.hidden_layer_sizes, self.module, self.decoder)

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        drawn = evaluated(_part(module, "decoder"), X.new_ones(2, self.n_bits), what="decoder")
        if drawn[0].numel() != X[0].numel() or len(drawn) != 2:
            raise ValueError(
                f"decoder returns shape {tuple(drawn.shape)} for 2 codes; it must return 2 samples "
                f"of {X[0].numel()} values"
            )

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        penalised = (
            self.lipschitz != "spectral" and self.lipschitz_weight > 0 and torch.is_grad_enabled()
        )
        x = xb.detach().requires_grad_(penalised)
        features = _part(module, "trunk")(x)
        mean, log_variance = (
            _part(module, "mean")(features),
            _part(module, "log_variance")(features),
        )
        z = draw_code_input(mean, log_variance, self.threshold, step.generator)
        wanted = xb.flatten(1)
        soft = _part(module, "soft_decoder")(soft_code(z, self.threshold, self.softness)).flatten(1)
        hard = _part(module, "decoder")(hard_code(z.detach(), self.threshold)).flatten(1)
        terms = {
            "kl": -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean(),
            "soft": ((soft - wanted) ** 2).mean() / self._variance,
            "hard": ((hard - wanted) ** 2).mean() / self._variance,
        }
        loss = terms["kl"] + self.recon_weight * (terms["soft"] + terms["hard"])
        if penalised:
            norms = gradient_norms(mean, x, self.lipschitz, step.generator)
            terms["lipschitz"] = ((self.lipschitz_target - norms) ** 2).mean()
            loss = loss + self.lipschitz_weight * terms["lipschitz"]
        for name, value in terms.items():
            step.log(name, value)
        return loss

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        if not step.loss_curve:
            spread_means(module, step.X[:_LOOKED_AT], self.threshold / 3)
        if self.lipschitz == "spectral":
            if self.module is not None:
                raise ValueError(
                    "lipschitz='spectral' needs the default encoder (module=None): spectral norms "
                    "of other layers are not known"
                )
            rein_in(module, self.lipschitz_target, step.memory, exact=True)

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        loss = super()._step(module, xb, yb, step)
        if self.lipschitz == "spectral":
            rein_in(module, self.lipschitz_target, step.memory)
        return loss

    def _count_features(self, X: np.ndarray) -> None:
        """Set the attributes that a look at the training samples gives."""
        import torch

        if self.lipschitz == "spectral":
            rein_in(self.module_, self.lipschitz_target, {}, exact=True)
        self._n_features_out = X.shape[1]
        some = X[:_LOOKED_AT]
        means = self._infer(some, lambda m, x: _part(m, "mean")(_part(m, "trunk")(x)))
        bits = np.abs(means) <= self.threshold
        self.bit_usage_ = bits.mean(axis=0)
        bound = lipschitz_bound(self.module_) if self.module is None else None
        self.lipschitz_bound_ = None if bound is None else bound / self._half()
        first = next(self.module_.parameters())
        x = torch.tensor(some, dtype=first.dtype, device=first.device).requires_grad_()
        with torch.enable_grad():
            mean = _part(self.module_, "mean")(_part(self.module_, "trunk")(x))
            self.gradient_norm_ = float(gradient_norms(mean, x, "sum", None).mean().detach())
        if len(some) > 1 and (bits == bits[0]).all() and (some != some[0]).any():
            warn_caller(
                f"all {len(some)} samples looked at have one code, so that transform returns one "
                f"and the same sample after n_iter_={self.n_iter_} epochs: raise max_iter, "
                "recon_weight or n_bits",
                UserWarning,
            )

    def _latent(self, X: Any) -> np.ndarray:
        """Return latent means and log variances, of shape (n_samples, 2, n_bits)."""
        check_is_fitted(self)

        def function(module: nn.Module, x: Tensor) -> Tensor:
            import torch

            features = _part(module, "trunk")(x)
            return torch.stack(
                [_part(module, "mean")(features), _part(module, "log_variance")(features)], 1
            )

        return self._infer(self._validate(X, reset=False), function)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.non_deterministic = bool(self.stochastic)
        return tags


def _part(module: Any, name: str) -> Any:
    return module[name]


def _pair(feature_range: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in feature_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"feature_range must be 'auto' or two finite numbers (low, high) with low < high, got "
            f"{feature_range!r}"
        )
    return low, high


def _is_single(X: Any) -> bool:
    """Return whether samples are float32 (a frame: all of its columns)."""
    kinds = getattr(X, "dtypes", None)
    if kinds is not None:
        return all(kind == np.float32 for kind in np.atleast_1d(kinds))
    return getattr(X, "dtype", None) == np.float32

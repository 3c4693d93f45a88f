"""A filter in front of classifiers: images through short binary codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._quantization_networks import part
from sklr.neural_network._quantization_training import QuantizationTraining
from sklr.neural_network._transformer import TorchTransformerMixin

if TYPE_CHECKING:
    from torch import Tensor, nn


# The training stands left of the mixin, some of whose hooks it writes.
class LatentQuantizationFilter(
    OneToOneFeatureMixin, QuantizationTraining, TorchTransformerMixin, TorchEstimator
):
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
    lipschitz : {"sum", "random", "spectral"}, default="sum"
        What the penalty looks at: the gradient of the sum of the latent means; of their sum with
        random weights of unit length, which signs cannot cancel; or none: "spectral" keeps the
        spectral norm of each layer of the encoder so low that the whole is never steeper than
        `lipschitz_target`, for :meth:`certified_radius`.
    feature_range : tuple (low, high), "auto" or "sample", default="sample"
        What is mapped to [-1, 1]. "sample" takes the smallest and the largest value of each
        sample, to which ``transform`` maps back, so that neither brightness nor contrast of an
        image is seen. "auto" takes the smallest and the largest value of all training samples:
        for samples with single values far off, and for codes that tell brightness. Values beyond
        it, or beyond (low, high), are clipped in ``transform``.
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
        What is mapped to -1 and 1; with ``feature_range="sample"`` the smallest and the largest
        value of the training samples, between which ``decode`` draws.
    bit_usage_ : ndarray of shape (n_bits,)
        How often each bit is 1 in (at most 2048 of) the training samples.
    gradient_norm_ : float
        Mean norm of the gradient of the sum of the latent means there.
    lipschitz_bound_ : float or None
        What the means' change over a change of the sample, both in Euclidean norm, cannot exceed,
        in the units of the samples (on the scale of [-1, 1] with ``feature_range="sample"``): a
        product of spectral norms. None where `module` is given.
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
        "feature_range": [StrOptions({"auto", "sample"}), tuple, list],
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
        feature_range: Any = "sample",
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
        _, filtered = self._filtered(X)
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
        return self._codes(self._looked_at(X))

    def decode(self, codes: Any) -> np.ndarray:
        """Return what the decoder draws from binary codes.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes of 0 and 1.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples, in the units of the training samples. With ``feature_range="sample"``
            ``transform`` draws the same on the range of each of its samples.
        """
        check_is_fitted(self)
        codes = check_array(codes, dtype=np.float64)
        n_bits = part(self.module_, "mean").out_features
        if codes.shape[1] != n_bits or not np.isin(codes, (0, 1)).all():
            raise ValueError(
                f"codes must have {n_bits} columns of 0 and 1, got shape {codes.shape} with values "
                f"from {codes.min():.4g} to {codes.max():.4g}"
            )
        return self._drawn(codes, self.data_min_, self.data_max_)

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
        X, filtered = self._filtered(X)
        return ((X - filtered) ** 2).reshape(len(X), -1).mean(axis=1)

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
        r"""Return how far each sample can be moved, in Euclidean norm, before a bit may flip.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        radii : ndarray of shape (n_samples,)
            No change of smaller norm changes the code: the least distance of a latent mean to
            the threshold over `lipschitz_bound_`. With ``lipschitz="spectral"`` this is tighter.
            With ``feature_range="sample"`` it counts in that a change moves the range of the
            sample, which makes it about :math:`1 + \sqrt d` times smaller, of d features.
        """
        X = self._looked_at(X)
        means = self._latent(X)[:, 0]
        if self.lipschitz_bound_ is None:
            raise ValueError(
                "certified_radius needs the default encoder: no bound on the slope of a given "
                "module is known"
            )
        margins = np.abs(np.abs(means) - self.threshold).min(axis=1)
        bound = max(self.lipschitz_bound_, np.finfo(float).tiny)
        if not self._by_sample:
            return margins / bound
        # A change of norm r moves both ends by at most r and makes the range narrower by at most
        # sqrt(2) r, so that the scaled sample moves by 2 (1 + sqrt(d)) r / (range - sqrt(2) r).
        low, high = self._ends(X)
        spread = 1 + np.sqrt(X[0].size)
        return margins * (high - low).ravel() / (2 * bound * spread + np.sqrt(2) * margins)

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

        return nn.Sequential(part(self.module_, "trunk"), part(self.module_, "mean"))

    @property
    def decoder_(self) -> nn.Module:
        """From codes of -1 and 1 to samples on the scale of [-1, 1]."""
        return part(self.module_, "decoder")

    @property
    def soft_decoder_(self) -> nn.Module:
        """The decoder of the differentiable codes."""
        return part(self.module_, "soft_decoder")

    def _drawn(self, codes: np.ndarray, low: Any, high: Any) -> np.ndarray:
        """Return what the decoder draws from codes of 0 and 1, from `low` to `high`."""
        drawn = self._infer(2.0 * codes - 1, lambda module, b: part(module, "decoder")(b))
        return low + (high - low) * (0.5 + 0.5 * drawn.reshape(-1, *self._sample_shape))

    def _filtered(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return samples and their filtered selves, as float64."""
        X = self._looked_at(X)
        return X, self._drawn(self._codes(X), *self._ends(X))

    def _looked_at(self, X: Any) -> np.ndarray:
        """Return checked samples in their own units."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        self._look_at_range(X)
        return X

    def _codes(self, X: np.ndarray) -> np.ndarray:
        """Return the codes of checked samples."""
        latent = self._latent(X)
        means = latent[:, 0]
        if self.stochastic:
            drawn = np.random.default_rng().standard_normal(means.shape)
            means = means + self.threshold / 2 * np.exp(latent[:, 1] / 2) * drawn
        return (np.abs(means) <= self.threshold).astype(np.uint8)

    def _latent(self, X: np.ndarray) -> np.ndarray:
        """Return latent means and log variances, of shape (n_samples, 2, n_bits)."""

        def function(module: nn.Module, x: Tensor) -> Tensor:
            import torch

            features = part(module, "trunk")(x)
            return torch.stack(
                [part(module, "mean")(features), part(module, "log_variance")(features)], 1
            )

        return self._infer(self._scaled(X), function)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.non_deterministic = bool(self.stochastic)
        return tags


def _is_single(X: Any) -> bool:
    """Return whether samples are float32 (a frame: all of its columns)."""
    kinds = getattr(X, "dtypes", None)
    if kinds is not None:
        return all(kind == np.float32 for kind in np.atleast_1d(kinds))
    return getattr(X, "dtype", None) == np.float32

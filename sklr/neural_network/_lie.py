"""A classifier of images whose convolutions know rotations, shears and scales."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import affine_transform
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import refuse_datasets
from sklr._torch._rng import derive_seeds
from sklr.geometry import sample_group
from sklr.geometry._polar import GROUPS
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import TrainState
from sklr.neural_network._solvers import make_optimizer
from sklr.utils._base import fit_context
from sklr.utils._validation import validate_data

if TYPE_CHECKING:
    from torch import Tensor, nn

# Largest shift of augment="group" along an axis, as a part of the image.
_SHIFT = 0.1


class LieGroupConvClassifier(TorchClassifierMixin, TorchEstimator):
    r"""Classifier of images that holds on rotated, sheared and scaled ones, seeing upright ones.

    Each convolution has one learnt kernel, turned and stretched by a fixed set of plane maps; a
    rotated image gives rotated feature maps, permuted among the maps, and pooling over places and
    maps gives features that hardly change. In training images are moved by further maps of the same
    kind (`augment`). With ``max_angle=180`` it holds at all angles, and quarter turns of square
    images change nothing at all (with a multiple of four maps).

    Parameters
    ----------
    group : {"so2", "scale_rotation", "sl2", "gl2"}, default="gl2"
        What the kernels are moved by: rotations; rotations times a common scale; maps of
        determinant 1 (rotations, shears, squeezes); all maps of positive determinant.
    n_group_samples : int, default=4
        Number of plane maps. Training time grows with it, and with its square in part.
    n_channels : int, default=16
        Channels of the first layer, for each plane map; each block has twice as many as the one
        before it.
    kernel_size : int, default=5
        Pixels along a side of the kernels.
    n_blocks : int, default=2
        Group convolutions after the first layer.
    spread : float, default=0.15
        Standard deviation of the logarithms of the stretch among the plane maps.
    max_angle : float, default=30.0
        Largest angle of the plane maps in degrees, in both senses. 180 is for images of any angle;
        what only the angle tells apart (6 and 9) is then one thing.
    pool : {"max", "mean"}, default="max"
        What is taken of each feature over all places and maps.
    dropout : float, default=0.0
        Probability that an invariant feature is hidden in training.
    image_shape : tuple of int, default=None
        Height and width, or channels, height and width, of images that come as rows of a table.
        None takes rows as square images of one channel.
    augment : "group", callable or None, default="group"
        How images are changed in each training step. "group" moves each by a map of its own, drawn
        from the whole of `group` with `spread` and `max_angle`, and by up to a tenth of its sides:
        the plane maps are few, and leave out what is between them. A callable is called with images
        of shape (n_samples, n_channels, height, width), whose background is zero, and a
        ``torch.Generator``, and returns them changed; :class:`~sklr.nn.RandomAffine2d` is such.
        None takes them as they are.
    learning_rate : float, default=0.01
        First learning rate of AdamW; it falls to 0 along a cosine in `max_iter` epochs.
    weight_decay : float, default=5e-4
        Weight decay.
    {max_iter}
    batch_size : int or "auto", default=16
        Images of a batch.
    {class_weight}
    {early_stopping}
    {validation_fraction}
    {n_iter_no_change}
    {tol}
    {dtype}
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    {classes_}
    module_ : torch.nn.Module
        The trained network; ``module_.set_elements`` gives it other plane maps.
    group_samples_ : ndarray of shape (n_group_samples, 2, 2)
        The plane maps, which act on places (x, y) with y down.
    background_ : ndarray of shape (n_channels,)
        What is subtracted from each channel: the median of the pixels on the images' border.
    scale_ : ndarray of shape (n_channels,)
        What each channel is divided by: the root mean square of the rest.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}
    n_features_in_ : int
        Length of the second axis of `X`.

    See Also
    --------
    sklr.nn.GroupConv2d : The layer.
    sklr.nn.RandomAffine2d : For `augment`; and for a plain network, mostly the better choice where
        images can be augmented.
    sklearn.neural_network.MLPClassifier : Where images are always upright.

    Notes
    -----
    Images are taken relative to their background, in which rotated images are embedded. Gain and
    offset of all images do not matter, nor does the gain of a single one on a dark background.

    The kernels are products of one in places and one in maps. For N maps and C channels a place
    costs :math:`O(N^2 C^2 + N C k^2)`.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklr.neural_network import LieGroupConvClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> X = X.reshape(-1, 8, 8)
    >>> model = LieGroupConvClassifier(n_channels=4, max_angle=180, max_iter=3, random_state=0)
    >>> model = model.fit(X[:200], y[:200])
    >>> upright, turned = X[200:], np.rot90(X[200:], axes=(1, 2))
    >>> bool(np.all(model.predict(upright) == model.predict(turned)))
    True
    """

    _parameter_constraints: dict = {
        "group": [StrOptions(set(GROUPS))],
        "n_group_samples": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        "n_blocks": [Interval(Integral, 1, 8, closed="both")],
        "spread": [Interval(Real, 0, None, closed="left")],
        "max_angle": [Interval(Real, 0, 180, closed="both")],
        "pool": [StrOptions({"max", "mean"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "image_shape": ["array-like", None],
        "augment": [StrOptions({"group"}), callable, None],
        **training_constraints(
            "learning_rate",
            "weight_decay",
            "max_iter",
            "batch_size",
            "class_weight",
            "early_stopping",
            "validation_fraction",
            "n_iter_no_change",
            "tol",
            "dtype",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }

    _network_parameters = (
        "group",
        "n_group_samples",
        "n_channels",
        "kernel_size",
        "n_blocks",
        "spread",
        "max_angle",
        "pool",
        "dropout",
        "image_shape",
    )
    _units_matter = False

    def __init__(
        self,
        group: str = "gl2",
        *,
        n_group_samples: int = 4,
        n_channels: int = 16,
        kernel_size: int = 5,
        n_blocks: int = 2,
        spread: float = 0.15,
        max_angle: float = 30.0,
        pool: str = "max",
        dropout: float = 0.0,
        image_shape: Any = None,
        augment: Any = "group",
        learning_rate: float = 1e-2,
        weight_decay: float = 5e-4,
        max_iter: int = 50,
        batch_size: int | str = 16,
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.group = group
        self.n_group_samples = n_group_samples
        self.n_channels = n_channels
        self.kernel_size = kernel_size
        self.n_blocks = n_blocks
        self.spread = spread
        self.max_angle = max_angle
        self.pool = pool
        self.dropout = dropout
        self.image_shape = image_shape
        self.augment = augment
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, n_channels, height, \
width)
            Images; or rows (n_samples, n_pixels), see `image_shape`.
        y : array-like of shape (n_samples,)
            Labels.
        X_val : array-like of shape (n_validation, ...), default=None
            Images that are scored after each epoch; ``early_stopping`` uses them instead of
            setting some of `X` aside.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._check_batch_size()
        return self._fit_classes(X, y, None, X_val, y_val)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Train for one more epoch on some images; the optimiser goes on where it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, n_channels, height, \
width)
            Images. Background and scale are those of the first call.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be seen; needed on the first call.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        self._check_batch_size()
        return super().partial_fit(X, y, classes=classes)

    def invariant_features(self, X: Any) -> np.ndarray:
        """Return the features that the classes are told apart by.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, n_channels, height, \
width)
            Images.

        Returns
        -------
        features : ndarray of shape (n_samples, n_channels * 2 ** n_blocks)
            Features; over the training images they have about mean 0 and variance 1.
        """
        check_is_fitted(self)
        return self._infer(
            self._validate(X, reset=False), lambda module, batch: _of(module).embed(batch)
        )

    def equivariance_error(self, X: Any, H: Any) -> np.ndarray:
        """Return how much a map of the plane changes the features of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width) or (n_samples, n_channels, height, \
width)
            Images.
        H : array-like of shape (2, 2)
            The map, of positive determinant, around the middle of the image; it acts on places
            (x, y) with y down. Grey values are interpolated linearly, and what comes from outside
            is the background.

        Returns
        -------
        errors : ndarray of shape (n_samples,)
            0 where nothing changes; 1 where the mapped image is as far from the image as two
            training images are from each other.
        """
        check_is_fitted(self)
        H = np.asarray(H, dtype=np.float64)
        if H.shape != (2, 2) or not np.isfinite(H).all() or not np.linalg.det(H) > 0:
            raise ValueError(
                f"H must be a 2 x 2 matrix of positive determinant, got {H.tolist()!r}"
            )
        images = self._validate(X, reset=False)
        mapped = _mapped(images.reshape(-1, *self._shape()), H).reshape(images.shape)

        def embed(batch: np.ndarray) -> np.ndarray:
            return self._infer(batch, lambda module, b: _of(module).embed(b))

        difference = embed(mapped) - embed(images)
        return np.sqrt((difference**2).mean(axis=1) / 2)

    # Input: images come to the network relative to their background.

    def _dtypes(self) -> tuple[str, str]:
        training, _ = super()._dtypes()
        return training, training

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        refuse_datasets(X)
        out = validate_data(self, X, y, reset=reset, dtype=np.float64, allow_nd=True, order="C")
        found = out[0] if isinstance(out, tuple) else out
        if found.ndim > 2 and 0 in found.shape[1:]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={found.shape[:2]}) while a minimum of 1 is "
                f"required: images of shape {found.shape[1:]} have no pixels."
            )
        shape = self._image_shape_of(found)
        known = getattr(self, "_sample_shape", None)
        if not reset and known is not None and found.shape[1:] != known:
            raise ValueError(
                f"X has samples of shape {found.shape[1:]}, but {type(self).__name__} was fitted "
                f"on samples of shape {known}"
            )
        images = found.reshape(-1, *shape)
        if reset:
            self._learn_scale(images)
        images = (images - self.background_[:, None, None]) / self.scale_[:, None, None]
        images = images.reshape(found.shape)
        return (images, out[1]) if isinstance(out, tuple) else images

    def _image_shape_of(self, X: np.ndarray) -> tuple[int, int, int]:
        """Return channels, height and width of the images."""
        name, given = type(self).__name__, self.image_shape
        if given is not None:
            given = tuple(given)
            if len(given) not in (2, 3) or any(
                isinstance(side, bool) or not isinstance(side, Integral) or side < 1
                for side in given
            ):
                raise ValueError(
                    "image_shape must be (height, width) or (n_channels, height, width), got "
                    f"{self.image_shape!r}"
                )
            given = (1, *given) if len(given) == 2 else given
        if X.ndim == 2:
            if given is None:
                side = math.isqrt(X.shape[1])
                given = 1, side, side
            if math.prod(given) != X.shape[1]:
                what = (
                    f"rows are taken as square images, and {X.shape[1]} pixels are none"
                    if self.image_shape is None
                    else f"image_shape={self.image_shape} has {math.prod(given)} pixels"
                )
                raise ValueError(
                    f"{name} got rows of shape {X.shape}: {what}. Give images of shape "
                    "(n_samples, height, width), or image_shape"
                )
            return given
        if X.ndim not in (3, 4):
            raise ValueError(
                f"{name} takes images of shape (n_samples, height, width) or (n_samples, "
                f"n_channels, height, width), got {X.ndim} dimensions, shape {X.shape}"
            )
        shape = (1, *X.shape[1:]) if X.ndim == 3 else X.shape[1:]
        if X.ndim == 4 and shape[2] in (1, 3, 4) and shape[0] > shape[2]:
            raise ValueError(
                f"{name} takes channels before height and width, and X of shape {X.shape} seems "
                "to have them last: use np.moveaxis(X, -1, 1)"
            )
        if given is not None and given != shape:
            raise ValueError(
                f"X has images of shape {shape} (channels, height, width), and image_shape is "
                f"{self.image_shape}"
            )
        return shape

    def _shape(self) -> tuple[int, int, int]:
        return _of(self.module_).image_shape

    def _learn_scale(self, images: np.ndarray) -> None:
        border = np.ones(images.shape[2:], dtype=bool)
        border[1:-1, 1:-1] = False
        self.background_ = np.median(images[:, :, border], axis=(0, 2))
        largest = np.abs(images).max(axis=(0, 2, 3))
        centred = images - self.background_[:, None, None]
        size = np.abs(centred).max(axis=(0, 2, 3))
        constant = size <= 4 * np.finfo(np.float64).eps * largest
        if constant.all():
            raise ValueError(
                f"all pixels of X are {float(images.flat[0]):.6g}: there is nothing to learn from"
            )
        unit = np.where(constant, 1.0, size)
        # Divided before squaring: squares of large and small values leave the range of numbers.
        mean = np.sqrt(((centred / unit[:, None, None]) ** 2).mean(axis=(0, 2, 3)))
        self.scale_ = np.where(constant, 1.0, unit * mean)

    # Network.

    def _check_batch_size(self) -> None:
        if self.batch_size == 1:
            raise ValueError(
                "batch_size=1 cannot be normalised: one image has no variance; take 2 or more"
            )

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from sklr.nn._lie._network import _LieNetwork

        shape = self._image_shape_of(np.empty((0, *self._sample_shape)))
        self.group_samples_ = sample_group(
            self.group,
            self.n_group_samples,
            spread=self.spread,
            max_angle=self.max_angle,
            random_state=derive_seeds(self._seed, 3, 1)[0] % 2**32,
        )
        return _LieNetwork(
            shape,
            n_out,
            self.group_samples_,
            n_channels=self.n_channels,
            kernel_size=self.kernel_size,
            n_blocks=self.n_blocks,
            pool=self.pool,
            dropout=self.dropout,
        )

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        from sklr.nn import RandomViews
        from sklr.nn._lie._views import GroupViews

        augment = self.augment
        if augment == "group":
            augment = GroupViews(self.group, self.spread, self.max_angle, _SHIFT)
        if augment is not None:
            step.memory["views"] = RandomViews(augment, n_views=1).to(step.device)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        if self.augment is not None and module.training:
            images = xb.reshape(-1, *_of(module).image_shape)
            xb = step.memory["views"](images, step.generator)
            if xb.shape != images.shape:
                raise ValueError(
                    f"augment must keep the shape of images, {tuple(images.shape)}, got "
                    f"{tuple(xb.shape)}"
                )
        return super()._loss(module, xb, yb, step)

    def _optimizers(self, module: nn.Module) -> Any:
        t = self._training
        return make_optimizer(
            "adamw", module.parameters(), lr=t.learning_rate, weight_decay=t.weight_decay
        )

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    @staticmethod
    def _lift_table(X: np.ndarray) -> np.ndarray:
        """Return images whose rows are the features, each with a pattern of its own."""
        X = np.asarray(X)
        if X.dtype.kind not in "fc":
            X = X.astype(np.float64)
        pattern = np.array([[1.0, 0.5, -1.0, 2.0], [2.0, -1.0, 0.5, 1.0]], dtype=X.dtype)
        rows = np.arange(X.shape[1])
        return X[:, :, None] * pattern[rows % 2]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _of(module: Any) -> Any:
    return module


def _mapped(images: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Return images (n, channels, height, width) under a map around their middle; outside is 0."""
    # affine_transform asks where each place (row, column) of the result comes from.
    back = np.linalg.inv(H)[::-1, ::-1]
    middle = (np.array(images.shape[2:]) - 1) / 2
    planes = images.reshape(-1, *images.shape[2:])
    out = np.empty_like(planes)
    for plane, mapped in zip(planes, out):
        affine_transform(plane, back, offset=middle - back @ middle, output=mapped, order=1)
    return out.reshape(images.shape)

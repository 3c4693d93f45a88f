"""Fields on grids to fields: solutions of differential equations, learnt from examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklr._torch._batches import refuse_datasets
from sklr.neural_network._base import (
    cosine_factor,
    onecycle_factor,
    training_constraints,
)
from sklr.neural_network._fields import (
    TargetForm,
    Units,
    check_spatial_shape,
    fields_of,
    measured,
    network_sizes,
    on_circles,
    resampled,
    target_form,
)
from sklr.neural_network._fields_start import BetterAlone, StartedFields
from sklr.neural_network._loop import TrainState
from sklr.neural_network._regressor import _r2
from sklr.utils._base import fit_context
from sklr.utils._validation import check_array, check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Cells of the fields that go through the network at once, in inference.
_CELLS_AT_ONCE = 2**13
# So many times more share a copy of the network that is prepared for inference.
_PIECES = 128
# A field of norm near 0 counts as one of this share of the mean norm.
_LEAST_NORM = 1e-3


class LatentSpectralRegressor(StartedFields):
    """Fields on a grid to fields on the grid: what an equation makes of its coefficients.

    Examples of input and solution are given (permeability and pressure, a wave and the same wave
    later, frames of a film and the next ones), and a U-shaped network learns the map between them.
    At each scale patches of the field are summed up in a few tokens, which go through learned
    trigonometric series [1]_. Fields have one, two or three dimensions, of any number of cells.

    Parameters
    ----------
    width : int, default=16
        Channels of the finest scale; they double with each coarser one.
    n_levels : int or "auto", default="auto"
        How often the grid is halved. "auto" is at most 4, as long as the coarsest grid has a patch.
    patch_size : int, sequence of int or "auto", default="auto"
        Cells of a patch along each axis. "auto" is 4, and half of the shortest axis below 8 cells.
    n_basis : int, default=12
        Sines and cosines of each series.
    n_tokens : int, default=4
        Tokens of a patch.
    n_heads : int or "auto", default="auto"
        Heads of the attention, which divide `width`. "auto" is 8, or the next smaller divisor.
    spectral : bool, default=True
        Whether there are tokens and series; a plain U-Net without.
    periodic : bool or "auto", default="auto"
        Whether each axis of the grid is a circle, whose first cell comes after its last one, as on
        a ring or a torus. False is a domain with walls. "auto" looks whether fields and targets go
        on from the last cell to the first.
    baseline : {"auto", "kernel_ridge"} or None, default="auto"
        What the network starts from. "kernel_ridge" is kernel ridge regression between principal
        components, or where the grid is periodic from all shifts of the samples, if that errs by
        less: the network is shown its answers and learns what they leave. None is the network
        alone. "auto" is the first where targets are fields and these answers, samples left out one
        by one, err by less than three tenths of what the mean of the targets does.
    symmetries : {"auto"} or None, default="auto"
        Whether mirror images, swapped axes and changes of sign that leave the equation as it is are
        looked for: the baseline is then made of all images of the samples, and training shows
        random ones. "auto" takes those that nothing in the samples speaks against, unless the
        baseline errs by less without; None takes none, and saves the seconds that this takes.
    n_dims : {1, 2, 3} or "auto", default="auto"
        Axes of the grid. "auto" takes `X` of two axes as fields of one dimension, of three as of
        two, of four as of two with channels, of five as of three with channels.
    spatial_shape : sequence of int, default=None
        The grid, where samples are rows of all its cells (channels last).
    normalize : {"pointwise", "channel"} or None, default="channel"
        Whether mean and standard deviation of input and targets are of each cell or of each
        channel.
    loss : {"auto", "relative_l2", "squared_error"}, default="auto"
        Norm of the error of a field over the norm of the field, or the squared error. "auto" is
        the first for fields, the second for numbers.
    n_rollout_steps : int, default=1
        Where input channels are frames of a film, oldest first: steps in which the targets'
        channels are predicted, an equal part in each, as the newest frames of the next step.
    learning_rate : float, default=2e-3
        Highest learning rate.
    weight_decay : float, default=1e-5
        Weight decay.
    schedule : {"onecycle", "cosine", "constant"}, default="onecycle"
        Learning rate: a rise in the first three tenths, then a fall; a fall only; or constant.
    {max_iter}
    batch_size : int or "auto", default=20
        Samples of a batch; "auto" is 20.
    {early_stopping}
    {validation_fraction}
    n_iter_no_change : int, default=20
        Epochs without improvement before it stops.
    {tol}
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of training and of predictions. "auto" is float32.
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    module_ : sklr.nn.LatentSpectralModel
        The trained network.
    grid_shape_ : tuple of int
        Cells of the training fields along each axis.
    n_levels_, n_heads_ : int
        What "auto" became.
    patch_size_ : tuple of int
        Cells of a patch along each axis.
    periodic_ : bool
        Whether the grid was taken for circles.
    baseline_error_ : float
        Relative error of the baseline on samples left out one by one; NaN where none was fitted.
    shifted_ : bool
        Whether training moved fields around the circles at random: where the closed form says that
        the equation is the same at every place, or at all places along an axis or a diagonal.
    symmetries_ : list of str
        The symmetries that were found, all that they make together too; empty where there are none.
    n_parameters_ : int
        Numbers that were trained.
    x_mean_, x_scale_ : ndarray of shape (n_channels,), or with the axes of the grid before
        Units of the input.
    y_mean_, y_scale_ : ndarray of shape (n_channels,), or with the axes of the grid before
        Units of the targets; a scale of 0 where they do not vary.
    {n_iter_}
    {loss_curve_}
        1 is what the mean of the targets has.
    validation_scores_ : list of float
        R2 after each epoch; only with `early_stopping` or `X_val`.
    n_features_in_ : int
        Length of the second axis of `X`.
    {feature_names_in_}

    See Also
    --------
    sklr.nn.LatentSpectralModel : The network.
    sklr.datasets.make_darcy : Fields to try it on.
    sklearn.kernel_ridge.KernelRidge : On principal components of the fields, a closed form.

    Notes
    -----
    An epoch costs O(n_samples * cells * width ** 2). Batch normalisation sees no weights, so
    ``fit`` takes none. Fields on another grid than in training are interpolated linearly to that
    one, between the first and the last point of each axis (around it where it is periodic), and
    predictions back.

    The baseline costs O(n_samples ** 3), of 2,000 samples drawn at random where there are more;
    that of all shifts O(cells * n_samples ** 3), of as many as make 2 ** 24 pairs of cells (512 of
    64 cells, 128 of 32 x 32), images under symmetries counted. The latter takes an equation for the
    same at every place, but for a field that is added. Where errors show none, nor that a place
    weighs the answer, its slope or the input otherwise than the next one does, training moves the
    fields of each batch around the circles; where that holds along one axis or diagonal only, along
    this one. For fields of the training the answer is that without them, in ``predict`` too: errors
    on the training data are no smaller than elsewhere for having been seen by the baseline. There
    is none in ``partial_fit``, of films (`n_rollout_steps` above 1), of numbers, below 20 samples.

    Symmetries are looked for under the same conditions, among axes reversed and axes of the same
    length swapped, with and without changes of the sign of `X`, of `y` or both (where the means of
    their channels are about 0); all channels change alike. One is taken where samples and their
    images look the same (means, products at a place and of any two, means of a kernel), where the
    baseline that sees images too errs by no more, and where nothing tells its errors from their
    images. That needs a baseline which explains three quarters of the variance, and the more
    samples there are (500 at most are looked at), the smaller a difference is found. Where a
    baseline without symmetries errs by a tenth less than that with them, they are dropped.

    References
    ----------
    .. [1] H. Wu, T. Hu, H. Luo, J. Wang and M. Long, "Solving high-dimensional PDEs with latent
       spectral models", ICML 2023, arXiv:2301.12664.

    Examples
    --------
    >>> from sklr.datasets import make_darcy
    >>> from sklr.neural_network import LatentSpectralRegressor
    >>> X, y = make_darcy(30, size=12, random_state=0)
    >>> model = LatentSpectralRegressor(width=4, max_iter=10, random_state=0).fit(X, y)
    >>> model.predict(X[:2]).shape
    (2, 12, 12)
    """

    _parameter_constraints: dict = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_levels": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "patch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            "array-like",
        ],
        "n_basis": [Interval(Integral, 1, None, closed="left")],
        "n_tokens": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "spectral": ["boolean"],
        "periodic": ["boolean", StrOptions({"auto"})],
        "baseline": [StrOptions({"auto", "kernel_ridge"}), None],
        "symmetries": [StrOptions({"auto"}), None],
        "n_dims": [StrOptions({"auto"}), Interval(Integral, 1, 3, closed="both")],
        "spatial_shape": ["array-like", None],
        "normalize": [StrOptions({"pointwise", "channel"}), None],
        "loss": [StrOptions({"auto", "relative_l2", "squared_error"})],
        "n_rollout_steps": [Interval(Integral, 1, None, closed="left")],
        "schedule": [StrOptions({"onecycle", "cosine", "constant"})],
        **training_constraints(
            "learning_rate",
            "weight_decay",
            "max_iter",
            "batch_size",
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
    _own_names = ("patch_size",)
    _is_table: bool
    _auto_batch_size = 20
    _network_parameters = (
        "width",
        "n_levels",
        "patch_size",
        "n_basis",
        "n_tokens",
        "n_heads",
        "spectral",
        "periodic",
        "baseline",
        "symmetries",
        "n_dims",
        "spatial_shape",
        "normalize",
        "n_rollout_steps",
    )

    def __init__(
        self,
        width: int = 16,
        *,
        n_levels: int | str = "auto",
        patch_size: int | Sequence[int] | str = "auto",
        n_basis: int = 12,
        n_tokens: int = 4,
        n_heads: int | str = "auto",
        spectral: bool = True,
        periodic: bool | str = "auto",
        baseline: str | None = "auto",
        symmetries: str | None = "auto",
        n_dims: int | str = "auto",
        spatial_shape: Sequence[int] | None = None,
        normalize: str | None = "channel",
        loss: str = "auto",
        n_rollout_steps: int = 1,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-5,
        schedule: str = "onecycle",
        max_iter: int = 100,
        batch_size: int | str = 20,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        tol: float = 1e-4,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.width = width
        self.n_levels = n_levels
        self.patch_size = patch_size
        self.n_basis = n_basis
        self.n_tokens = n_tokens
        self.n_heads = n_heads
        self.spectral = spectral
        self.periodic = periodic
        self.baseline = baseline
        self.symmetries = symmetries
        self.n_dims = n_dims
        self.spatial_shape = spatial_shape
        self.normalize = normalize
        self.loss = loss
        self.n_rollout_steps = n_rollout_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.max_iter = max_iter
        self.batch_size = batch_size
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
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> LatentSpectralRegressor:
        """Train the network on fields and their targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or (n_samples, ..., n_channels)
            Fields, with one axis for each dimension of the grid; `n_dims` says how axes are read.
            A table has fields of one dimension, or of `spatial_shape`.
        y : array-like of shape (n_samples, ...), (n_samples, ..., n_channels) or (n_samples,)
            Fields on the same grid; or numbers of the whole field, (n_samples,) or (n_samples,
            n_targets), which are means of what the network makes of each cell.
        X_val : array-like, default=None
            Fields that are scored after each epoch; with `early_stopping` instead of samples set
            aside.
        y_val : array-like, default=None
            Their targets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with self._ready_to_train():
            fields, y = self._pairs(X, y, reset=True)
            self._wants_closed_form = self._may_have_closed_form(len(fields))
            if (X_val is None) != (y_val is None):
                raise ValueError("X_val and y_val must be given together")
            if X_val is not None:
                X_val, y_val = self._pairs(X_val, y_val, reset=False, name="y_val")
                self._check_training(X_val, "X_val")
            self._find_symmetries(fields, y)  # takes seconds: what is wrong has been said
            try:
                self._train_on(fields, y, X_val, y_val)
            except BetterAlone:
                self._drop_symmetries()
                self._measure_targets(y, None)
                self._train_on(fields, y, X_val, y_val)
        return self

    def _train_on(self, fields: np.ndarray, y: np.ndarray, X_val: Any, y_val: Any) -> None:
        validation = None if X_val is None else (X_val, self._scaled(y_val))
        self._fit_network(fields, self._scaled(y), n_out=y.shape[-1], validation=validation)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any) -> LatentSpectralRegressor:
        """Train for one more epoch on some samples, at a constant rate.

        The first call's samples set the units of all later ones; let it have some dozens.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or (n_samples, ..., n_channels)
            Fields.
        y : array-like of shape (n_samples, ...), (n_samples, ..., n_channels) or (n_samples,)
            Targets.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        with self._ready_to_train():
            first = not hasattr(self, "module_")
            fields, y = self._pairs(X, y, reset=first)
            if first:
                self._wants_closed_form = False
                self._group, self.symmetries_ = [], []
            self._check_training(fields)
            self._fit_one_epoch(fields, self._scaled(y), n_out=y.shape[-1])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or (n_samples, ..., n_channels)
            Fields, also on another grid than in ``fit``: they are interpolated to that grid, and
            the predictions back.

        Returns
        -------
        y : ndarray
            In the units and the layout of the targets of ``fit``, on the grid of `X`.
        """
        check_is_fitted(self)
        fields = self._validate(X, reset=False)
        return self._form.given(self._predicted(fields))

    def rollout(self, X: Any, n_steps: int) -> np.ndarray:
        """Go on with films, whose last predictions are the newest frames of the next step.

        Parameters
        ----------
        X : array-like of shape (n_samples, ..., n_channels)
            Fields, whose channels are frames, oldest first.
        n_steps : int
            Steps, of as many frames as the network makes at once.

        Returns
        -------
        frames : ndarray of shape (n_samples, ..., n_frames)
            The frames of all steps.
        """
        check_is_fitted(self)
        if isinstance(n_steps, bool) or not isinstance(n_steps, Integral) or n_steps < 1:
            raise ValueError(f"n_steps must be an integer of at least 1, got {n_steps!r}")
        fields = self._validate(X, reset=False)
        if not self._form.is_field:
            raise ValueError("rollout needs targets that are fields; these are numbers")
        self._check_feedback()
        if self._closed_form is None:
            return self._predicted(fields, int(n_steps))
        made = []  # step by step: what the baseline says of a frame stands on the frame before
        for _ in range(int(n_steps)):
            made.append(self._predicted(fields))
            fields = np.concatenate([fields[..., self._n_made :], made[-1]], axis=-1)
        return np.concatenate(made, axis=-1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R2 of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...) or (n_samples, ..., n_channels)
            Fields.
        y : array-like of shape (n_samples, ...), (n_samples, ..., n_channels) or (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            Over all entries of fields together; the mean over several numbers. 1 is perfect, 0
            what the mean of `y` has.
        """
        check_is_fitted(self)
        fields, y = self._pairs(X, y, reset=False)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, fields, dtype=np.float64)
        # In units of the training targets, in which no square overflows.
        middle = self.y_mean_.reshape(-1, y.shape[-1]).mean(axis=0)
        found, y = ((part - middle) / self._unit for part in (self._predicted(fields), y))
        if not self._form.is_field:
            scale = np.where(self.y_scale_ > 0, self.y_scale_ / self._unit, 1.0)
            return _r2(y / scale, found / scale, sample_weight)
        return _r2(y[:, None], found[:, None], sample_weight)

    # Input.

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Return fields of shape (n, ..., channels) in double precision, as they are given."""
        refuse_datasets(X)
        self._integer_input = False
        table = self.n_dims == "auto" or self.spatial_shape is not None
        options: dict[str, Any] = {"dtype": np.float64, "allow_nd": True, "order": "C"}
        with np.errstate(over="ignore", invalid="ignore"):
            if reset or (table and self._is_table):  # its columns are those of fit
                given = validate_data(self, X, reset=reset, **options)
            else:
                given = check_array(X, estimator=self, input_name="X", **options)
        if 0 in given.shape[1:]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={given.shape}) while a minimum of 1 is "
                "required."
            )
        if reset:
            check_spatial_shape(self.spatial_shape, self.n_dims)
        fields = fields_of(given, self.n_dims, self.spatial_shape, "X")
        grid, n_channels = fields.shape[1:-1], fields.shape[-1]
        if reset:
            self.grid_shape_, self._n_channels = grid, n_channels
            self._is_table = given.ndim == 2
            return fields
        if len(grid) != len(self.grid_shape_) or n_channels != self._n_channels:
            raise ValueError(
                f"X has fields of {len(grid)} dimensions and {n_channels} channels, shape "
                f"{given.shape}, but {type(self).__name__} was fitted on fields of "
                f"{len(self.grid_shape_)} dimensions and {self._n_channels} channels"
            )
        return fields

    def _pairs(
        self, X: Any, y: Any, *, reset: bool, name: str = "y"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return fields and their targets, (n, ..., channels) or (n, k); measure them at first."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        fields = self._validate(X, reset=reset)
        y = check_array(y, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name=name)
        if y.ndim == 0 or 0 in y.shape[1:]:
            raise ValueError(f"{name} must have targets for each sample, got shape {y.shape}")
        check_consistent_length(fields, y)
        grid = fields.shape[1:-1]
        form = target_form(
            y,
            grid,
            flat=self.spatial_shape is not None,
            numbers=self.n_dims == "auto" or len(grid) > 1,
            name=name,
        )
        if reset:
            self._form = form
            self._check_pairs(fields, form)
            self._measure_targets(form.array(y, grid), None)
            self.periodic_ = self.periodic is True or (
                self.periodic == "auto"
                and on_circles(fields)
                and (not form.is_field or on_circles(form.array(y, grid)))
            )
        elif form != self._form:
            raise ValueError(
                f"{name} has targets of shape {y.shape[1:]}, but {type(self).__name__} was fitted "
                f"on {'fields' if self._form.is_field else 'numbers'} with {self._form.shape} "
                "targets each"
            )
        return fields, form.array(y, grid)

    def _check_training(self, fields: np.ndarray, name: str = "X") -> None:
        if fields.shape[1:-1] != self.grid_shape_:
            raise ValueError(
                f"{name} is on a grid of {fields.shape[1:-1]}, and training on {self.grid_shape_}: "
                "give the same grid (other grids are for predict and score)"
            )
        if len(fields) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 samples in {name}: batch normalisation "
                "and R2 have no meaning for n_samples=1"
            )

    def _check_pairs(self, fields: np.ndarray, form: TargetForm) -> None:
        self._check_training(fields)
        grid = self.grid_shape_
        if not form.is_field and form.shape and len(grid) == 1 and self.spatial_shape is None:
            warn_user(
                f"y has {form.shape[0]} columns and X {grid[0]}: these are taken for "
                f"{form.shape[0]} numbers of each field, not for a field on its grid (n_dims=1 "
                "refuses them)",
            )
        if self.n_rollout_steps > 1:
            if not form.is_field or form.n_channels % self.n_rollout_steps:
                raise ValueError(
                    f"n_rollout_steps={self.n_rollout_steps} needs fields as targets, with a "
                    f"multiple of {self.n_rollout_steps} channels (frames last); got "
                    f"{form.n_channels if form.is_field else 'numbers'}"
                )
        self._n_made = form.n_channels // self.n_rollout_steps
        if self.n_rollout_steps > 1:
            self._check_feedback()
        if (fields == fields[0]).all():
            warn_user(
                "all fields of X are equal: the predictions will be the mean of y", UserWarning
            )
        self.patch_size_, self.n_levels_, self.n_heads_ = network_sizes(
            grid, self.patch_size, self.n_levels, self.width, self.n_heads
        )
        one_cell = all(
            side * math.ceil(size / (side * 2**self.n_levels_)) == 1
            for size, side in zip(grid, self.patch_size_)
        )
        if self.batch_size == 1 and one_cell:
            raise ValueError(
                f"batch_size=1 and a coarsest grid of one cell give batch normalisation one number "
                f"a channel: take larger batches, or n_levels below {self.n_levels_}"
            )

    def _check_feedback(self) -> None:
        if self._n_made > self._n_channels:
            raise ValueError(
                f"a step makes {self._n_made} channels, and the next one takes {self._n_channels} "
                "channels of X: predictions cannot be the newest frames of the next step"
            )

    # Units.

    def _measure_targets(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Keep the units of targets; frames of all steps have the same ones."""
        apart = y
        if self.n_rollout_steps > 1:  # frames of all steps beside the samples
            apart = y.reshape(*y.shape[:-1], self.n_rollout_steps, -1)
            apart = np.moveaxis(apart, -2, 1).reshape(-1, *y.shape[1:-1], self._n_made)
        units = measured(apart, self.normalize, is_input=False, has_cells=self._form.is_field)
        steps = self.n_rollout_steps
        self.y_mean_, self.y_scale_ = (
            np.concatenate([part] * steps, axis=-1) for part in (units.mean, units.scale)
        )
        rest = y - self.y_mean_
        largest = float(np.abs(rest).max())
        constant = not units.scale.any() or largest == 0
        self._unit = 1.0 if constant else largest * float(np.sqrt(np.mean((rest / largest) ** 2)))
        if constant:
            warn_user("y is the same in all samples, and so are the predictions", UserWarning)
        norms = np.linalg.norm((y / self._unit).reshape(len(y), -1), axis=1)
        self._least_norm = _LEAST_NORM * float(norms.mean()) or 1.0
        errors = np.linalg.norm((rest / self._unit).reshape(len(y), -1), axis=1)
        self._usual_error = float((errors / np.maximum(norms, self._least_norm)).mean()) or 1.0

    def _scaled(self, y: np.ndarray) -> np.ndarray:
        """Return targets in the network's units, channels first."""
        return np.ascontiguousarray(np.moveaxis(self._units.scaled(y), -1, 1))

    def _samples(self, X: np.ndarray, device: torch.device) -> Tensor:
        return self._tensor(self._shown(X), device)

    # The network.

    def _dtypes(self) -> tuple[str, str]:
        training = super()._dtypes()[0]
        return training, training

    def _warn_of_units(self, X: np.ndarray) -> None:
        """Units are taken out here."""

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from sklr.nn import LatentSpectralModel

        module = LatentSpectralModel(
            len(self.grid_shape_),
            self._n_channels + (0 if self._closed_form is None else self._n_made),
            self._n_made,
            width=self.width,
            n_levels=self.n_levels_,
            patch_size=self.patch_size_,
            n_basis=self.n_basis,
            n_tokens=self.n_tokens,
            n_heads=self.n_heads_,
            spectral=self.spectral,
            periodic=self.periodic_,
        )
        self.n_parameters_ = sum(p.numel() for p in module.parameters())
        return module

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        """It is ours."""

    def _outputs(self, module: nn.Module, xb: Tensor, n_steps: int | None = None) -> Tensor:
        """Return scaled targets (n, channels, ...) of all steps, or (n, k)."""
        import torch

        made = [module(xb)]
        if self._closed_form is not None:
            return xb[:, self._n_channels :] + self._left * made[0]
        steps = n_steps or self.n_rollout_steps
        if not self._form.is_field:
            return made[0].flatten(2).mean(dim=2)
        if steps > 1:
            gain, offset = (self._first(part, xb) for part in self._feedback())
        for _ in range(steps - 1):
            xb = torch.cat([xb[:, self._n_made :], made[-1]], dim=1) * gain + offset
            made.append(module(xb))
        return torch.cat(made, dim=1) if len(made) > 1 else made[0]

    def _feedback(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what takes each channel to the units of the one before."""
        k = self._n_made
        source = [
            np.concatenate([old[..., k:], new[..., :k]], axis=-1)
            for old, new in ((self.x_mean_, self.y_mean_), (self.x_scale_, self.y_scale_))
        ]
        return source[1] / self.x_scale_, (source[0] - self.x_mean_) / self.x_scale_

    def _first(self, values: np.ndarray, like: Tensor) -> Tensor:
        """Return numbers of channels (last), for tensors of shape (n, channels, ...)."""
        import torch

        made = torch.as_tensor(values, dtype=like.dtype, device=like.device)
        if made.ndim == 1:
            return made.reshape(-1, *[1] * (like.ndim - 2))
        return made.movedim(-1, 0)

    # Training.

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        if self.schedule == "constant":
            return None
        return (cosine_factor if self.schedule == "cosine" else onecycle_factor)(step)

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        if self._form.is_field:
            parts = self.y_mean_ / self._unit, self.y_scale_ / self._unit
            step.memory["units"] = [self._first(part, step.X) for part in parts]

    def _step(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        if self.shifted_:
            axes, grid = tuple(range(2, xb.ndim)), xb.shape[2:]
            cells = step.rng.randint(grid)
            if len(self._moves) < len(grid):  # along a line only
                cells = cells[0] * np.array(self._moves[0])
            cells = cells.tolist()
            xb, yb = (part.roll(cells, axes) for part in (xb, yb))
        if self._group:
            xb, yb = self._turned(xb, yb, step.rng)
        return super()._step(module, xb, yb, step)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        error = self._outputs(module, xb) - yb
        if not self._form.is_field:
            return (error * self._varies(error)).square().mean(dim=1)
        mean, scale = step.memory["units"]
        error = (error * scale).flatten(1)
        if self.loss == "squared_error":
            return error.square().mean(dim=1)
        size = (yb * scale + mean).flatten(1).norm(dim=1).clamp_min(self._least_norm)
        return error.norm(dim=1) / (size * self._usual_error)

    def _varies(self, like: Tensor) -> Tensor:
        import torch

        return torch.as_tensor(self.y_scale_ > 0, dtype=like.dtype, device=like.device)

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return R2."""
        import torch

        module.eval()
        with torch.no_grad():
            pieces = X.split(self._n_at_once(X.shape[2:]))
            made = torch.cat([self._outputs(module, xb.to(step.device)).cpu() for xb in pieces])
        module.train()
        wanted, found = (np.moveaxis(part.cpu().double().numpy(), 1, -1) for part in (y, made))
        if not self._form.is_field:
            return _r2(wanted, found, None)
        weight = self.y_scale_ / self._unit
        return _r2((wanted * weight)[:, None], (found * weight)[:, None], None)

    # Inference.

    def _n_at_once(self, grid: Sequence[int]) -> int:
        return max(1, _CELLS_AT_ONCE // math.prod(grid))

    def _network_to_ask(self) -> nn.Module:
        """Return what is quicker to ask: normalisations folded, channels last in memory.

        It pays for images on a CPU; on other grids the network itself is as quick.
        """
        import torch

        from sklr.nn import fuse_batchnorm

        on_cpu = all(p.device.type == "cpu" for p in self.module_.parameters())
        if len(self.grid_shape_) != 2 or not on_cpu:
            return self.module_
        return fuse_batchnorm(self.module_).to(memory_format=torch.channels_last)

    def _predicted(self, fields: np.ndarray, n_steps: int | None = None) -> np.ndarray:
        """Return targets in their own units, (n, ..., channels) or (n, k)."""
        import torch

        grid = fields.shape[1:-1]
        fields = resampled(fields, self.grid_shape_, periodic=self.periodic_)
        at_once = self._n_at_once(self.grid_shape_)

        def asked(module: nn.Module, X: Tensor) -> Tensor:
            return torch.cat([self._outputs(module, xb, n_steps) for xb in X.split(at_once)])

        size = _PIECES * at_once
        found = [
            self._infer(self._shown(fields[first : first + size]), asked)
            for first in range(0, len(fields), size)
        ]
        units = self._units
        if n_steps is not None:
            times = -(-n_steps // self.n_rollout_steps)
            units = Units(
                *(
                    np.concatenate([part] * times, axis=-1)[..., : n_steps * self._n_made]
                    for part in (units.mean, units.scale)
                )
            )
        made = units.unscaled(np.moveaxis(np.concatenate(found), 1, -1))
        return resampled(made, grid, periodic=self.periodic_) if self._form.is_field else made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

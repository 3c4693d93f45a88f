"""The base of estimators with a network inside: a subclass writes the network and its loss.

A subclass names its parameters in ``__init__`` and writes

- ``_build(n_in, n_out)``: the network, inside the seeded context; `n_in` is the number of
  features, or the shape of a sample of more dimensions, `n_out` the number of classes;
- ``_optimizers(module)``: one optimiser or a list;
- ``_loss(module, xb, yb, step)``: of each sample (then weights work) or of the batch; `step` is
  the :class:`~sklr.neural_network._loop.TrainState`.

It may write ``_epoch_begin``, ``_views``, ``_step``, ``_learning_rate_factor``,
``_validation_score``, ``_finalise``, ``_validate`` (input of other kinds), ``_dtypes``. These
parameters are used where the subclass has them: max_iter, batch_size, early_stopping,
validation_fraction, n_iter_no_change, tol, class_weight, device, random_state, verbose, callbacks.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import in_chunks, refuse_datasets
from sklr._torch._device import made_on_the_cpu, mixed_precision, resolve_device
from sklr._torch._rng import derive_seeds, seeded
from sklr._torch._weights import read_weights, write_weights
from sklr.neural_network._loop import (
    TrainState,
    mean_loss,
    require_finite_weights,
    run_epoch,
    train,
)
from sklr.utils._base import BaseEstimator
from sklr.utils._imports import import_optional
from sklr.utils._validation import validate_data

_POSITIVE = [Interval(Real, 0, None, closed="neither")]
_COUNT = [Interval(Integral, 1, None, closed="left")]
_CONSTRAINTS: dict[str, list[Any]] = {
    "learning_rate": _POSITIVE,
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "hidden_layer_sizes": ["array-like"],
    "max_iter": _COUNT,
    "batch_size": [StrOptions({"auto"}), *_COUNT],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": _COUNT,
    "tol": [Interval(Real, 0, None, closed="left")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "callbacks": [list, tuple, None],
    "module": [callable, None],
}


def training_constraints(*names: str) -> dict[str, list[Any]]:
    """Return the ``_parameter_constraints`` of parameters that mean the same everywhere."""
    return {name: _CONSTRAINTS[name] for name in names}


class TorchEstimator(BaseEstimator):
    """Base of all: building, training, inference, pickles, weights in files."""

    # Training in float32 is fast; scores of default networks are computed in float64, or they
    # would depend on which other samples are in the call.
    _training_dtype = "float32"
    _inference_dtype = "float64"
    # Samples of a batch where batch_size is "auto", at most.
    _auto_batch_size = 64
    # torch's optimisers import it, and it adds warning filters: no fault of a fit.
    _imports_first = ("torch._dynamo",)
    # Whether a last batch that is too small is left out.
    _drop_last = False

    # What a subclass writes.

    def _build(self, n_in: Any, n_out: int | None) -> Any:
        raise NotImplementedError

    def _optimizers(self, module: Any) -> Any:
        raise NotImplementedError

    def _loss(self, module: Any, xb: Any, yb: Any, step: TrainState) -> Any:
        raise NotImplementedError

    # What a subclass may write.

    def _epoch_begin(self, module: Any, step: TrainState) -> None:
        """Do what comes before an epoch (new cluster assignments, a new weight of a term)."""

    def _views(self, xb: Any, generator: Any) -> Any:
        """Return the batch that the loss sees: augmented views, drawn from `generator`."""
        return xb

    def _step(self, module: Any, xb: Any, yb: Any, step: TrainState) -> Any:
        """Make one step of all optimisers and return the loss, detached."""
        for optimizer in step.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with mixed_precision(step.device):
            loss = mean_loss(self._loss(module, xb, yb, step), step.batch_weights)
        loss.backward()
        for optimizer in step.optimizers:
            optimizer.step()
        return loss.detach()

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        """Return what every first learning rate is multiplied by, or None to leave them."""
        return None

    def _validation_score(self, module: Any, X: Any, y: Any, step: TrainState) -> float:
        """Return what early stopping maximises: minus the loss, by default."""
        import torch

        def loss(network: Any, xb: Any, rows: slice) -> Any:
            yb = None if y is None else y[rows].to(step.device)
            value = self._loss(network, xb, yb, step)
            return value.reshape(-1) if value.ndim else value.expand(len(xb))

        step.index = step.batch_weights = None  # these rows are not in step.X
        with torch.no_grad():
            return -float(in_chunks(module, X, loss, step.device).mean())

    def _finalise(self, module: Any, step: TrainState) -> Any:
        """Return the network to keep, when it is another one; runs after the last epoch."""
        return None

    def _check_module(self, module: Any, X: Any, n_out: int | None) -> None:
        """Check a new network on the few samples `X` before training."""

    def _dtypes(self) -> tuple[str, str]:
        """Return the dtypes of training and of inference."""
        return self._training_dtype, self._inference_dtype

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Validate input as float32 or float64; tables, and more dimensions if `_allow_nd`."""
        refuse_datasets(X)
        dtype = self._dtypes()[0 if reset else 1]
        allow_nd = self._allow_nd()
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what overflows is refused as infinite, with its reason
            out = validate_data(self, X, y, reset=reset, dtype=dtype, allow_nd=allow_nd, order="C")
        if allow_nd:
            found = out[0] if isinstance(out, tuple) else out
            if 0 in found.shape[1:]:
                raise ValueError(
                    f"Found array with 0 feature(s) (shape={found.shape}) while a minimum of 1 "
                    "is required."
                )
            known = getattr(self, "_sample_shape", None)
            if not reset and known is not None and found.shape[1:] != known:
                raise ValueError(
                    f"X has samples of shape {found.shape[1:]}, but {type(self).__name__} was "
                    f"fitted on samples of shape {known}"
                )
        return out

    def _allow_nd(self) -> bool:
        return False

    # Training.

    def _torch(self) -> Any:
        return import_optional("torch", extra="torch", feature=type(self).__name__)

    @contextmanager
    def _ready_to_train(self) -> Iterator[None]:
        """Check the callbacks; make gradients on, and tensors on the CPU, inside.

        The caller may be under ``no_grad``, ``inference_mode`` or a default device. What a failed
        fit leaves is the business of `fit_context`.
        """
        torch = self._torch()
        _check_callbacks(getattr(self, "callbacks", None))
        with torch.inference_mode(False), torch.enable_grad(), made_on_the_cpu():
            yield

    def _fit_network(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        n_out: int | None = None,
        weights: np.ndarray | None = None,
        validation: tuple[Any, Any] | None = None,
    ) -> TrainState:
        """Build a network, train it on validated arrays, and set the fitted attributes."""
        rng = check_random_state(self.random_state)
        self._seed = int(rng.randint(np.iinfo(np.int32).max))
        early_stopping = bool(getattr(self, "early_stopping", False))
        if early_stopping and validation is None:
            X, y, weights, validation = self._split(X, y, weights)
        device = resolve_device(self.device)
        init_seed, loop_seed, *others = derive_seeds(self._seed, 0, 5)
        module = self._new_module(X, n_out, init_seed, device)
        state = self._new_state(module, X, y, weights, device, others, n_epochs=self.max_iter)
        if validation is not None:
            validation = tuple(self._tensor(part, device) for part in validation)
        with seeded(loop_seed, device):
            train(self, state, validation, stop_early=early_stopping)
            module.eval()
            kept = self._finalise(module, state)
        kept = module if kept is None else kept
        require_finite_weights(kept, state)
        self.module_ = kept.eval()
        self.n_iter_ = len(state.loss_curve)
        self.loss_curve_ = state.loss_curve
        self.__dict__.pop("validation_scores_", None)
        if validation is not None:
            self.validation_scores_ = state.validation_scores
        self.__dict__.pop("_optimizer_states", None)
        return state

    def _fit_one_epoch(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        n_out: int | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Train for one more epoch, the first on a new network; a failure undoes it."""
        first = not hasattr(self, "module_")
        saved = None if first else {k: v.clone() for k, v in self.module_.state_dict().items()}
        try:
            self._one_epoch(X, y, n_out, weights, first)
        except BaseException:
            if saved is not None:
                self.module_.load_state_dict(saved)
                self.module_.eval()
            raise

    def _one_epoch(self, X: np.ndarray, y: Any, n_out: Any, weights: Any, first: bool) -> None:
        device = resolve_device(self.device)
        if first:
            rng = check_random_state(self.random_state)
            self._seed = int(rng.randint(np.iinfo(np.int32).max))
            module = self._new_module(X, n_out, derive_seeds(self._seed, 0, 1)[0], device)
            n_iter, curve = 0, []
        else:
            module = self.module_.to(device)
            n_iter, curve = self.n_iter_, self.loss_curve_
        loop_seed, *others = derive_seeds(self._seed, 2 + n_iter, 4)
        state = self._new_state(module, X, y, weights, device, others, n_epochs=None)
        for optimizer, former in zip(state.optimizers, getattr(self, "_optimizer_states", ())):
            # A copy: steps change momentum in place, and a failure must find it as it was. What is
            # a parameter of the estimator (learning rates) may have been changed since.
            given = [
                {name: value for name, value in group.items() if name != "params"}
                for group in optimizer.param_groups
            ]
            optimizer.load_state_dict(copy.deepcopy(former))
            for group, options in zip(optimizer.param_groups, given):
                group.update(options)
        with seeded(loop_seed, device):
            loss = run_epoch(self, state)
        require_finite_weights(module, state)
        self._optimizer_states = [optimizer.state_dict() for optimizer in state.optimizers]
        self.module_ = module.eval()
        self.n_iter_ = n_iter + 1
        self.loss_curve_ = [*curve, loss]

    def _new_module(self, X: np.ndarray, n_out: int | None, seed: int, device: Any) -> Any:
        """Build the network on the CPU, so that its first weights are the same everywhere."""
        torch = self._torch()
        self._sample_shape = X.shape[1:]
        n_in = X.shape[1] if X.ndim == 2 else X.shape[1:]
        dtype = getattr(torch, self._dtypes()[0])
        with seeded(seed, torch.device("cpu")):
            module = self._build(n_in, n_out).to(dtype=dtype)
            some = torch.tensor(np.ascontiguousarray(X[:2]), dtype=dtype)
            self._check_module(module, some, n_out)
        return module.to(device)

    def _new_state(
        self,
        module: Any,
        X: np.ndarray,
        y: np.ndarray | None,
        weights: np.ndarray | None,
        device: Any,
        seeds: list[int],
        n_epochs: int | None,
    ) -> TrainState:
        torch = self._torch()
        optimizers = self._optimizers(module)
        shuffle_seed, augment_seed, numpy_seed = seeds
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = min(self._auto_batch_size, len(X))
        return TrainState(
            module=module,
            optimizers=optimizers if isinstance(optimizers, list) else [optimizers],
            X=self._tensor(X, device),
            y=self._tensor(y, device),
            weights=self._tensor(weights, device),
            device=device,
            generator=torch.Generator(device=device).manual_seed(augment_seed),
            shuffle=torch.Generator().manual_seed(shuffle_seed),
            rng=np.random.RandomState(numpy_seed),  # noqa: NPY002 (scikit-learn takes no other)
            batch_size=min(batch_size, len(X)),
            n_epochs=n_epochs,
            drop_last=self._drop_last,
        )

    def _tensor(self, values: np.ndarray | None, device: Any) -> Any:
        """Copy an array to the device, or leave the copy on the CPU where it does not fit."""
        if values is None:
            return None
        torch = self._torch()
        values = np.ascontiguousarray(values)  # torch takes no negative strides (a flipped axis)
        dtype = torch.long if values.dtype.kind in "iu" else getattr(torch, self._dtypes()[0])
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if values.nbytes > free // 3:
                return torch.tensor(values, dtype=dtype)
        return torch.tensor(values, dtype=dtype, device=device)

    def _split(self, X: np.ndarray, y: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
        """Set samples aside for early stopping, by class where there are classes."""
        rows = np.arange(len(X))
        stratify = y if y is not None and y.dtype.kind in "iu" else None
        try:
            train_rows, held = train_test_split(
                rows,
                test_size=self.validation_fraction,
                random_state=derive_seeds(self._seed, 1, 1)[0],
                stratify=stratify,
            )
        except ValueError as exc:
            raise ValueError(
                f"early_stopping cannot set validation_fraction={self.validation_fraction} of "
                f"n_samples={len(X)} aside: {exc}; change the fraction, or give X_val"
            ) from exc
        X_fit, y_fit, w_fit = (None if p is None else p[train_rows] for p in (X, y, weights))
        return X_fit, y_fit, w_fit, (X[held], None if y is None else y[held])

    # Inference.

    def _infer(self, X: np.ndarray, function: Callable[[Any, Any], Any]) -> np.ndarray:
        """Return ``function(module, batch)`` over all samples, as a float64 array."""
        torch = self._torch()
        module = self.module_
        dtype = getattr(torch, self._dtypes()[1])
        device = next(iter(module.parameters()), torch.empty(0)).device
        if any(p.dtype != dtype for p in module.parameters() if p.is_floating_point()):
            # A copy each time: module_ may have been changed since the last call.
            module = copy.deepcopy(module)
            if device.type == "mps" and dtype == torch.float64:
                device = torch.device("cpu")
            module = module.to(device=device, dtype=dtype)
        module.eval()
        with torch.inference_mode(), made_on_the_cpu():
            data = torch.tensor(np.ascontiguousarray(X), dtype=dtype)
            out = in_chunks(module, data, lambda m, xb, _: function(m, xb), device)
        return out.to(device="cpu", dtype=torch.float64).numpy()

    # Pickles and files.

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: _on_cpu(value) for name, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module_" in state and state.get("device", "cpu") != "cpu":
            self._torch()
            try:
                self.module_.to(resolve_device(self.device))
            except ValueError:
                pass  # pickled on another machine: the CPU does it too

    def save_weights(self, path: Any) -> None:
        """Write the weights of the fitted network to a file.

        Parameters
        ----------
        path : str or path
            Where to; with the ending ``.safetensors`` in that format (needs the package
            safetensors), else in torch's own.
        """
        check_is_fitted(self)
        write_weights(self.module_, path)

    def load_weights(self, path: Any) -> Any:
        """Read weights for the fitted network from a file; no code in the file is run.

        Parameters
        ----------
        path : str or path
            A file of :meth:`save_weights`, of a ``Checkpoint``, or any ``state_dict`` of tensors.

        Returns
        -------
        self : object
            The estimator with these weights; unchanged when the file is refused.
        """
        check_is_fitted(self)
        torch = self._torch()
        state = read_weights(path)
        own = self.module_.state_dict()
        missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or surplus:
            raise ValueError(
                f"the weights are of another network: missing {missing}, not known {surplus}"
            )
        for name, value in state.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"the weights are of another network: {name} has shape "
                    f"{tuple(value.shape)}, not {tuple(own[name].shape)}"
                )
            plain = value.layout == torch.strided and value.device.type == "cpu"
            if (
                not plain
                or value.is_quantized
                or value.is_complex()
                or (value.is_floating_point() != own[name].is_floating_point())
            ):
                raise ValueError(
                    f"{name} in the weights is of {value.dtype} ({value.layout}, on "
                    f"{value.device.type}) and cannot become {own[name].dtype}"
                )
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise ValueError(f"{name} in the weights has entries that are not finite")
        self._check_weights(state)
        self.module_.load_state_dict(state)
        return self

    def _check_weights(self, state: dict[str, Any]) -> None:
        """Refuse weights of the right names, shapes and kinds that still are none."""


def _check_callbacks(callbacks: Any) -> None:
    hooks = ("on_fit_begin", "on_epoch_end", "on_fit_end")
    for callback in callbacks or ():
        if isinstance(callback, type) or not any(hasattr(callback, name) for name in hooks):
            raise TypeError(
                f"callbacks must be objects with one of {', '.join(hooks)}, got {callback!r}"
            )


def _on_cpu(value: Any) -> Any:
    """Return a value with its tensors on the CPU; what is there already is not copied."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return value
    if isinstance(value, torch.nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
        if all(tensor.device.type == "cpu" for tensor in tensors):
            return value
        return copy.deepcopy(value).to("cpu")
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if type(value) in (list, tuple):
        return type(value)(_on_cpu(item) for item in value)
    if type(value) is dict:
        return {name: _on_cpu(item) for name, item in value.items()}
    return value


def cosine_factor(step: TrainState) -> float | None:
    """Return the cosine schedule's factor: 1 at the first step, near 0 at the last."""
    done = step.progress
    return None if done is None else 0.5 * (1.0 + math.cos(math.pi * done))

"""Input of estimators with a network inside: parameters and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sklr._torch._batches import refuse_datasets
from sklr.neural_network._parameters import Training, check_parameter_names, fill_docstring
from sklr.neural_network._storage import StoredNetwork
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NetworkInput(StoredNetwork):
    """Parameters by their names, former names and defaults; samples in the network's type."""

    # Training in float32 is fast; scores of default networks are computed in float64, or they
    # would depend on which other samples are in the call. A given Module keeps its precision.
    _training_dtype = "float32"
    _inference_dtype = "float64"
    # Parameters that the network is made from (beside module, hidden_layer_sizes, solver, dtype):
    # partial_fit refuses others than it began with.
    _network_parameters: tuple[str, ...] = ()
    # Whether the default network sees the units of the features.
    _units_matter = True
    # Former names of parameters -> names; a former one has the default "deprecated".
    _renamed: dict[str, str] = {}
    # Parameters whose names mean something else elsewhere ("encoder"), and are meant here.
    _own_names: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_parameter_names(cls)
        fill_docstring(cls)

    # Input: what a subclass may write.

    def _allow_nd(self) -> bool:
        """Return whether samples may have more than one dimension."""
        return False

    def _allow_integers(self) -> bool:
        """Return whether integers (token ids) stay integers, where the network takes them."""
        return self._value("module", None) is not None

    def _dtypes(self) -> tuple[str, str]:
        """Return the dtypes of training and of inference."""
        module, training = self._value("module", None), self._training_dtype
        if self._training.dtype != "auto":
            training = self._training.dtype
        elif hasattr(module, "parameters") and not isinstance(module, type):
            kinds = {str(p.dtype).removeprefix("torch.") for p in module.parameters()}
            training = "float64" if kinds == {"float64"} else training
        return training, self._inference_dtype if module is None else training

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Validate input as numbers; tables, and more dimensions if `_allow_nd`."""
        refuse_datasets(X)
        whole = self._allow_integers() and _is_integer(X)
        if reset:
            self._integer_input = whole
        dtype: Any = self._dtypes()[0 if reset else 1]
        if self._integer_input:
            dtype = np.int64 if whole else np.float64
        allow_nd, given = self._allow_nd(), X
        # What overflows is refused as infinite, with its reason.
        with np.errstate(over="ignore", invalid="ignore"):
            out = validate_data(self, X, y, reset=reset, dtype=dtype, allow_nd=allow_nd, order="C")
        found = out[0] if isinstance(out, tuple) else out
        if reset and found.size and not found.any() and np.asarray(given, dtype=float).any():
            raise ValueError(
                f"the largest absolute value of X is {np.abs(np.asarray(given, float)).max():.3g}, "
                f"which is zero in {found.dtype}: scale the features (StandardScaler)"
            )
        if allow_nd:
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

    # Parameters.

    _integer_input = False

    @property
    def _training(self) -> Training:
        """The training parameters, with defaults where the class leaves one out."""
        given = {name: self._value(name, None) for name in _TRAINING if hasattr(self, name)}
        return Training(**given)

    def _value(self, name: str, default: Any) -> Any:
        """Return a parameter, also where it was given by its former name."""
        for former, now in self._renamed.items():
            if now == name and not _is_deprecated(getattr(self, former)):
                return getattr(self, former)
        return getattr(self, name, default)

    def _warn_of_former_names(self) -> None:
        for former, now in self._renamed.items():
            if _is_deprecated(getattr(self, former)):
                continue
            if getattr(self, now) is not None:
                raise ValueError(f"{former} is the former name of {now}: give {now} only")
            warn_user(
                f"the parameter {former} of {type(self).__name__} is called {now} now; the former "
                "name goes in the next version but one",
                FutureWarning,
            )

    def _warn_of_units(self, X: np.ndarray) -> None:
        """Warn where a default network would see nothing but its biases, or huge numbers."""
        if not self._units_matter or X.ndim != 2 or self._value("module", None) is not None:
            return
        fault = _fault_of_units(X)
        if fault is not None:
            warn_user(
                f"{fault}: the network of {type(self).__name__} learns little from such features; "
                "scale them first (StandardScaler)",
            )

    def _structure(self) -> dict[str, Any]:
        """Return the parameters that the network is made from."""
        names = ("module", "hidden_layer_sizes", "solver", "dtype", *self._network_parameters)
        return {name: self._value(name, None) for name in names if hasattr(self, name)}

    def _refuse_changed_parameters(self) -> None:
        for name, now in self._structure().items():
            then = self._made_with.get(name)
            if now is not then and (
                callable(now) or callable(then) or not np.array_equal(now, then)
            ):
                raise ValueError(
                    f"{name} was {then!r} when the network was made and is {now!r} now: "
                    "partial_fit goes on with that network; set it back, or call fit"
                )

    def _samples(self, X: np.ndarray, device: torch.device) -> Tensor:
        """Copy samples to the device: integers where the network takes them, else floats."""
        if self._integer_input:
            return self._tensor(as_integers(X), device)
        return self._tensor(X.astype(self._dtypes()[0], copy=False), device)

    def _tensor(self, values: np.ndarray | None, device: torch.device) -> Any:
        """Copy an array to the device, or leave the copy on the CPU where it does not fit."""
        if values is None:
            return None
        import torch

        values = np.ascontiguousarray(values)  # torch takes no negative strides (a flipped axis)
        dtype = torch.long if values.dtype.kind in "iu" else getattr(torch, self._dtypes()[0])
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if values.nbytes > free // 3:
                return torch.tensor(values, dtype=dtype)
        return torch.tensor(values, dtype=dtype, device=device)


# Features further than this from 1 are warned of,
_LEAST = 1e-3
# or with a centre this many times further from 0 than samples are from it,
_FAR = 8.0
# or samples nearer to it than this,
_NEAR = 0.25
# or where a share of features this large has ranges smaller than the largest by this factor.
_SHARE, _UNEQUAL = 0.1, 30.0
_TRAINING = tuple(Training.__dataclass_fields__)


def _fault_of_units(X: np.ndarray) -> str | None:
    """Say what is wrong with the units of features, for a network that begins with small weights.

    The limits are where networks of one layer fell behind logistic regression on iris and wine.
    """
    largest = float(np.abs(X).max())
    if 0 < largest < _LEAST or largest > 1 / _LEAST:
        return f"the largest absolute value of X is {largest:.3g}, far from 1"
    if len(X) < 2 or largest == 0:
        return None
    centre = float(np.linalg.norm(X.mean(axis=0, dtype=np.float64)))
    spread = float(np.linalg.norm(X.std(axis=0, dtype=np.float64)))
    if spread <= 1e-6 * centre:  # all samples alike: no scaling helps
        return None
    if centre > _FAR * spread:
        return (
            f"samples are {centre:.3g} away from 0 on average, and only {spread:.3g} from their "
            "mean"
        )
    if spread < _NEAR:
        return f"samples are only {spread:.3g} from their mean, far from 1"
    ranges = np.ptp(X, axis=0)
    ranges = ranges[ranges > 0]
    small = ranges * _UNEQUAL < ranges.max()
    if small.mean() >= _SHARE:
        return (
            f"the features of X have unequal units, ranges from {ranges.min():.3g} to "
            f"{ranges.max():.3g}"
        )
    return None


def _is_deprecated(value: Any) -> bool:
    return isinstance(value, str) and value == "deprecated"


def _is_integer(X: Any) -> bool:
    """Return whether an array-like holds integers; NumPy says so of lists and tables."""
    try:
        kind = np.asarray(X).dtype.kind
    except (TypeError, ValueError):  # ragged, or of no numbers: validation says what is wrong
        return False
    return kind in "iu"


def as_integers(X: np.ndarray) -> np.ndarray:
    if X.dtype.kind in "iu":
        return np.ascontiguousarray(X, dtype=np.int64)
    whole = np.ascontiguousarray(X).astype(np.int64)
    if not np.array_equal(whole, X):
        raise ValueError("X has fractions, but the network was made for integers")
    return whole

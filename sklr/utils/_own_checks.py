"""What sklr asks of every estimator beyond scikit-learn's suite; each check takes an instance.

The input is native: trials or matrices for a 3-D estimator, a table for others.
"""

import copy
import importlib
import inspect
import os
import pickle
import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr, get_tags
from threadpoolctl import threadpool_info

from sklr.utils.estimator_checks import make_check_data

# Methods that take samples, by what they need to have run before.
_METHODS = (
    "transform",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
)


def _fitted(estimator: Any, X: Any, y: Any) -> Any:
    return clone(estimator).fit(X, y) if y is not None else clone(estimator).fit(X)


def _outputs(fitted: Any, X: Any) -> dict[str, np.ndarray]:
    """Return what a fitted estimator says about `X`, and every array that fit left on it."""
    found = {
        name: np.asarray(getattr(fitted, name)(X)) for name in _METHODS if hasattr(fitted, name)
    }
    for name, value in vars(fitted).items():
        if name.endswith("_") and isinstance(value, np.ndarray):
            found[name] = value
    return found


def _assert_same(got: dict, wanted: dict, *, rtol: float, atol: float = 0.0) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        if value.dtype.kind in "fc":
            scale = float(np.abs(value).max(initial=0.0))
            assert_allclose(got[name], value, rtol=rtol, atol=max(atol, rtol * scale), err_msg=name)
        else:
            assert_array_equal(got[name], value, err_msg=name)


def check_init_only_stores(estimator: Any) -> None:
    """``__init__`` keeps each argument as it is, under its own name, and does nothing else."""
    cls = type(estimator)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters), (
        f"{cls.__name__}.__init__ takes *args or **kwargs"
    )
    given = {p.name: object() for p in parameters}
    stored = vars(cls(**given))
    assert stored == given, f"{cls.__name__}.__init__ does more than store its arguments"


def check_params_round_trip(estimator: Any) -> None:
    """``get_params``, the constructor, ``set_params`` and ``clone`` agree with each other."""
    # MOABB keys its cache by the repr of the parameters: no memory address may be in it.
    assert " at 0x" not in repr(estimator.get_params()), "a parameter's repr has an address at 0x"
    params = estimator.get_params(deep=False)
    again = type(estimator)(**params)
    assert all(again.get_params(deep=False)[name] is value for name, value in params.items())
    assert type(estimator)().set_params(**params).get_params(deep=False) == params
    X, y = make_check_data(estimator)
    fitted = _fitted(estimator, X, y)
    fresh = clone(fitted)
    # fit may not change a parameter, and a clone has nothing of a fit.
    assert repr(fitted.get_params()) == repr(estimator.get_params())
    assert repr(fresh) == repr(estimator)
    assert not [name for name in vars(fresh) if name.endswith("_")]


def check_pickle_round_trip(estimator: Any) -> None:
    """Pickled, joblib-dumped and deep-copied estimators say what the original says."""
    X, y = make_check_data(estimator)
    fitted = _fitted(estimator, X, y)
    wanted = _outputs(fitted, X)
    copies = [pickle.loads(pickle.dumps(fitted, protocol)) for protocol in (2, 5)]
    copies.append(copy.deepcopy(fitted))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "estimator.joblib"
        joblib.dump(fitted, path)
        copies.append(joblib.load(path))
    for other in copies:
        _assert_same(_outputs(other, X), wanted, rtol=0)


def check_input_unchanged(estimator: Any) -> None:
    """Input is never written to, also when that would go unnoticed; layout changes nothing."""
    X, y = make_check_data(estimator)
    before, y_before = X.copy(), None if y is None else y.copy()
    fitted = _fitted(estimator, X, y)
    wanted = _outputs(fitted, X)
    assert_array_equal(X, before)
    if y is not None:
        assert_array_equal(y, y_before)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        mapped = np.load(path, mmap_mode="r")
        strided = np.repeat(X, 2, axis=-1)[..., ::2]
        for same in (mapped, np.asfortranarray(X), strided):
            # Sums may be taken in another order for another layout.
            _assert_same(_outputs(_fitted(estimator, same, y), same), wanted, rtol=1e-6)
        del mapped, same


def check_other_input_types(estimator: Any) -> None:
    """Nested lists give what arrays give; float32 gives it to float32's precision."""
    X, y = make_check_data(estimator)
    wanted = _outputs(_fitted(estimator, X, y), X)
    y_list = None if y is None else y.tolist()
    _assert_same(_outputs(_fitted(estimator, X.tolist(), y_list), X.tolist()), wanted, rtol=1e-6)
    X32 = X.astype(np.float32)
    wanted = _outputs(_fitted(estimator, X32.astype(np.float64), y), X32.astype(np.float64))
    got = _outputs(_fitted(estimator, X32, y), X32)
    for name, value in wanted.items():
        if value.dtype.kind == "f":
            assert got[name].dtype in (np.float32, np.float64), name
    _assert_same({k: v.astype(wanted[k].dtype) for k, v in got.items()}, wanted, rtol=1e-2)


def check_deterministic(estimator: Any) -> None:
    """The same seed, or no randomness at all, gives the same result; also on a second fit."""
    tags = get_tags(estimator)
    X, y = make_check_data(estimator)
    if "random_state" in estimator.get_params(deep=False):
        estimator = clone(estimator).set_params(random_state=7)
    elif tags.non_deterministic:
        return
    fitted = _fitted(estimator, X, y)
    wanted = _outputs(fitted, X)
    np.random.random_sample(3)  # noqa: NPY002 (what others drew must not matter)
    _assert_same(_outputs(_fitted(estimator, X, y), X), wanted, rtol=0)
    other, y_other = make_check_data(estimator, seed=1)
    fitted.fit(other, y_other) if y is not None else fitted.fit(other)
    fitted.fit(X, y) if y is not None else fitted.fit(X)
    _assert_same(_outputs(fitted, X), wanted, rtol=0)


def _global_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "numpy's global generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random's global generator": random.getstate(),
        "warning filters": list(warnings.filters),
        "numpy's error state": np.geterr(),
        "numpy's print options": str(np.get_printoptions()),
        "scikit-learn's configuration": sklearn.get_config(),
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
    }
    for library in threadpool_info():
        state[f"threads of {Path(library['filepath']).name}"] = library["num_threads"]
    if "numba" in sys.modules:
        state["Numba's threads"] = sys.modules["numba"].get_num_threads()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        state["torch's threads"] = torch.get_num_threads()
        state["torch's generator"] = torch.random.get_rng_state().numpy().tobytes()
        state["torch's default dtype"] = torch.get_default_dtype()
    return state


def _import_first(estimator: Any) -> None:
    """Import what changes the process by being imported: that is not the estimator's doing."""
    for name in getattr(estimator, "_imports_first", ()):
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    import numba

    numba.get_num_threads()  # starts its threads, which sets OpenMP's number, which is torch's
    if "torch" in sys.modules:
        sys.modules["torch"].get_num_threads()  # its first call sets OpenMP's number once more


def check_global_state(estimator: Any) -> None:
    """Nothing that belongs to the whole process is changed: seeds, filters, threads, folder."""
    _import_first(estimator)
    X, y = make_check_data(estimator)
    before = _global_state()
    fitted = _fitted(estimator, X, y)
    _outputs(fitted, X)
    after = _global_state()
    changed = [name for name, value in before.items() if after[name] != value]
    assert not changed, f"{type(estimator).__name__} changes {', '.join(changed)}"


def check_n_jobs(estimator: Any) -> None:
    """Where there is `n_jobs`, its default is None and its value changes no result."""
    if "n_jobs" not in estimator.get_params(deep=False):
        return
    default = inspect.signature(type(estimator)).parameters["n_jobs"].default
    assert default is None, f"n_jobs is {default!r} by default, not None"
    X, y = make_check_data(estimator)
    one, two = (
        _outputs(_fitted(clone(estimator).set_params(n_jobs=n_jobs), X, y), X)
        for n_jobs in (None, 2)
    )
    _assert_same(two, one, rtol=1e-9)


def check_html_repr(estimator: Any) -> None:
    """Text and HTML representations work before and after fit, alone and in a pipeline."""
    X, y = make_check_data(estimator)
    name = type(estimator).__name__
    for shown in (estimator, _fitted(estimator, X, y), make_pipeline(clone(estimator))):
        assert name in repr(shown)
        assert name in estimator_html_repr(shown)


def check_not_fitted(estimator: Any) -> None:
    """Each method says NotFittedError before fit, whatever its input."""
    if not get_tags(estimator).requires_fit:
        return
    X, _ = make_check_data(estimator)
    fresh = clone(estimator)
    for name in _METHODS:
        if not hasattr(fresh, name):
            continue
        for given in (X, X[:, :1], np.zeros((0, 2))):
            try:
                getattr(fresh, name)(given)
            except NotFittedError:
                continue
            raise AssertionError(f"{type(fresh).__name__}.{name} works before fit")


def _refusal(call: Any, *args: Any, kind: Any = (ValueError, TypeError)) -> str:
    try:
        call(*args)
    except NotFittedError as exc:
        raise AssertionError("NotFittedError where the input is at fault") from exc
    except kind as exc:
        return str(exc)
    raise AssertionError("accepted")


def check_tags(estimator: Any) -> None:
    """What the tags say is accepted is accepted, and the rest is refused in words that help."""
    name = type(estimator).__name__
    tags = get_tags(estimator)
    X, y = make_check_data(estimator)
    y_args = () if y is None else (y,)
    fit = clone(estimator).fit
    if tags.input_tags.three_d_array and not tags.input_tags.two_d_array:
        assert X.ndim == 3
        table = X[:, :, 0]
        message = _refusal(fit, table, *y_args, kind=ValueError)
        assert "shape" in message and str(table.shape) in message and name in message, message
        fitted = _fitted(estimator, X, y)
        for method in _METHODS:
            if hasattr(fitted, method):
                message = _refusal(getattr(fitted, method), table, kind=ValueError)
                assert "shape" in message and str(table.shape) in message, message
        _refusal(fit, X[:, :, :, None], *y_args, kind=ValueError)
    if tags.input_tags.two_d_array and not tags.input_tags.three_d_array:
        assert X.ndim == 2
        _refusal(fit, np.stack([X, X], axis=2), *y_args, kind=ValueError)
    if tags.target_tags.required:
        assert "y" in _refusal(fit, X, kind=(ValueError, TypeError))
    if tags.input_tags.allow_nan:
        damaged = X.astype(np.float64)
        damaged.flat[0] = np.nan
        fit(damaged, *y_args)


def check_bad_input(estimator: Any) -> None:
    """Damaged native input is refused with a ValueError, at fit and at the methods after it."""
    tags = get_tags(estimator)
    if tags.no_validation or tags.input_tags.one_d_array:
        return
    X, y = make_check_data(estimator)
    y_args = () if y is None else (y,)
    fitted = _fitted(estimator, X, y)
    calls = [getattr(fitted, name) for name in _METHODS if hasattr(fitted, name)]
    damaged = {"complex": X.astype(complex)}
    if not tags.input_tags.allow_nan and X.dtype.kind == "f":
        for value in (np.nan, np.inf, -np.inf):
            damaged[str(value)] = X.copy()
            damaged[str(value)].flat[-1] = value
    damaged["no samples"] = X[:0]
    damaged["no features"] = X[:, :0]
    for what, bad in damaged.items():
        y_bad = tuple(target[: len(bad)] for target in y_args)
        for call, args in [(clone(estimator).fit, y_bad), *((call, ()) for call in calls)]:
            try:
                message = _refusal(call, bad, *args, kind=ValueError)
            except AssertionError as exc:
                raise AssertionError(f"{what}: {exc}") from exc
            assert message, what
    if y is not None:
        _refusal(clone(estimator).fit, X, y[:-1], kind=ValueError)
    fewer, _ = make_check_data(estimator, n_features=X.shape[1] - 1)
    if tags.input_tags.pairwise:
        return
    for call in calls:
        message = _refusal(call, fewer, kind=ValueError)
        numbers = (str(fewer.shape[1]), str(X.shape[1]))
        assert all(number in message for number in numbers), message


def check_fitted_state(estimator: Any) -> None:
    """`n_features_in_` is the second axis; samples stand for themselves, in any order."""
    tags = get_tags(estimator)
    X, y = make_check_data(estimator)
    fitted = _fitted(estimator, X, y)
    if not tags.no_validation and not tags.input_tags.one_d_array:
        assert fitted.n_features_in_ == X.shape[1]
    if tags.estimator_type == "classifier":
        assert y is not None
        assert_array_equal(fitted.classes_, np.unique(y))
    if tags.input_tags.pairwise or tags.non_deterministic:
        return
    order = np.random.default_rng(3).permutation(len(X))
    for name in _METHODS:
        if hasattr(fitted, name):
            whole = np.asarray(getattr(fitted, name)(X))
            some = np.asarray(getattr(fitted, name)(X[order[:5]]))
            _assert_same({name: some}, {name: whole[order[:5]]}, rtol=1e-6)


class _Epochs:
    """What an mne.Epochs looks like to the input checks."""

    def __init__(self, data):
        self._data = data
        self.ch_names = [f"C{i}" for i in range(data.shape[1])]

    def __len__(self):
        return len(self._data)

    def get_data(self, copy=True):
        """Return the trials."""
        return self._data.copy() if copy else self._data


def check_epochs(estimator: Any) -> None:
    """Estimators of trials take ``mne.Epochs``; those of matrices, tables or images need not."""
    tags = get_tags(estimator)
    if not tags.input_tags.three_d_array or tags.input_tags.two_d_array:
        return
    if getattr(type(estimator), "_takes_spd", False) or hasattr(type(estimator), "_lift_table"):
        return
    X, y = make_check_data(estimator)
    epochs = _Epochs(X)
    wanted = _outputs(_fitted(estimator, X, y), X)
    got = _outputs(_fitted(estimator, epochs, y), epochs)
    # Names of channels are kept as those of columns are.
    assert list(got.pop("feature_names_in_")) == epochs.ch_names
    _assert_same(got, wanted, rtol=0)


OWN_CHECKS = (
    check_init_only_stores,
    check_params_round_trip,
    check_pickle_round_trip,
    check_input_unchanged,
    check_other_input_types,
    check_deterministic,
    check_global_state,
    check_n_jobs,
    check_html_repr,
    check_not_fitted,
    check_tags,
    check_bad_input,
    check_fitted_state,
    check_epochs,
)

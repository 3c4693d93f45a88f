"""What sklr asks of everything that is fitted on a network; each check takes an instance.

Tables, and with them scikit-learn's suite, are not for such estimators. An estimator says by
attributes of its class what differs: ``_needs_labels`` (``fit`` needs y), ``_kinds`` (layers that
it can replace), ``_identity`` (parameters with which it changes nothing),
``_one_row_is_enough``, ``_order_of_samples`` (attributes that follow the order of the samples).
"""

import copy
import functools
import inspect
import io
import os
import pickle
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr
from torch import nn

import sklr
from sklr._torch._layers import choose_layers, find_layers
from sklr._torch._module_first import ModuleEstimator
from sklr.nn._module_checks._cases import (
    LAYER_ZOO,
    MODULE_CASES,
    ModuleCase,
    call,
    case_of,
    run,
)
from sklr.utils._base import PickledByAnotherVersionWarning
from sklr.utils._own_checks import _global_state, check_init_only_stores

Check = Callable[[Any], None]


# How an estimator is fitted, whatever it is.


@contextmanager
def _quietly() -> Iterator[None]:
    """Run without the warnings that small data earn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _fitted(estimator: Any, module: nn.Module, X: Any, y: Any = None) -> Any:
    with _quietly():
        return clone(estimator).fit(module, X, y)


def _labels(estimator: Any, case: ModuleCase, n: int = 40) -> Any:
    return case.labels(n) if getattr(type(estimator), "_needs_labels", False) else None


def _fit_case(estimator: Any, case: ModuleCase, dtype: Any = torch.float64) -> Any:
    """Return (network, inputs, fitted estimator) of a case."""
    network, X = case.make(dtype).eval(), case.data()
    return network, X, _fitted(estimator, network, X, _labels(estimator, case))


def suits(estimator: Any, case: ModuleCase) -> bool:
    """Return whether a network has layers that an estimator can replace."""
    kinds = getattr(type(estimator), "_kinds", None)
    if kinds is None:
        return True
    try:
        return bool(choose_layers(find_layers(case.make()), None, kinds))
    except ValueError:
        return False


def over_cases(*cases: ModuleCase) -> Callable[[Callable[[Any, ModuleCase], None]], Check]:
    """Make a check of one case one of all that suit the estimator; a failure names the case."""

    def decorator(check: Callable[[Any, ModuleCase], None]) -> Check:
        @functools.wraps(check)
        def wrapper(estimator: Any) -> None:
            suitable = [case for case in cases if suits(estimator, case)]
            assert suitable, f"{type(estimator).__name__} can be fitted on none of the networks"
            for case in suitable:
                try:
                    check(estimator, case)
                except Exception as exc:
                    exc.add_note(f"network: {case.name}")
                    raise

        return wrapper

    return decorator


def _says(fitted: Any, module: nn.Module, X: Any, without: Any = ()) -> dict[str, Any]:
    """Return what a fitted estimator says: numbers that fit left, and the network it makes."""
    found: dict[str, Any] = {}
    for name, value in vars(fitted).items():
        if name.endswith("_") and not name.startswith("_") and name not in without:
            found[name] = value
    if hasattr(fitted, "transform"):
        found["transform"] = call(fitted.transform(module), X)
    return found


def _assert_same(got: Any, wanted: Any, *, tol: float = 0.0, where: str = "") -> None:
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys(), f"{where}: {sorted(got)} and {sorted(wanted)}"
        for key, value in wanted.items():
            _assert_same(got[key], value, tol=tol, where=f"{where}.{key}".lstrip("."))
    elif isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted), where
        for number, (one, other) in enumerate(zip(got, wanted)):
            _assert_same(one, other, tol=tol, where=f"{where}[{number}]")
    elif isinstance(wanted, (np.ndarray, torch.Tensor, float)):
        one, other = _array(got), _array(wanted)
        assert one.shape == other.shape, f"{where}: shapes {one.shape} and {other.shape}"
        scale = float(np.abs(other).max(initial=0.0)) or 1.0
        worst = float(np.abs(one - other).max(initial=0.0)) / scale
        assert worst <= tol, f"{where} differs by {worst:.3g}, relative to its size"
    else:
        assert got == wanted, f"{where}: {got!r} and {wanted!r}"


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _snapshot(module: nn.Module) -> dict[str, Any]:
    """Return everything of a network that somebody else must not change."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        own = {key: value for key, value in vars(part).items() if not key.startswith("_")}
        hooks = {
            key: list(value)
            for key, value in vars(part).items()
            if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
        }
        found[f"module {name!r}"] = (type(part), part.forward.__func__, own, hooks)
        found[f"children of {name!r}"] = [id(child) for child in part._modules.values()]
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        gradient = None if value.grad is None else _bytes(value.grad)
        found[f"tensor {name!r}"] = (
            *(id(value), value.data_ptr(), value.dtype, value.requires_grad),
            *(_bytes(value), gradient),
        )
    return found


def _bytes(value: torch.Tensor) -> bytes:
    return value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()


def _assert_as_before(module: nn.Module, before: dict[str, Any]) -> None:
    after = _snapshot(module)
    changed = [name for name in {**before, **after} if after.get(name) != before.get(name)]
    assert not changed, f"the given network is changed: {', '.join(changed)}"


def _refusal(call: Any, *args: Any, kind: Any = ValueError) -> str:
    try:
        with _quietly():
            call(*args)
    except kind as exc:
        return str(exc)
    raise AssertionError("accepted")


def _watches(estimator: Any, case: ModuleCase) -> bool:
    """Return whether fit runs data through the network."""
    seen = []
    network = case.make(torch.float64)
    network.register_forward_pre_hook(lambda *_: seen.append(1))
    # A hook of a copy is the same function.
    _fitted(estimator, network, case.data(), _labels(estimator, case))
    return bool(seen)


# 1. The object.


def check_model_first(estimator: Any) -> None:
    """It derives from the base, and ``fit`` takes a network, X and y."""
    cls = type(estimator)
    assert isinstance(estimator, ModuleEstimator), (
        f"{cls.__name__} does not derive from sklr._torch._module_first.ModuleEstimator"
    )
    parameters = inspect.signature(cls.fit).parameters
    shown = [(p.name, p.default) for p in list(parameters.values())[1:4]]
    wanted = [("module", inspect.Parameter.empty), ("X", None), ("y", None)]
    assert shown == wanted, f"{cls.__name__}.fit takes {shown}, not (module, X=None, y=None)"


def check_parameters(estimator: Any) -> None:
    """``get_params``, the constructor, ``set_params``, ``clone`` and ``fit`` leave parameters."""
    assert " at 0x" not in repr(estimator.get_params()), "a parameter's repr has an address at 0x"
    params = estimator.get_params(deep=False)
    assert type(estimator)().set_params(**params).get_params(deep=False) == params
    _, _, fitted = _fit_case(estimator, case_of("perceptron"))
    assert repr(fitted.get_params()) == repr(estimator.get_params()), "fit changes a parameter"
    assert not [name for name in vars(clone(fitted)) if name.endswith("_")], "clone keeps a fit"


def check_representations(estimator: Any) -> None:
    """Text and HTML work before and after fit."""
    _, _, fitted = _fit_case(estimator, case_of("perceptron"))
    for shown in (estimator, fitted):
        assert type(estimator).__name__ in repr(shown)
        assert type(estimator).__name__ in estimator_html_repr(shown)


def check_pickles(estimator: Any) -> None:
    """Pickles, joblib's files and deep copies say the same; other versions' pickles say so."""
    network, X, fitted = _fit_case(estimator, case_of("perceptron"))
    wanted = _says(fitted, network, X)
    copies = [pickle.loads(pickle.dumps(fitted, protocol)) for protocol in (2, 5)]
    copies.append(copy.deepcopy(fitted))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "estimator.joblib"
        joblib.dump(fitted, path)
        copies.append(joblib.load(path))
    for other in copies:
        _assert_same(_says(other, network, X), wanted)
    version = sklr.__version__
    try:
        sklr.__version__ = "0.0.7"
        written = pickle.dumps(fitted)
    finally:
        sklr.__version__ = version
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        pickle.loads(written)
    assert any(w.category is PickledByAnotherVersionWarning for w in given), (
        "a pickle of another version is loaded without a warning"
    )


def check_not_fitted(estimator: Any) -> None:
    """Before fit, methods raise NotFittedError, whatever they are given."""
    if not hasattr(estimator, "transform"):
        return
    for given in (case_of("perceptron").make(), None):
        try:
            clone(estimator).transform(given)
        except NotFittedError:
            continue
        raise AssertionError(f"{type(estimator).__name__}.transform works before fit")


# 2. The given network.


def _unlikely_state(network: nn.Module) -> None:
    """Give a network gradients, frozen parameters, mixed modes and hooks."""
    for number, (_, value) in enumerate(network.named_parameters()):
        value.grad = torch.full_like(value, float(number))
        value.requires_grad_(number % 2 == 0)
    for number, part in enumerate(network.modules()):
        part.training = number % 2 == 0
    network.register_forward_hook(lambda *_: None)


@over_cases(*MODULE_CASES, *LAYER_ZOO)
def check_module_untouched(estimator: Any, case: ModuleCase) -> None:
    """The given network is as before to the last bit, after fit and after transform."""
    network, X = case.make(), case.data()
    _unlikely_state(network)
    before = _snapshot(network)
    fitted = _fitted(estimator, network, X, _labels(estimator, case))
    _assert_as_before(network, before)
    if hasattr(fitted, "transform"):
        made = fitted.transform(network)
        _assert_as_before(network, before)
        with torch.no_grad():
            for value in [*made.parameters(), *made.buffers()]:
                value.zero_()
        _assert_as_before(network, before)


class _Fails(nn.Module):
    """A layer in the middle that raises at its second call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
        # Copies share it.
        self.calls: Any = _Calls()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, once."""
        self.calls.n += 1
        if self.calls.n > 1:
            raise self.error
        return x


class _Calls:
    n = 0

    def __deepcopy__(self, memo: Any) -> "_Calls":
        return self

    def __eq__(self, other: object) -> bool:
        return self is other


def check_module_untouched_on_failure(estimator: Any) -> None:
    """Also when its forward raises in the middle, or Ctrl-C comes; nothing of a fit is left."""
    case = case_of("perceptron")
    X, y = case.data(), _labels(estimator, case)
    for error in (RuntimeError("broken"), KeyboardInterrupt()):
        made: Any = case.make(torch.float64)
        failing = _Fails(error)
        network = nn.Sequential(made[0], failing, *made[1:])
        before = _snapshot(network)
        broken = clone(estimator)
        batches = [torch.from_numpy(rows) for rows in (X[:20], X[20:])]
        labelled = [(rows, torch.from_numpy(y[:20])) for rows in batches] if y is not None else None
        try:
            with _quietly():
                broken.fit(network, labelled or batches)
        except (type(error), ValueError) as exc:
            kind = type(error)
            assert isinstance(exc, kind) or isinstance(exc.__cause__, kind), (
                f"{kind.__name__} in the forward became {exc!r}"
            )
        else:
            assert failing.calls.n <= 1, f"{type(error).__name__} in the forward is swallowed"
            continue
        _assert_as_before(network, before)
        left = set(vars(broken)) - set(vars(clone(estimator)))
        assert not left, f"a fit that failed leaves {sorted(left)}"


# 3. What comes out.


@over_cases(*MODULE_CASES)
def check_result_is_plain(estimator: Any, case: ModuleCase) -> None:
    """A network that pickles, copies, keeps its state, trains, and answers alike in all modes."""
    if not hasattr(estimator, "transform"):
        return
    network, X, fitted = _fit_case(estimator, case)
    made = fitted.transform(network)
    wanted = call(made, X)
    assert torch.isfinite(wanted).all()
    again = pickle.loads(pickle.dumps(made))
    _assert_same(call(again, X), wanted, where="a pickled network")
    _assert_same(call(copy.deepcopy(made), X), wanted, where="a copied network")
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = fitted.transform(case.make(torch.float64, seed=1))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    _assert_same(call(fresh, X), wanted, where="a network with a loaded state")
    assert [type(p) for p in made.modules()] == [type(p) for p in fresh.modules()]
    hooks = [
        key
        for part in made.modules()
        for key, value in vars(part).items()
        if key.endswith("forward_hooks") and value
    ]
    assert not hooks, f"hooks are left in the result: {hooks}"
    assert made.training == network.training
    for grad in (torch.enable_grad, torch.no_grad):
        with grad():
            # The fast path of transformer layers is taken without gradients only.
            evaluated = run(made.eval(), X, torch.float64).detach()
            if case.same_in_training:
                trained = run(made.train(), X, torch.float64).detach()
                _assert_same(trained, evaluated, tol=1e-10, where="training mode")
    output = run(made.train(), X, torch.float64)
    output.square().sum().backward()
    still = [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert not still, f"no gradient reaches {still}"


# 4. Nothing to do.


@over_cases(*MODULE_CASES)
def check_nothing_to_do(estimator: Any, case: ModuleCase) -> None:
    """With the parameters that ask for no change, the result is the given network."""
    if not hasattr(estimator, "transform"):
        return
    identity = getattr(type(estimator), "_identity", {"rank": 1.0})
    network, X, fitted = _fit_case(clone(estimator).set_params(**identity), case)
    tol = getattr(type(estimator), "_identity_tol", 0.0)
    _assert_same(call(fitted.transform(network), X), call(network, X), tol=tol, where="output")
    if not tol:
        _assert_same(dict(fitted.transform(network).state_dict()), dict(network.state_dict()))


# 5. Inputs.


def _forms(X: np.ndarray, y: Any) -> dict[str, Any]:
    """Return the same inputs as everything that fit takes."""
    tensor = torch.from_numpy(X)
    order = torch.from_numpy(np.random.default_rng(5).permutation(len(X)))
    pieces = [order[:3], order[3:4], order[4:29], order[29:]]
    if y is not None:
        labels = torch.from_numpy(y)
        dataset = torch.utils.data.TensorDataset(tensor, labels)
        return {
            "tensor": (tensor, labels),
            "lists": (X.tolist(), y.tolist()),
            "tuple": ((X,), y),
            "batches": ([(tensor[rows], labels[rows]) for rows in pieces], None),
            "DataLoader": (torch.utils.data.DataLoader(dataset, batch_size=7), None),
        }
    dataset = torch.utils.data.TensorDataset(tensor, torch.zeros(len(X)))
    return {
        "tensor": (tensor, None),
        "lists": (X.tolist(), None),
        "tuple": ((X,), None),
        "dict": ({"input": X}, None),
        "tensors": ([tensor[rows] for rows in pieces], None),
        "arrays": ([X[rows.numpy()] for rows in pieces], None),
        "tuples": ([(tensor[rows],) for rows in pieces], None),
        "dicts": ([{"input": tensor[rows]} for rows in pieces], None),
        "generator": ((tensor[rows] for rows in pieces), None),
        # With labels, which a loader for training brings.
        "DataLoader": (torch.utils.data.DataLoader(dataset, batch_size=7), None),
    }


def check_batch_forms(estimator: Any) -> None:
    """Arrays, tensors, tuples, dicts, batches of any size and order say the same, to 1e-10."""
    # What has a row for each sample follows their order, and is left out.
    says = functools.partial(_says, without=getattr(type(estimator), "_order_of_samples", ()))
    case = case_of("perceptron")
    network, X, fitted = _fit_case(estimator, case)
    y = _labels(estimator, case)
    wanted = says(fitted, network, X)
    for name, (given, labels) in _forms(X, y).items():
        got = says(_fitted(estimator, network, given, labels), network, X)
        _assert_same(got, wanted, tol=1e-10, where=name)
    if "batch_size" in estimator.get_params():
        other = clone(estimator).set_params(batch_size=7)
        _assert_same(
            *(says(_fitted(other, network, X, y), network, X), wanted),
            tol=1e-10,
            where="batch_size",
        )
    two = case_of("two inputs")
    if suits(estimator, two):
        network, X, fitted = _fit_case(estimator, two)
        batches = [
            tuple(torch.from_numpy(v[rows]) for v in X) for rows in (slice(25), slice(25, 40))
        ]
        y = _labels(estimator, two)
        if y is not None:
            parts = (torch.from_numpy(y[:25]), torch.from_numpy(y[25:]))
            batches = [(*batch, some) for batch, some in zip(batches, parts)]
        got = says(_fitted(estimator, network, batches), network, X)
        _assert_same(got, says(fitted, network, X), tol=1e-10, where="two inputs")


def check_padding(estimator: Any) -> None:
    """What a mask hides does not count: more padding changes nothing."""
    case = case_of("named inputs")
    if not suits(estimator, case):
        return
    network, X, fitted = _fit_case(estimator, case)
    longer = {key: np.pad(value, ((0, 0), (0, 5))) for key, value in X.items()}
    got = _fitted(estimator, network, longer, _labels(estimator, case))
    _assert_same(_says(got, network, X), _says(fitted, network, X), tol=1e-10)


def check_refusals(estimator: Any) -> None:
    """What cannot be right is refused in words that help, before and after fit."""
    case = case_of("perceptron")
    network, X, fitted = _fit_case(estimator, case)
    y = _labels(estimator, case)
    name = type(estimator).__name__

    def fit(module: Any, X: Any, n: int = 40) -> Any:
        return lambda: clone(estimator).fit(module, X, None if y is None else y[:n])

    class Holder:
        module_ = network

    message = _refusal(fit(Holder(), X), kind=TypeError)
    assert "module_" in message and name in message, message
    message = _refusal(fit(network.to("meta"), X))
    assert "meta" in message, message
    network = case.make(torch.float64)
    broken: Any = case.make(torch.float64)
    with torch.no_grad():
        broken[2].weight[0, 0] = np.nan
    message = _refusal(fit(broken, X))
    assert "NaN" in message and ("'2'" in message or "'4'" in message), message
    if "targets" in estimator.get_params():
        with_targets = clone(estimator).set_params(targets=["0", "no_such_layer"])
        message = _refusal(lambda: with_targets.fit(network, X, y))
        assert "no_such_layer" in message and "'2'" in message, message
    if hasattr(fitted, "transform"):
        other = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
        message = _refusal(fitted.transform, other)
        assert "'0'" in message or "'2'" in message, message
        message = _refusal(fitted.transform, None, kind=TypeError)
        assert name in message, message
    if not _watches(estimator, case):
        return
    damaged = X.copy()
    damaged[-1, -1] = np.nan
    message = _refusal(fit(network, damaged))
    assert "'0'" in message and "NaN" in message, message
    message = _refusal(fit(network, X[:0], 0))
    assert "sample" in message, message
    message = _refusal(lambda: clone(estimator).fit(network, []))
    assert "sample" in message or "batches" in message, message
    if not getattr(type(estimator), "_one_row_is_enough", False):
        message = _refusal(fit(network, X[:1], 1))
        assert "'0'" in message and "1 row" in message, message
        for copies in (np.repeat(X[:1], 40, axis=0), np.zeros_like(X)):
            message = _refusal(fit(network, copies))
            assert "'0'" in message and "equal" in message and "40 rows" in message, message
    message = _refusal(fit(network, X[:, :-1]))
    assert "5" in message and name in message, message
    message = _refusal(fit(network, None))
    assert "X" in message and name in message, message
    message = _refusal(fit(network, [["a", "b"], ["c", "d"]], 2), kind=(TypeError, ValueError))
    assert "number" in message or "dtype" in message, message


# 6. Precision, devices, the caller's settings.


@over_cases(case_of("perceptron"), case_of("convolution"), case_of("named inputs"))
def check_dtypes(estimator: Any, case: ModuleCase) -> None:
    """The network keeps its precision and its device; sums are taken in float64 whatever it is."""
    _, X, exact = _fit_case(estimator, case)
    half_tol = getattr(type(estimator), "_half_precision_tol", 0.2)
    for dtype, tol in ((torch.float32, 1e-4), (torch.bfloat16, half_tol)):
        # bfloat16 keeps 8 bits: its weights differ by a half percent, and results by more.
        network, _, fitted = _fit_case(estimator, case, dtype)
        if not hasattr(fitted, "transform"):
            continue
        made = fitted.transform(network)
        dtypes = {p.dtype for p in made.parameters()}
        assert dtypes == {dtype}, f"a network of {dtype} becomes one of {dtypes}"
        if dtype == torch.bfloat16:
            wanted = call(_fit_case(estimator, case)[2].transform(case.make(torch.float64)), X)
        else:
            wanted = call(exact.transform(case.make(torch.float64)), X)
        _assert_same(call(made, X).double(), wanted, tol=tol, where=str(dtype))
    if torch.cuda.is_available():
        network = case.make(torch.float32).cuda()
        fitted = _fitted(estimator, network, X, _labels(estimator, case))
        assert {p.device.type for p in fitted.transform(network).parameters()} == {"cuda"}


def check_sums_in_float64(estimator: Any) -> None:
    """A mean far above the spread costs no digits: sums are taken around a pivot."""
    case = case_of("perceptron")
    network, X, _ = _fit_case(estimator, case)
    if not hasattr(estimator, "transform") or not _watches(estimator, case):
        return
    far = 1e5
    shifted = copy.deepcopy(network)
    with torch.no_grad():
        # Both networks are one function, of inputs that differ by a constant.
        shifted[0].bias -= shifted[0].weight.sum(dim=1) * far
    y = _labels(estimator, case)
    # Uncentred methods see the shift, and may: nothing in them may become NaN or negative.
    fitted = _fitted(estimator, shifted, X + far, y)
    for row in fitted.report_:
        assert np.isfinite(row["relative_error"]), row
    assert torch.isfinite(call(fitted.transform(shifted), X + far)).all()


@contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if before == torch.float32 else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_callers_settings(estimator: Any) -> None:
    """Under the caller's modes the result is what it is without them, and can be trained."""
    case = case_of("perceptron")
    network, X, fitted = _fit_case(estimator, case, torch.float32)
    y = _labels(estimator, case)
    wanted = _says(fitted, network, X)
    settings: dict[str, tuple[Any, float]] = {
        "no_grad": (torch.no_grad, 1e-12),
        "inference_mode": (torch.inference_mode, 1e-12),
        "default dtype": (_default_dtype, 1e-12),
        "default device": (lambda: torch.device("meta"), 1e-12),
        # The network itself runs in bfloat16 there, which keeps 8 bits.
        "autocast": (lambda: torch.autocast("cpu", dtype=torch.bfloat16), 5e-2),
    }
    for name, (setting, tol) in settings.items():
        with setting():
            other = _fitted(estimator, network, X, y)
            made = other.transform(network) if hasattr(other, "transform") else None
        _assert_same(_says(other, network, X), wanted, tol=tol, where=name)
        if made is not None:
            assert {p.dtype for p in made.parameters()} == {torch.float32}, name
            assert not any(p.is_inference() for p in made.parameters()), f"{name}: no training"
            run(made, X, torch.float32).sum().backward()


# 7. Global state, repetition, the report.


def _torch_state() -> dict[str, Any]:
    return {
        **_global_state(),
        "torch's gradients": torch.is_grad_enabled(),
        "torch's inference mode": torch.is_inference_mode_enabled(),
        "torch's default device": str(torch.get_default_device()),
        "torch's hooks of all modules": len(nn.modules.module._global_forward_hooks),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "torch's fast path of attention": torch.backends.mha.get_fastpath_enabled(),
        "torch's autocast": torch.is_autocast_enabled("cpu"),
    }


def check_global_state(estimator: Any) -> None:
    """Nothing that belongs to the whole process is changed."""
    case = case_of("perceptron")
    network, X = case.make(), case.data()
    _fitted(estimator, network, X, _labels(estimator, case))
    # torch gives OpenMP its number at the first parallel work of a thread; a number that nobody
    # else sets shows what is left changed.
    number = torch.get_num_threads()
    torch.set_num_threads(number + 1)
    # The first fit may have left generators where the second would leave them.
    torch.rand(1), np.random.random_sample(), random.random()  # noqa: NPY002
    try:
        before = _torch_state()
        fitted = _fitted(estimator, network, X, _labels(estimator, case))
        if hasattr(fitted, "transform"):
            fitted.transform(network)
        after = _torch_state()
    finally:
        torch.set_num_threads(number)
    changed = [name for name, value in before.items() if after[name] != value]
    assert not changed, f"{type(estimator).__name__} changes {', '.join(changed)}"


@over_cases(*MODULE_CASES)
def check_repeatable(estimator: Any, case: ModuleCase) -> None:
    """Two fits are equal to the last bit, whatever was drawn or fitted between them."""
    network, X, fitted = _fit_case(estimator, case)
    wanted = _says(fitted, network, X)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(os.getpid())
        _assert_same(_says(_fit_case(estimator, case)[2], network, X), wanted)
    other = case.make(torch.float64, seed=3)
    y = _labels(estimator, case)
    with _quietly():
        fitted.fit(other, case.data(seed=3), y).fit(network, X, y)
    _assert_same(_says(fitted, network, X), wanted, where="a second fit")


@over_cases(*MODULE_CASES, *LAYER_ZOO)
def check_report_counts(estimator: Any, case: ModuleCase) -> None:
    """Numbers of the report are what a count of the parameters gives."""
    if not hasattr(estimator, "transform"):
        return
    network, _, fitted = _fit_case(estimator, case)
    made = fitted.transform(network)
    for what, counted, module in (
        ("n_params_before_", fitted.n_params_before_, network),
        ("n_params_after_", fitted.n_params_after_, made),
    ):
        numel = sum(p.numel() for p in module.parameters())
        assert counted == numel, f"{what} is {counted}, and {numel} parameters are there"
    assert fitted.ratio_ == fitted.n_params_after_ / fitted.n_params_before_
    assert any(row["status"] == "compressed" for row in fitted.report_)
    for row in fitted.report_:
        for key, module in (("params_before", network), ("params_after", made)):
            numel = sum(p.numel() for p in module.get_submodule(row["name"]).parameters())
            assert row[key] == numel, f"{row['name']}: {key} is {row[key]}, counted {numel}"
        assert row["status"] in ("compressed", "kept", "skipped"), row
        assert bool(row["reason"]) == (row["status"] != "compressed"), row


# 8. Kinds of layers.


@over_cases(*MODULE_CASES, *LAYER_ZOO)
def check_layer_zoo(estimator: Any, case: ModuleCase) -> None:
    """Each layer is replaced, or left to the bit with its reason; padding stays padding."""
    if not hasattr(estimator, "transform"):
        return
    network, X, fitted = _fit_case(estimator, case)
    made = fitted.transform(network)
    assert torch.isfinite(call(made, X)).all()
    rows = {row["name"]: row for row in fitted.report_}
    for name, reason in case.left.items():
        assert rows[name]["status"] == "skipped", rows[name]
        assert reason in rows[name]["reason"], rows[name]
    known = {layer.name for layer in find_layers(network)}
    assert known <= set(rows), f"the report says nothing of {sorted(known - set(rows))}"
    for name, row in rows.items():
        if row["status"] != "compressed":
            old, new = network.get_submodule(name), made.get_submodule(name)
            assert type(old) is type(new), name
            _assert_same(dict(new.state_dict()), dict(old.state_dict()), where=name)
            continue
        new, old = made.get_submodule(name), network.get_submodule(name)
        if getattr(old, "padding_idx", None) is not None:
            ids = torch.tensor([old.padding_idx])
            _assert_same(new(ids), old(ids), where=f"padding of {name}")
    if case.name == "used twice" and rows["first"]["status"] == "compressed":
        assert made.first is made.again, "a layer under two names became two"


MODULE_CHECKS: tuple[Check, ...] = (
    check_init_only_stores,
    check_model_first,
    check_parameters,
    check_representations,
    check_pickles,
    check_not_fitted,
    check_module_untouched,
    check_module_untouched_on_failure,
    check_result_is_plain,
    check_nothing_to_do,
    check_batch_forms,
    check_padding,
    check_refusals,
    check_dtypes,
    check_sums_in_float64,
    check_callers_settings,
    check_global_state,
    check_repeatable,
    check_report_counts,
    check_layer_zoo,
)

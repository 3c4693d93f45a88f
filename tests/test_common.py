"""Every public estimator, found by itself: scikit-learn's whole suite, and ours.

A new estimator is covered as soon as its subpackage names it in ``__all__``. A check that must
fail is declared with its reason in ``EXPECTED_FAILED_CHECKS``; a class that is slow by default
gets quick parameters in ``CHECK_PARAMS`` (both in its subpackage's ``_check_params.py``). A failure
of a check says where.
"""

import inspect
import os
import pathlib
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict

import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import estimator_checks as sklearn_checks
from sklearn.utils import get_tags
from sklearn.utils._testing import SkipTest, ignore_warnings
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from sklr.utils import all_estimators, all_module_estimators
from sklr.utils._imports import TORCH_PACKAGES
from sklr.utils._own_checks import OWN_CHECKS, _fitted, _outputs
from sklr.utils.estimator_checks import (
    CHECK_PARAMS,
    EXPECTED_FAILED_CHECKS,
    instance_for_checks,
    make_check_data,
    missing_extra,
)

CLASSES = [cls for _, cls in all_estimators()]
NATIVE = [instance_for_checks(cls) for cls in CLASSES]
TABULAR = [instance_for_checks(cls, tabular=True) for cls in CLASSES]

# scikit-learn runs these on its own estimators only, beside its public suite.
FURTHER_CHECKS = (
    "check_param_validation",
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_set_output_transform_polars",
)
# Containers need column names, which output of three dimensions does not have.
OF_NAMED_OUTPUT = ("feature_names_out", "output_transform")

# Class name -> how its checks of scikit-learn's suite ended, filled as they run.
ENDED = defaultdict(Counter)


def expected_failed_checks(estimator):
    return EXPECTED_FAILED_CHECKS.get(type(estimator).__name__, {})


def run(check, estimator):
    """Run a check; when it fails because an extra is not installed, skip and name the extra."""
    name = type(estimator).__name__
    try:
        with ignore_warnings(category=(FutureWarning, ConvergenceWarning)):
            check(estimator)
    except (SkipTest, pytest.skip.Exception):
        ENDED[name]["skipped"] += 1
        raise
    except BaseException as exc:
        if isinstance(exc, Exception | pytest.fail.Exception):
            extra = missing_extra(estimator)
            if extra is not None:
                ENDED[name]["without extra"] += 1
                pytest.skip(f"{name} needs the extra {extra!r}: pip install 'sklr[{extra}]'")
        ENDED[name]["failed"] += 1
        exc.add_note(what_to_do(estimator, check))
        raise
    ENDED[name]["passed"] += 1


def what_to_do(estimator, check):
    """Return where the answers to a failed check are written."""
    cls = type(estimator)
    subpackage = cls.__module__.split(".")[1]
    declarations = f"sklr/{subpackage}/_check_params.py"
    note = (
        f"{cls.__name__}: other parameters for the checks go into CHECK_PARAMS of {declarations}, "
        "a check that must fail into EXPECTED_FAILED_CHECKS there, with its reason"
    )
    if subpackage in TORCH_PACKAGES and "sample_weight_equivalence" in str(check):
        note += (
            ". Weights are compared with repeated samples to 1e-7, below the rounding of float32: "
            "let the class have the parameter dtype='auto', and the checks run in float64"
        )
    return note


@parametrize_with_checks(TABULAR, xfail_strict=True, expected_failed_checks=expected_failed_checks)
def test_sklearn_checks(estimator, check):
    run(check, estimator)


def wanted_further_checks(estimator):
    has_names = hasattr(estimator, "get_feature_names_out")
    for name in FURTHER_CHECKS:
        if has_names or not any(part in name for part in OF_NAMED_OUTPUT):
            yield name


@pytest.mark.parametrize(
    "estimator, name",
    [
        pytest.param(estimator, name, id=f"{type(estimator).__name__}-{name}")
        for estimator in TABULAR
        for name in wanted_further_checks(estimator)
    ],
)
def test_further_sklearn_checks(estimator, name, request):
    reason = expected_failed_checks(estimator).get(name)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    check = getattr(sklearn_checks, name)
    run(lambda estimator: check(type(estimator).__name__, estimator), estimator)


@pytest.mark.parametrize(
    "estimator, check",
    [
        pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.__name__}")
        for estimator in NATIVE
        for check in OWN_CHECKS
    ],
)
def test_own_checks(estimator, check, request):
    reason = expected_failed_checks(estimator).get(check.__name__)
    if reason:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    run(check, estimator)


@pytest.mark.parametrize("estimator", TABULAR, ids=lambda estimator: type(estimator).__name__)
def test_more_than_twenty_checks_ran(estimator):
    """A class that scikit-learn skips in silence is green and untested: count what passed."""
    name = type(estimator).__name__
    extra = missing_extra(estimator)
    if extra is not None:
        pytest.skip(f"{name} needs the extra {extra!r}: pip install 'sklr[{extra}]'")
    if sum(ENDED[name].values()) == 0:  # run alone, or in another process: count here
        for instance, check in estimator_checks_generator(estimator):
            try:
                run(check, instance)
            except (Exception, pytest.skip.Exception):
                continue
    assert ENDED[name]["passed"] > 20, dict(ENDED[name])


@pytest.mark.parametrize("estimator", NATIVE, ids=lambda estimator: type(estimator).__name__)
def test_checks_see_more_than_one_result(estimator):
    """An estimator that says the same of every sample would pass most checks whatever it does."""
    extra = missing_extra(estimator)
    if extra is not None:
        pytest.skip(f"{type(estimator).__name__} needs the extra {extra!r}")
    X, y = make_check_data(estimator)
    with ignore_warnings(category=ConvergenceWarning):
        found = _outputs(_fitted(estimator, X, y), X)
    of_samples = [value for value in found.values() if len(value) == len(X)]
    assert any((value != value[0]).any() for value in of_samples), found


def test_every_estimator_class_in_the_modules_is_public():
    """A class left out of ``__all__`` would be left out of every test above."""
    import sklr.utils._discovery as discovery

    public = set(discovery.public_objects().values())
    for module in discovery.public_modules():
        for name, item in vars(module).items():
            if not inspect.isclass(item) or not issubclass(item, BaseEstimator):
                continue
            if name.startswith("_") or not item.__module__.startswith("sklr."):
                continue
            assert item in public, f"{module.__name__}.{name} is not in __all__"


def test_declared_exceptions_are_of_existing_classes_and_have_reasons():
    pytest.importorskip("torch", reason="without torch not all classes are found")
    names = {name for name, _ in all_estimators() + all_module_estimators()}
    for title, entries in (
        ("EXPECTED_FAILED_CHECKS", EXPECTED_FAILED_CHECKS),
        ("CHECK_PARAMS", CHECK_PARAMS),
    ):
        unknown = sorted(set(entries) - names)
        assert not unknown, f"{title} in a _check_params.py names {unknown}, which are not public"
    known = {name for name in dir(sklearn_checks) if name.startswith("check_")}
    known |= {check.__name__ for check in OWN_CHECKS}
    for name, checks in EXPECTED_FAILED_CHECKS.items():
        assert set(checks) <= known, f"{name}: there are no checks {sorted(set(checks) - known)}"
        for check, reason in checks.items():
            assert len(reason.split()) >= 4, f"{name}, {check}: {reason!r} is no reason"


# Take flat samples and 3-D ones, with both tags. The checks run on flat samples; the named test
# shows that 3-D ones are the same.
TAKE_BOTH = {
    "LatentSpectralRegressor": (
        "tests/neural_network/test_latent_spectral.py",
        "test_flat_rows_are_the_fields",
    ),
    "MatrixSensingRegressor": (
        "tests/decomposition/test_sensing.py",
        "test_three_d_flat_and_sparse_samples_agree",
    ),
    "InformationKoopman": (
        "tests/neural_network/test_koopman.py",
        "test_a_table_a_list_and_a_stack_of_one_trajectory_agree",
    ),
}


def test_classes_of_flat_and_three_d_samples_have_a_test_that_both_agree():
    root = pathlib.Path(__file__).parents[1]
    for name, (file, function) in TAKE_BOTH.items():
        assert name in {cls.__name__ for cls in CLASSES}
        assert f"def {function}(" in (root / file).read_text(), name


def test_three_d_estimators_say_so():
    """Exactly one of the two: a class that claims tables and trials would be tested on one."""
    for estimator in NATIVE:
        if type(estimator).__name__ in TAKE_BOTH:
            continue
        tags = get_tags(estimator).input_tags
        kinds = (tags.two_d_array, tags.three_d_array, tags.one_d_array)
        assert any(kinds), type(estimator).__name__
        assert not (tags.two_d_array and tags.three_d_array), type(estimator).__name__


TWO_THREADS = """
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.base import clone

from sklr.utils import all_estimators, all_module_estimators
from sklr.utils._imports import TORCH_PACKAGES
from sklr.utils._own_checks import _METHODS, _fitted
from sklr.utils.estimator_checks import instance_for_checks, make_check_data, missing_extra

for name, cls in all_estimators():
    estimator = instance_for_checks(cls)
    if missing_extra(estimator):
        continue
    if "n_jobs" in estimator.get_params(deep=False):
        estimator.set_params(n_jobs=2)
    X, y = make_check_data(estimator)

    def everything(_):
        fitted = _fitted(estimator, X, y)
        return [np.asarray(getattr(fitted, m)(X)) for m in _METHODS if hasattr(fitted, m)]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(everything, range(6)))
    for result in results[1:]:
        for got, wanted in zip(result, results[0], strict=True):
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
            else:
                np.testing.assert_array_equal(got, wanted, err_msg=name)
    print("ok", name)
"""


def test_two_python_threads_at_once():
    """Numba's workqueue layer aborts the process on two launches at once: locks must prevent it.

    In a process of its own, because an abort would take all other tests with it.
    """
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_THREADS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {
        type(estimator).__name__ for estimator in NATIVE if missing_extra(estimator) is None
    }
    assert {line.removeprefix("ok ") for line in done.stdout.splitlines()} == expected

"""Every estimator with a network inside, found by itself, with quick parameters and small data."""

import inspect

import pytest

from sklr.utils import all_estimators
from sklr.utils._imports import TORCH_PACKAGES
from sklr.utils.estimator_checks import instance_for_checks, make_check_data


def _case(cls):
    estimator = instance_for_checks(cls)
    if "dtype" in estimator.get_params():
        estimator.set_params(dtype="auto")
    return estimator, *make_check_data(estimator, 48, 6)


# Meta-estimators have their networks in other estimators, which are here themselves.
TORCH_CASES = {
    name: _case(cls)
    for name, cls in all_estimators()
    if cls.__module__.split(".")[1] in TORCH_PACKAGES
    and "estimator" not in inspect.signature(cls).parameters
}


@pytest.fixture(params=TORCH_CASES)
def torch_case(request):
    """An estimator, samples and labels (or None)."""
    return TORCH_CASES[request.param]

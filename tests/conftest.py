"""Shared fixtures."""

import os
import pathlib

import pytest

# The checks of every estimator are part of the package; their asserts shall show values too.
pytest.register_assert_rewrite("sklr.utils._own_checks", "sklr.nn._module_checks._checks")

DATA_VARIABLE = "SKLR_TEST_DATA"


@pytest.fixture(scope="session")
def data_folder():
    """Folder of real data for tests, from the environment variable SKLR_TEST_DATA."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"real data are not given: set {DATA_VARIABLE} to their folder")
    folder = pathlib.Path(value)
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE}={value} is not a folder")
    return folder

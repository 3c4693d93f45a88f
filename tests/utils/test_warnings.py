"""A warning names the line of the user, whatever lies between."""

import pathlib
import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.decomposition import LowRankImputer
from sklr.utils._warnings import warn_user

HERE = pathlib.Path(__file__).name


def test_a_direct_call_is_the_line():
    with pytest.warns(RuntimeWarning, match="so it is") as seen:
        warn_user("so it is", RuntimeWarning)
    assert pathlib.Path(seen[0].filename).name == HERE


@pytest.mark.parametrize("output", ["default", "pandas"])
@pytest.mark.parametrize("piped", [False, True])
def test_wrappers_of_methods_are_not(output, piped):
    if output == "pandas":
        pytest.importorskip("pandas")
    X = np.random.default_rng(0).normal(size=(30, 4))
    X[3] = np.nan
    model = LowRankImputer(2, n_clusters=1, n_neighbors=0)
    model = make_pipeline(StandardScaler(), model) if piped else model
    model.set_output(transform=output)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit_transform(X)
    rows = [one for one in seen if "no observed value" in str(one.message)]
    assert [pathlib.Path(one.filename).name for one in rows] == [HERE]

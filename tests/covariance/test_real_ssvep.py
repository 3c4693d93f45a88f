"""Real SSVEP: the frequency is the class, and only the delays hold it."""

import pytest
from scipy.io import loadmat
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklr.covariance import AugmentedCovariance, TangentSpace


@pytest.mark.parametrize("subject, plain, augmented", [("U001", 0.40, 0.58), ("U002", 0.21, 0.47)])
def test_delays_add_the_frequency(data_folder, subject, plain, augmented):
    """Accuracies of the sheet, chance .20; 100 test trials of another session."""
    file = data_folder / "eeg" / "mamem-ssvep2" / f"{subject}.mat"
    if not file.is_file():
        pytest.skip(f"no SSVEP recordings: {file} is not there")
    content = loadmat(file)
    X, y = content["x_test"], content["y_test"].ravel()
    for order, lag, expected in ((1, 1, plain), (5, 3, augmented)):
        pipe = make_pipeline(
            AugmentedCovariance(order, lag, estimator="oas"),
            TangentSpace(),
            LogisticRegression(max_iter=1000),
        )
        score = pipe.fit(X[:300], y[:300]).score(X[400:], y[400:])
        # One of 100 trials may fall the other way with another BLAS.
        assert score == pytest.approx(expected, abs=0.021)

"""Use an installed sklr where no extra is installed: every estimator, and what is missing."""

import importlib.util
import pathlib
import subprocess
import sys

import sklr

assert "site-packages" in pathlib.Path(sklr.__file__).parts, sklr.__file__
assert (pathlib.Path(sklr.__file__).parent / "py.typed").is_file()
for name in ("moabb", "mne", "torch", "dask", "pytest", "sphinx"):
    assert importlib.util.find_spec(name) is None, f"{name} is here, the check means nothing"

from sklearn.model_selection import cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from sklr.covariance import AugmentedCovariance, TangentSpace  # noqa: E402
from sklr.datasets import make_ar2_trials  # noqa: E402
from sklr.utils import all_estimators, warm_up  # noqa: E402
from sklr.utils.estimator_checks import instance_for_checks, missing_extra  # noqa: E402

warm_up(verbose=True)
X, y = make_ar2_trials(random_state=0)
clf = make_pipeline(AugmentedCovariance(order=2), TangentSpace(), SVC(kernel="linear"))
score = cross_val_score(clf, X, y, cv=5).mean()
print(f"order 2 on trials of equal covariance: {score:.2f}")
assert score > 0.9

fitted = []
for name, cls in all_estimators():
    extra = missing_extra(instance_for_checks(cls))
    print(f"{name}: {'fitted' if extra is None else f'needs the extra {extra}'}")
    if extra is None:
        fitted.append(name)
assert {"AugmentedCovariance", "TangentSpace"} <= set(fitted)

help_text = subprocess.run([sys.executable, "-m", "sklr.eeg", "--help"], capture_output=True)
assert help_text.returncode == 0, help_text.stderr.decode()
real = subprocess.run(
    [sys.executable, "-m", "sklr.eeg", "--dataset", "PhysionetMI"], capture_output=True, text=True
)
assert real.returncode != 0
assert "sklr[eeg]" in real.stdout + real.stderr, real.stdout + real.stderr

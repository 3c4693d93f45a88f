"""Options of the main job that are right or wrong whatever the dataset."""

import pathlib
import tempfile

import numpy as np

from sklr.eeg._paradigms import PARADIGMS
from sklr.utils._validation import check_positive_int

EVALUATIONS = {
    "within-session": "WithinSessionEvaluation",
    "cross-session": "CrossSessionEvaluation",
    "cross-subject": "CrossSubjectEvaluation",
}


def check_options(evaluation, paradigm, subjects, channels, fmin, fmax, orders, lags, n_jobs):
    """Refuse options that are wrong whatever the dataset."""
    if evaluation not in EVALUATIONS:
        raise ValueError(f"evaluation must be one of {list(EVALUATIONS)}, got {evaluation!r}.")
    if paradigm != "auto" and paradigm not in PARADIGMS:
        raise ValueError(f"paradigm must be 'auto' or one of {list(PARADIGMS)}, got {paradigm!r}.")
    for name, value in (("fmin", fmin), ("fmax", fmax)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a frequency above 0 Hz, got {value!r}.")
    if fmin is not None and fmax is not None and fmin >= fmax:
        raise ValueError(f"fmin must be below fmax, got fmin={fmin:g} and fmax={fmax:g} Hz.")
    for name, values in (("orders", orders), ("lags", lags)):
        if not values:
            raise ValueError(f"{name} must not be empty.")
        for value in values:
            check_positive_int(value, name)
    if isinstance(n_jobs, bool) or int(n_jobs) != n_jobs or n_jobs == 0:
        raise ValueError(
            f"n_jobs must be an integer, at least 1 or negative for all, got {n_jobs!r}."
        )
    if subjects is not None:
        repeated = sorted({s for s in subjects if list(subjects).count(s) > 1})
        if repeated:
            raise ValueError(f"subjects has {repeated} more than once.")
    if not isinstance(channels, str) and (not list(channels) or len(set(channels)) < len(channels)):
        raise ValueError(f"channels must be different names, at least one, got {list(channels)}.")


def check_writable(out) -> pathlib.Path:
    """Make the output folder and try a file in it, or raise OSError that says why not."""
    out = pathlib.Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as exc:
        raise OSError(f"The output folder {str(out)!r} cannot be written: {exc.strerror}.") from exc
    return out

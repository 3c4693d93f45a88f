"""What a run of the main job found."""

import dataclasses
from typing import Any


@dataclasses.dataclass
class BenchmarkResult:
    """What a benchmark run found.

    Parameters
    ----------
    scores : pandas.DataFrame
        One row per pipeline, subject and session: MOABB's columns, and ``simulated``.
    failures : list of dict
        Keys "subject", "pipeline" (None: all) and "reason".
    dataset : str
        Name of the dataset.
    evaluation : str
        Kind of evaluation.
    simulated : bool
        Whether the data are simulated.
    n_cached : int
        Units of work that came from the cache.
    n_units : int
        Units of work in all.
    interrupted : bool
        Whether Ctrl-C ended it early.
    paradigm : str, default="left-right"
        Kind of experiment.
    scoring : str, default="roc_auc"
        What the scores are: ROC-AUC for two classes, else accuracy.

    Examples
    --------
    >>> from sklr.eeg import BenchmarkResult
    >>> BenchmarkResult(None, [], "none", "within-session", True, 0, 0, False).interrupted
    False
    """

    scores: Any
    failures: list[dict]
    dataset: str
    evaluation: str
    simulated: bool
    n_cached: int
    n_units: int
    interrupted: bool
    paradigm: str = "left-right"
    scoring: str = "roc_auc"


def failure_of(subject, pipeline, reason):
    reason = " ".join(str(reason).split()) or type(reason).__name__
    return {"subject": subject, "pipeline": pipeline, "reason": reason}

"""The main job: pipelines, subjects and MOABB's evaluations, one small unit of work at a time."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from sklr.datasets._eeg import MOTOR_CHANNELS
from sklr.eeg._pipelines import make_pipelines
from sklr.utils._imports import import_optional
from sklr.utils._progress import progress

EVALUATIONS = {
    "within-session": "WithinSessionEvaluation",
    "cross-session": "CrossSessionEvaluation",
    "cross-subject": "CrossSubjectEvaluation",
}
#: Grid of the nested search unless the paper's is asked for: a sixth of its cells.
DEMO_ORDERS, DEMO_LAGS = (1, 2, 3, 4, 6), (1, 2, 4, 6)
PHYSIONET_FOLDER = pathlib.Path("MNE-eegbci-data", "files", "eegmmidb", "1.0.0")


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


def run_benchmark(
    dataset="auto",
    *,
    subjects=None,
    evaluation="within-session",
    pipelines=None,
    channels="motor",
    fmin=8.0,
    fmax=35.0,
    orders=DEMO_ORDERS,
    lags=DEMO_LAGS,
    n_jobs=1,
    out="results",
    seed=42,
    download=False,
    verbose=0,
) -> BenchmarkResult:
    """Score pipelines on left/right imagery through MOABB, keeping every finished result.

    Parameters
    ----------
    dataset : str or moabb.datasets.base.BaseDataset, default="auto"
        "simulated", the class name of a MOABB dataset, or a dataset object. "auto" is
        PhysionetMI where the folder MNE_DATA holds it, else simulated.
    subjects : list of int, default=None
        Which; None is all, and for PhysionetMI all whose files are on disk.
    evaluation : {"within-session", "cross-session", "cross-subject"}, default="within-session"
        MOABB's evaluation.
    pipelines : list of str or dict of str to estimator, default=None
        Names as in :func:`make_pipelines`, or estimators of your own. None is all names.
    channels : "motor", "all" or list of str, default="motor"
        "motor" is the nine channels over the motor cortex.
    fmin, fmax : float, default=8.0, 35.0
        Band-pass in Hz.
    orders, lags : iterable of int
        Grid of the nested search. The defaults are a part of the paper's ``range(1, 11)``.
    n_jobs : int, default=1
        Processes over folds.
    out : path-like, default="results"
        Folder of MOABB's results, which are also the cache.
    seed : int, default=42
        Seed of the folds.
    download : bool, default=False
        Whether missing files of PhysionetMI may be fetched; otherwise their subject fails.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    result : BenchmarkResult
        Scores and failures. Ctrl-C does not raise: what is finished is returned.

    Raises
    ------
    ValueError
        An unknown dataset, subject, evaluation, pipeline or channel, or a dataset that does not
        allow the evaluation.
    OSError
        `out` cannot be written; told before any work.
    ImportError
        The extra ``eeg`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from sklr.eeg import SimulatedMotorImagery, run_benchmark
    >>> data = SimulatedMotorImagery(n_subjects=1, n_trials=20)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = run_benchmark(data, pipelines=["MDM"], out=out)
    >>> len(result.scores), result.failures
    (1, [])
    """
    out = check_writable(out)
    if evaluation not in EVALUATIONS:
        raise ValueError(f"evaluation must be one of {list(EVALUATIONS)}, got {evaluation!r}.")
    if isinstance(pipelines, dict):
        pipelines = dict(pipelines)
    else:
        pipelines = make_pipelines(pipelines, orders=orders, lags=lags, random_state=seed)
    with _quiet():
        data, simulated = resolve_dataset(dataset)
        missing = _choose_subjects(data, subjects, download)
        runner = _Runner(data, evaluation, channels, (fmin, fmax), n_jobs, out, seed)
        subjects_left, failures = runner.load(
            [subject for subject in data.subject_list if subject not in missing], verbose
        )
        failures = [
            {"subject": s, "pipeline": None, "reason": reason} for s, reason in missing.items()
        ] + failures
        return runner.run(pipelines, subjects_left, failures, simulated, verbose)


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


def physionet_on_disk() -> pathlib.Path | None:
    """Folder of PhysionetMI's files below MNE_DATA, if it is there."""
    root = os.environ.get("MNE_DATASETS_EEGBCI_PATH") or os.environ.get("MNE_DATA")
    folder = pathlib.Path(root, PHYSIONET_FOLDER) if root else None
    return folder if folder is not None and folder.is_dir() else None


def resolve_dataset(dataset):
    """Return a dataset object, and whether it is simulated."""
    datasets = import_optional("moabb.datasets", extra="eeg", feature="run_benchmark")
    from moabb.datasets.base import BaseDataset

    from sklr.eeg._simulated import SimulatedMotorImagery

    if isinstance(dataset, BaseDataset):
        return dataset, isinstance(dataset, SimulatedMotorImagery)
    if dataset == "auto":
        dataset = "PhysionetMI" if physionet_on_disk() else "simulated"
    if dataset == "simulated":
        return SimulatedMotorImagery(), True
    kind = getattr(datasets, str(dataset), None)
    if not (isinstance(kind, type) and issubclass(kind, BaseDataset)):
        known = sorted(
            name
            for name, item in vars(datasets).items()
            if isinstance(item, type) and issubclass(item, BaseDataset)
        )
        raise ValueError(f"dataset must be 'auto', 'simulated' or one of {known}, got {dataset!r}.")
    return kind(), False


def _choose_subjects(data, subjects, download):
    """Set the dataset's subjects; return those that cannot be read, with the reason."""
    known = list(data.subject_list)
    if subjects is not None:
        unknown = [subject for subject in subjects if subject not in known]
        if unknown or not subjects:
            raise ValueError(
                f"subjects must be among {known[0]}..{known[-1]} of {data.code}, got {subjects}."
            )
        data.subject_list = list(subjects)
    if type(data).__name__ not in ("PhysionetMI", "PhysionetMotorImagery"):
        return {}
    data.feet_runs = []  # left and right hand only: the others would be read for nothing
    if download:
        return {}
    folder = physionet_on_disk()
    absent = {}
    for subject in data.subject_list:
        names = [f"S{subject:03d}/S{subject:03d}R{run:02d}.edf" for run in data.hand_runs]
        lost = [name for name in names if folder is None or not (folder / name).is_file()]
        if lost:
            absent[subject] = f"missing {', '.join(lost)} (and no download was asked for)"
    if subjects is None:  # whoever is there
        data.subject_list = [subject for subject in known if subject not in absent]
        absent = {}
        if not data.subject_list:
            raise ValueError(
                "No subject of PhysionetMI is on disk: set MNE_DATA to the folder that holds "
                f"{PHYSIONET_FOLDER}, or allow the download."
            )
    return absent


class _Runner:
    """One evaluation over subjects and pipelines."""

    def __init__(self, data, evaluation, channels, band, n_jobs, out, seed):
        from moabb import evaluations
        from moabb.paradigms import LeftRightImagery

        if channels == "motor":
            channels = list(MOTOR_CHANNELS)
        elif channels == "all":
            channels = None
        self.data, self.evaluation, self.out, self.n_jobs = data, evaluation, out, n_jobs
        self.paradigm = LeftRightImagery(fmin=band[0], fmax=band[1], channels=channels)
        self._loaded: dict[int, tuple] = {}
        self._read = self.paradigm.get_data
        self.paradigm.get_data = self._get_data  # each subject is read once, not per pipeline
        # MOABB tells results apart by the pipeline and the filter, not by these.
        settings = [seed, channels, band, getattr(data, "feet_runs", None), sorted(data.event_id)]
        self.suffix = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]
        self._make = lambda: getattr(evaluations, EVALUATIONS[evaluation])(
            paradigm=self.paradigm,
            datasets=[data],
            hdf5_path=str(out),
            suffix=self.suffix,
            random_state=seed,
            n_jobs=n_jobs,
            overwrite=False,
        )
        if evaluation == "cross-session" and data.n_sessions < 2:
            raise ValueError(f"cross-session needs two sessions or more; {data.code} has one.")

    def _get_data(self, dataset, subjects=None, **options):
        if options.get("return_epochs") or options.get("return_raws"):
            return self._read(dataset=dataset, subjects=subjects, **options)
        import pandas as pd

        parts = []
        for subject in dataset.subject_list if subjects is None else subjects:
            if subject not in self._loaded:
                self._loaded[subject] = self._read(dataset=dataset, subjects=[subject], **options)
            parts.append(self._loaded[subject])
        if len(parts) == 1:
            return parts[0]
        X, y, meta = zip(*parts)
        return np.concatenate(X), np.concatenate(y), pd.concat(meta, ignore_index=True)

    def load(self, subjects, verbose):
        """Read every subject; return those that can be used, and why the others cannot."""
        good, failures = [], []
        for subject in progress(subjects, total=len(subjects), description="read", verbose=verbose):
            try:
                X, y, _ = self._get_data(self.data, [subject])
                counts = dict(zip(*np.unique(y, return_counts=True)))
                if len(counts) < 2:
                    raise ValueError(f"has trials of {len(counts)} class(es): {counts}")
                if not np.isfinite(X).all():
                    raise ValueError("has NaN or infinite samples")
                good.append(subject)
            except KeyboardInterrupt:
                raise
            except Exception as exc:  # one bad recording must not cost the others
                reason = " ".join(str(exc).split()) or type(exc).__name__
                failures.append({"subject": subject, "pipeline": None, "reason": reason})
        return good, failures

    def run(self, pipelines, subjects, failures, simulated, verbose) -> BenchmarkResult:
        """Score unit by unit; Ctrl-C ends it with what is there."""
        import pandas as pd

        pooled = self.evaluation == "cross-subject"
        if pooled and len(subjects) < 2:
            raise ValueError(
                f"cross-subject needs two readable subjects or more, got {len(subjects)}."
            )
        if pooled:
            units = [(subjects, name) for name in pipelines]
        else:
            units = [([subject], name) for subject in subjects for name in pipelines]
        tables, n_cached, interrupted = [], 0, False
        shown = progress(units, total=len(units), description=self.evaluation, verbose=verbose)
        try:
            for chosen, name in shown:
                self.data.subject_list = list(chosen)
                try:
                    table, cached = self._unit(name, pipelines[name], chosen)
                except (ValueError, np.linalg.LinAlgError, ArithmeticError) as exc:
                    reason = " ".join(str(exc).split())
                    failures += [
                        {"subject": subject, "pipeline": name, "reason": reason}
                        for subject in chosen
                    ]
                    continue
                tables.append(table)
                n_cached += cached
        except KeyboardInterrupt:
            interrupted = True
        scores = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        scores["simulated"] = simulated
        return BenchmarkResult(
            scores,
            failures,
            self.data.code,
            self.evaluation,
            simulated,
            n_cached,
            len(units),
            interrupted,
        )

    def _unit(self, name, pipeline, subjects):
        evaluation = self._open()
        process = self.paradigm.make_process_pipelines(
            self.data, return_epochs=False, return_raws=False, postprocess_pipeline=None
        )[0]
        cached = not any(
            evaluation.results.not_yet_computed({name: pipeline}, self.data, subject, process)
            for subject in subjects
        )
        table = evaluation.process({name: pipeline})
        table = table[table["subject"].isin([str(subject) for subject in subjects])]
        table = table[table["dataset"] == self.data.code]
        return table.assign(pipeline=name), cached

    def _open(self):
        """MOABB's evaluation on its file of results; a damaged file is put aside."""
        try:
            evaluation = self._make()
            evaluation.results.to_dataframe()
            return evaluation
        except (OSError, KeyError, RuntimeError):
            for path in self.out.glob(f"results/**/results_{self.suffix}.hdf5"):
                path.replace(path.with_suffix(".damaged"))
                warnings.warn(
                    f"The cache {path.name} could not be read; it was renamed to "
                    f"{path.stem}.damaged and its results are computed again.",
                    stacklevel=2,
                )
            return self._make()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence MNE and MOABB, and put their log levels back; files come from their publisher."""
    mne = import_optional("mne", extra="eeg", feature="run_benchmark")
    variable = "MOABB_DOWNLOAD_PROVIDER"
    before = os.environ.get(variable)
    # Without it MOABB first asks a mirror on the network, for every subject.
    os.environ.setdefault(variable, "upstream")
    loggers = [logging.getLogger(name) for name in ("moabb", "numexpr")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with mne.utils.use_log_level("ERROR"), warnings.catch_warnings():
            for module in ("moabb", "mne", "joblib", "pyriemann", "sklearn"):
                warnings.filterwarnings("ignore", module=module)
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        if before is None:
            os.environ.pop(variable, None)

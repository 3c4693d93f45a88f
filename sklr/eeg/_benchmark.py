"""The main job: pipelines, subjects and MOABB's evaluations, one small unit of work at a time."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

from sklr import __version__
from sklr.datasets._eeg import MOTOR_CHANNELS
from sklr.eeg._no_downloads import no_downloads
from sklr.eeg._paradigms import PARADIGMS, check_paradigm
from sklr.eeg._pipelines import make_pipelines
from sklr.utils._imports import import_optional
from sklr.utils._progress import progress
from sklr.utils._validation import check_positive_int

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


def run_benchmark(
    dataset="auto",
    *,
    paradigm="auto",
    subjects=None,
    evaluation="within-session",
    pipelines=None,
    channels="auto",
    fmin=None,
    fmax=None,
    orders=DEMO_ORDERS,
    lags=DEMO_LAGS,
    n_jobs=1,
    out="results",
    seed=42,
    download=False,
    verbose=0,
) -> BenchmarkResult:
    """Score pipelines on a dataset through MOABB, keeping every finished result.

    Parameters
    ----------
    dataset : str or moabb.datasets.base.BaseDataset, default="auto"
        "simulated", the class name of a MOABB dataset, or a dataset object. "auto" is
        PhysionetMI where the folder MNE_DATA holds it, else simulated.
    paradigm : {"auto", "left-right", "imagery", "ssvep", "p300"}, default="auto"
        Kind of experiment. "auto" is the dataset's own; imagery of both hands among others is
        "left-right", of which "imagery" takes all classes. With "ssvep" and no dataset named,
        simulated responses are taken.
    subjects : list of int, default=None
        Which; None is all, and for PhysionetMI all whose files are on disk.
    evaluation : {"within-session", "cross-session", "cross-subject"}, default="within-session"
        MOABB's evaluation.
    pipelines : list of str or dict of str to estimator, default=None
        Names as in :func:`make_pipelines`, or estimators of your own. None is those that make
        sense for the paradigm.
    channels : "auto", "motor", "all" or list of str, default="auto"
        "motor" is the nine channels over the motor cortex. "auto" is these for imagery, those over
        the occiput for flickering stimuli, and all for P300.
    fmin, fmax : float, default=None
        Band-pass in Hz. None is 8 to 35 for imagery, 5 to 45 for flickering stimuli, 1 to 24 for
        P300.
    orders, lags : iterable of int
        Grid of the nested search. The defaults are a part of the paper's ``range(1, 11)``.
    n_jobs : int, default=1
        Processes over folds.
    out : path-like, default="results"
        Folder of MOABB's results, which are also the cache.
    seed : int, default=42
        Seed of the folds.
    download : bool, default=False
        Whether missing files may be fetched; otherwise their subject fails.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    result : BenchmarkResult
        Scores and failures. Ctrl-C does not raise: what is finished is returned.

    Raises
    ------
    ValueError
        An unknown dataset, subject, evaluation, pipeline or channel, a band that does not fit the
        sampling rate, or a dataset that does not allow the evaluation or paradigm. All options are
        checked before any subject is read.
    OSError
        `out` cannot be written; checked before any work.
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
    orders, lags = list(orders), list(lags)
    _check_options(evaluation, paradigm, subjects, channels, fmin, fmax, orders, lags, n_jobs)
    out = check_writable(out)
    if not isinstance(pipelines, dict):
        names = None if pipelines is None else list(pipelines)
        # With stand-ins for what the dataset says, so that a wrong name is found before it is read.
        make_pipelines(names, frequencies=(1.0,), sfreq=1.0)
    allowed = contextlib.nullcontext() if download else no_downloads("download=True, or --download")
    with _quiet(), allowed:
        data, simulated = resolve_dataset(dataset, evaluation, paradigm)
        paradigm = check_paradigm(paradigm, data)
        everybody = list(data.subject_list)
        try:
            failures = _choose_subjects(data, subjects, download)
            recording = _Recording(data)
            usual = PARADIGMS[paradigm]
            band = tuple(
                given if given is not None else own for given, own in zip((fmin, fmax), usual.band)
            )
            recording.check_band(*band)
            chosen = recording.choose_channels(usual.channels if channels == "auto" else channels)
            two_classes = paradigm == "left-right" or len(data.event_id) == 2
            if isinstance(pipelines, dict):
                made = dict(pipelines)
            else:
                made = make_pipelines(
                    usual.pipelines if names is None else names,
                    orders=orders,
                    lags=lags,
                    scoring="roc_auc" if two_classes else "accuracy",
                    frequencies=_frequencies(data) if paradigm == "ssvep" else None,
                    sfreq=recording.sfreq,
                    band=band,
                    random_state=seed,
                )
            runner = _Runner(data, evaluation, paradigm, chosen, band, n_jobs, out, seed)
            return runner.run(made, failures, simulated, verbose)
        finally:
            data.subject_list = everybody


def _check_options(evaluation, paradigm, subjects, channels, fmin, fmax, orders, lags, n_jobs):
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


def _frequencies(data):
    """Stimulus frequencies of a dataset of flickering stimuli, None where names are not numbers."""
    try:
        return sorted(float(name) for name in data.event_id if name != "rest")
    except ValueError:
        return None


class _Recording:
    """What the options need to know of a dataset's recordings: channels and sampling rate.

    Read from the first subject that can be read, where the dataset does not say it itself.
    """

    def __init__(self, data):
        self.code, self.names, self.sfreq = data.code, None, None
        if hasattr(data, "channels") and hasattr(data, "sfreq"):
            self.names, self.sfreq = list(data.channels), float(data.sfreq)
            return
        for subject in data.subject_list:
            try:
                sessions = next(iter(data.get_data([subject]).values()))
                raw = next(iter(next(iter(sessions.values())).values()))
            except Exception:  # the run reports it, subject by subject
                continue
            self.names, self.sfreq = raw.copy().pick("eeg").ch_names, float(raw.info["sfreq"])
            return

    def check_band(self, fmin, fmax):
        """Refuse a band that filters nothing, or that the sampling rate does not hold."""
        if fmin >= fmax:
            raise ValueError(f"fmin must be below fmax, got fmin={fmin:g} and fmax={fmax:g} Hz.")
        if self.sfreq is not None and fmax >= self.sfreq / 2:
            raise ValueError(
                f"fmax must be below half the sampling rate of {self.code}, {self.sfreq / 2:g} Hz, "
                f"got {fmax:g}."
            )

    def choose_channels(self, channels):
        """Channel names, None for all; an area is as many of its channels as the dataset has."""
        if channels is None or channels == "all":
            return None
        area = {"motor": MOTOR_CHANNELS}.get(channels) if isinstance(channels, str) else None
        if area is None and isinstance(channels, tuple):
            area = channels
        if self.names is None:  # no subject can be read, which the run reports
            return list(area or channels)
        if area is not None:
            chosen = [name for name in area if name in self.names]
            if not chosen:
                raise ValueError(
                    f"channels must be in {self.code}, which has {self.names}; it has none of the "
                    f"usual ones, {list(area)}. Name some, or take 'all'."
                )
            return chosen
        if isinstance(channels, str):
            raise ValueError(
                f"channels must be 'auto', 'motor', 'all' or a list of names, got {channels!r}."
            )
        unknown = [name for name in channels if name not in self.names]
        if unknown:
            raise ValueError(f"channels {unknown} are not in {self.code}, which has {self.names}.")
        return list(channels)


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


def resolve_dataset(dataset, evaluation="within-session", paradigm="auto"):
    """Return a dataset object, and whether it is simulated."""
    datasets = import_optional("moabb.datasets", extra="eeg", feature="run_benchmark")
    from moabb.datasets.base import BaseDataset

    from sklr.eeg._simulated import SimulatedMotorImagery, SimulatedSSVEP

    if isinstance(dataset, BaseDataset):
        return dataset, isinstance(dataset, (SimulatedMotorImagery, SimulatedSSVEP))
    if dataset == "auto":
        imagery = paradigm in ("auto", "left-right")
        dataset = "PhysionetMI" if imagery and physionet_on_disk() else "simulated"
    if dataset == "simulated":
        if paradigm == "p300":
            raise ValueError("There are no simulated data for paradigm='p300': name a dataset.")
        kind = SimulatedSSVEP if paradigm == "ssvep" else SimulatedMotorImagery
        return kind(n_sessions=2 if evaluation == "cross-session" else 1), True
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
    """Set the dataset's subjects to those that can be read; return what fails, with reasons."""
    known = list(data.subject_list)
    if subjects is not None:
        unknown = [subject for subject in subjects if subject not in known]
        if unknown or not subjects:
            raise ValueError(
                f"subjects must be among {known[0]}..{known[-1]} of {data.code}, got {subjects}."
            )
        data.subject_list = list(subjects)
    if type(data).__name__ not in ("PhysionetMI", "PhysionetMotorImagery"):
        return []
    data.feet_runs = []  # left and right hand only: the others would be read for nothing
    folder = physionet_on_disk()
    checksums = _physionet_checksums()
    bad: dict[int, str] = {}
    absent = []
    for subject in data.subject_list:
        names = [f"S{subject:03d}/S{subject:03d}R{run:02d}.edf" for run in data.hand_runs]
        lost = [name for name in names if folder is None or not (folder / name).is_file()]
        if lost:
            absent.append(subject)
            if not download:
                bad[subject] = f"missing {', '.join(lost)} (and no download was asked for)"
            continue
        # A cut EDF file can still be opened; MNE knows what the published ones are.
        for name in names:
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != checksums[name]:
                bad[subject] = f"damaged {name}: {len(content)} bytes, not the published file"
    if subjects is None and not download:  # whoever is there
        for subject in absent:
            del bad[subject]
        data.subject_list = [subject for subject in known if subject not in absent]
        if not data.subject_list:
            raise ValueError(
                "No subject of PhysionetMI is on disk: set MNE_DATA to the folder that holds "
                f"{PHYSIONET_FOLDER}, or allow the download."
            )
    data.subject_list = [subject for subject in data.subject_list if subject not in bad]
    return [_failure(subject, None, reason) for subject, reason in bad.items()]


def _physionet_checksums() -> dict[str, str]:
    """SHA-256 of the published files, from the list that MNE ships."""
    import mne

    path = pathlib.Path(mne.__file__).parent / "data" / "eegbci_checksums.txt"
    pairs = (line.split() for line in path.read_text().splitlines())
    return dict(pairs)


def _failure(subject, pipeline, reason):
    reason = " ".join(str(reason).split()) or type(reason).__name__
    return {"subject": subject, "pipeline": pipeline, "reason": reason}


class _Runner:
    """One evaluation over subjects and pipelines."""

    def __init__(self, data, evaluation, paradigm, channels, band, n_jobs, out, seed):
        from moabb import paradigms

        if evaluation == "cross-session" and data.n_sessions < 2:
            raise ValueError(f"cross-session needs two sessions or more; {data.code} has one.")
        self.data, self.evaluation, self.out = data, evaluation, out
        self.n_jobs, self.seed = n_jobs, seed
        self.kind = paradigm
        options = {"fmin": band[0], "fmax": band[1], "channels": channels}
        if paradigm == "ssvep":
            options["n_classes"] = len(data.event_id)
        elif paradigm == "imagery":
            options["n_classes"] = len(data.event_id)
            options["events"] = list(data.event_id)
        self.paradigm = getattr(paradigms, PARADIGMS[paradigm].moabb)(**options)
        self.pooled = evaluation == "cross-subject"
        self._loaded: dict[int, tuple] = {}
        self._read = self.paradigm.get_data
        self.paradigm.get_data = self._get_data  # each subject is read once, not per pipeline
        versions = [version(name) for name in ("moabb", "mne", "pyriemann", "scikit-learn")]
        runs = [getattr(data, name, None) for name in ("hand_runs", "feet_runs")]
        # MOABB tells results apart by the pipeline and the filter, not by these.
        self._settings = [seed, channels, band, runs, sorted(data.event_id), versions, __version__]

    def _get_data(self, dataset, subjects=None, **options):
        if options.get("return_epochs") or options.get("return_raws"):
            return self._read(dataset=dataset, subjects=subjects, **options)
        import pandas as pd

        parts = []
        for subject in dataset.subject_list if subjects is None else subjects:
            if subject not in self._loaded:
                if not self.pooled:
                    self._loaded.clear()
                part = self._read(dataset=dataset, subjects=[subject], **options)
                _check_subject(*part[:2])
                self._loaded[subject] = part
            parts.append(self._loaded[subject])
        if len(parts) == 1:
            return parts[0]
        X, y, meta = zip(*parts)
        return np.concatenate(X), np.concatenate(y), pd.concat(meta, ignore_index=True)

    def _readable(self, subject):
        """Read and check a subject; return why it cannot be used, None if it can."""
        try:
            self._get_data(self.data, [subject])
        except Exception as exc:  # one bad recording must not cost the others
            return _failure(subject, None, exc)
        return None

    def run(self, pipelines, failures, simulated, verbose) -> BenchmarkResult:
        """Score unit by unit; Ctrl-C ends it with what is there."""
        import pandas as pd

        subjects = list(self.data.subject_list)
        tables, n_cached, interrupted, unreadable = [], 0, False, set()
        n_units = len(pipelines) * (1 if self.pooled else len(subjects))
        try:
            if self.pooled:
                found = [self._readable(subject) for subject in subjects]
                failures += [failure for failure in found if failure]
                subjects = [s for s, failure in zip(subjects, found) if not failure]
                if len(subjects) < 2:
                    raise ValueError(
                        "cross-subject needs two readable subjects or more, got "
                        f"{len(subjects)}. {failures[0]['reason'] if failures else ''}"
                    )
                units = [(subjects, name) for name in pipelines]
            else:
                units = [([subject], name) for subject in subjects for name in pipelines]
            for chosen, name in progress(
                units, total=n_units, description=self.evaluation, verbose=verbose
            ):
                if chosen[0] in unreadable:
                    continue
                self.data.subject_list = list(chosen)
                evaluation, cached = self._open(name, pipelines[name], chosen)
                if not cached and not self.pooled:
                    failure = self._readable(chosen[0])
                    if failure:
                        failures.append(failure)
                        unreadable.add(chosen[0])
                        continue
                try:
                    table = evaluation.process({name: pipelines[name]})
                except Exception as exc:  # whatever a pipeline raises, the others go on
                    failures += [_failure(subject, name, exc) for subject in chosen]
                    continue
                here = table["subject"].isin([str(subject) for subject in chosen])
                here &= table["dataset"] == self.data.code
                tables.append(table[here].assign(pipeline=name))
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
            n_units,
            interrupted,
            self.kind,
            self.paradigm.scoring,
        )

    def _open(self, name, pipeline, subjects):
        """MOABB's evaluation, and whether its cache has the unit; a damaged one is put aside."""
        # What a model trained on all the others scores depends on who the others are.
        settings = [*self._settings, [str(s) for s in subjects] if self.pooled else None]
        suffix = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        try:
            return self._look_up(suffix, name, pipeline, subjects)
        except (OSError, KeyError, RuntimeError):
            for path in self.out.glob(f"results/**/results_{suffix}.hdf5"):
                path.replace(path.with_suffix(".damaged"))
                warnings.warn(
                    f"The cache {path.name} could not be read; it was renamed to "
                    f"{path.stem}.damaged and its results are computed again.",
                    stacklevel=2,
                )
            return self._look_up(suffix, name, pipeline, subjects)

    def _look_up(self, suffix, name, pipeline, subjects):
        from moabb import evaluations

        evaluation = getattr(evaluations, EVALUATIONS[self.evaluation])(
            paradigm=self.paradigm,
            datasets=[self.data],
            hdf5_path=str(self.out),
            suffix=suffix,
            random_state=self.seed,
            n_jobs=self.n_jobs,
            overwrite=False,
        )
        process = self.paradigm.make_process_pipelines(
            self.data, return_epochs=False, return_raws=False, postprocess_pipeline=None
        )[0]
        cached = not any(
            evaluation.results.not_yet_computed({name: pipeline}, self.data, subject, process)
            for subject in subjects
        )
        add = evaluation.results.add
        evaluation.results.add = lambda *args, **options: uninterrupted(add, *args, **options)
        return evaluation, cached


def _check_subject(X, y):
    """Refuse what no classifier can be scored on."""
    counts = {str(name): int(n) for name, n in zip(*np.unique(y, return_counts=True))}
    if len(counts) < 2:
        raise ValueError(f"has trials of {len(counts)} class(es): {counts}")
    if not np.isfinite(X).all():
        raise ValueError("has NaN or infinite samples")


def uninterrupted(function, *args, **options):
    """Call a function with Ctrl-C put off: a half-written row would be read as a score."""
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **options)
    pressed = []
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        return function(*args, **options)
    finally:
        signal.signal(signal.SIGINT, previous)
        if pressed:
            raise KeyboardInterrupt


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

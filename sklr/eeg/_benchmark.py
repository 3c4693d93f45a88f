"""The main job: pipelines, subjects and MOABB's evaluations."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from sklr.eeg._no_downloads import no_downloads
from sklr.eeg._options import check_options, check_writable
from sklr.eeg._paradigms import PARADIGMS, check_paradigm
from sklr.eeg._pipelines import make_pipelines
from sklr.eeg._recording import Recording, stimulus_frequencies
from sklr.eeg._resolve import choose_subjects, resolve_dataset
from sklr.eeg._result import BenchmarkResult
from sklr.eeg._runner import Runner
from sklr.utils._imports import import_optional

#: Grid of the nested search unless the paper's is asked for: a sixth of its cells.
DEMO_ORDERS, DEMO_LAGS = (1, 2, 3, 4, 6), (1, 2, 4, 6)


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
    check_options(evaluation, paradigm, subjects, channels, fmin, fmax, orders, lags, n_jobs)
    out = check_writable(out)
    if not isinstance(pipelines, dict):
        names = None if pipelines is None else list(pipelines)
        # With stand-ins for what the dataset says, so that a wrong name is found before it is read.
        make_pipelines(names, frequencies=(1.0,), sfreq=1.0)
    allowed = contextlib.nullcontext() if download else no_downloads("download=True, or --download")
    with quiet(), allowed:
        data, simulated = resolve_dataset(dataset, evaluation, paradigm)
        paradigm = check_paradigm(paradigm, data)
        everybody = list(data.subject_list)
        try:
            failures = choose_subjects(data, subjects, download)
            recording = Recording(data)
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
                    frequencies=stimulus_frequencies(data) if paradigm == "ssvep" else None,
                    sfreq=recording.sfreq,
                    band=band,
                    random_state=seed,
                )
            runner = Runner(data, evaluation, paradigm, chosen, band, n_jobs, out, seed)
            return runner.run(made, failures, simulated, verbose)
        finally:
            data.subject_list = everybody


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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

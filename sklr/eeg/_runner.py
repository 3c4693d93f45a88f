"""One of MOABB's evaluations, one small unit of work at a time, every result kept."""

import hashlib
import json
import signal
import threading
from importlib.metadata import version

import numpy as np

from sklr import __version__
from sklr.eeg._options import EVALUATIONS
from sklr.eeg._paradigms import PARADIGMS
from sklr.eeg._result import BenchmarkResult, failure_of
from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user


class Runner:
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
            return failure_of(subject, None, exc)
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
                    failures += [failure_of(subject, name, exc) for subject in chosen]
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
                warn_user(
                    f"The cache {path.name} could not be read; it was renamed to "
                    f"{path.stem}.damaged and its results are computed again.",
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

"""The main job on tiny settings: results, cache, interruption, and what goes wrong."""

import re

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone

pytest.importorskip("moabb", reason="extra 'eeg' not installed")

from sklr.eeg import BenchmarkResult, SimulatedMotorImagery, make_pipelines, run_benchmark
from sklr.eeg.__main__ import main
from sklr.eeg._report import paired_comparisons, paired_figure, sign_flip_p, subject_table

pd = pytest.importorskip("pandas", reason="needs the extra test")

TINY = {"n_subjects": 2, "n_trials": 20}


@pytest.fixture(autouse=True)
def no_recordings(monkeypatch):
    """Whatever the machine has in MNE_DATA is not for these tests."""
    for name in ("MNE_DATA", "MNE_DATASETS_EEGBCI_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny_default(monkeypatch):
    """Make the simulated default small."""
    from sklr.eeg import _simulated

    original = _simulated.SimulatedMotorImagery.__init__
    monkeypatch.setattr(
        _simulated.SimulatedMotorImagery,
        "__init__",
        lambda self, **options: original(self, **(TINY | options)),
    )


class Interrupts(ClassifierMixin, BaseEstimator):
    """A pipeline during which the user presses Ctrl-C."""

    def fit(self, X, y):
        raise KeyboardInterrupt


class Fails(ClassifierMixin, BaseEstimator):
    """A pipeline that cannot deal with the data."""

    def fit(self, X, y):
        raise RuntimeError("these trials\nwill not do")


def test_command_line_end_to_end_and_cache(tmp_path, capsys, tiny_default):
    options = ["--out", str(tmp_path / "r"), "--orders", "1", "2", "--lags", "2"]
    assert main(options) == 0
    text = capsys.readouterr().out
    assert "SIMULATED" in text
    assert "0 of 14 results came from the cache" in text
    assert "no difference here can be told from chance" in text
    scores = pd.read_csv(tmp_path / "r" / "results.csv")
    assert len(scores) == 14
    assert scores["score"].between(0, 1).all()
    assert scores["simulated"].all()
    comparisons = pd.read_csv(tmp_path / "r" / "comparisons.csv")
    assert len(comparisons) == 6
    assert comparisons["simulated"].all()
    assert (tmp_path / "r" / "figure.png").stat().st_size > 5000

    assert main(options) == 0
    assert "14 of 14 results came from the cache" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "r" / "results.csv")["score"].equals(scores["score"])
    # What MOABB's key does not hold is not mixed up: other folds, other channels.
    assert main([*options, "--pipelines", "MDM", "--seed", "7"]) == 0
    assert "0 of 2 results came" in capsys.readouterr().out
    assert main([*options, "--pipelines", "MDM", "--channels", "C3", "C4"]) == 0
    assert "0 of 2 results came" in capsys.readouterr().out


@pytest.mark.parametrize(
    "evaluation, options, rows",
    [("cross-session", {"n_sessions": 2}, 4), ("cross-subject", {}, 2)],
)
def test_other_evaluations(tmp_path, evaluation, options, rows):
    data = SimulatedMotorImagery(**TINY, **options)
    result = run_benchmark(data, pipelines=["MDM"], evaluation=evaluation, out=tmp_path)
    assert isinstance(result, BenchmarkResult)
    assert len(result.scores) == rows
    assert result.failures == []
    again = run_benchmark(
        SimulatedMotorImagery(**TINY, **options),
        pipelines=["MDM"],
        evaluation=evaluation,
        out=tmp_path,
    )
    assert (again.n_cached, again.n_units) == ((1, 1) if evaluation == "cross-subject" else (2, 2))


def test_interruption_keeps_what_is_finished(tmp_path, capsys, monkeypatch, tiny_default):
    from sklr.eeg import _benchmark

    pipelines = make_pipelines(["TS+LR", "MDM"])
    pipelines["MDM"] = Interrupts()
    with monkeypatch.context() as patch:
        patch.setattr(_benchmark, "make_pipelines", lambda *args, **options: pipelines)
        assert main(["--out", str(tmp_path)]) == 130
    text = capsys.readouterr().out
    assert "Interrupted" in text
    assert len(pd.read_csv(tmp_path / "results.csv")) == 1
    assert (tmp_path / "figure.png").exists()
    assert main(["--out", str(tmp_path), "--pipelines", "TS+LR", "MDM"]) == 0
    assert "1 of 4 results came from the cache" in capsys.readouterr().out


def test_interruption_before_the_first_result(tmp_path, capsys, monkeypatch, tiny_default):
    from sklr.eeg import _benchmark

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_benchmark.Runner, "_open", interrupt)
    assert main(["--out", str(tmp_path)]) == 130
    assert "No result." in capsys.readouterr().out


def test_ctrl_c_waits_for_the_cache_to_be_written():
    import os
    import signal

    from sklr.eeg._runner import uninterrupted

    written = []

    def write():
        os.kill(os.getpid(), signal.SIGINT)
        written.append("row")

    # A shell starts programs in the background with SIGINT ignored: the test brings a handler.
    def handler(number, frame):
        raise KeyboardInterrupt

    found = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            uninterrupted(write)
        assert written == ["row"]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, found)


def test_cross_subject_cache_knows_who_the_others_are(tmp_path):
    def scores(subjects, out):
        data = SimulatedMotorImagery(n_subjects=4, n_trials=20)
        result = run_benchmark(
            data, subjects=subjects, pipelines=["TS+LR"], evaluation="cross-subject", out=out
        )
        assert data.subject_list == [1, 2, 3, 4]
        return result.scores.set_index("subject")["score"].to_dict()

    scores([1, 2], tmp_path / "a")
    assert scores(None, tmp_path / "a") == scores(None, tmp_path / "b")


def test_motor_channels_are_those_that_the_dataset_has(tmp_path):
    data = SimulatedMotorImagery(**TINY, channels=("F3", "C3", "Cz", "C4"))
    result = run_benchmark(data, pipelines=["MDM"], out=tmp_path)
    assert (result.scores["channels"] == 3).all()
    data = SimulatedMotorImagery(**TINY, channels=("F3", "F4"))
    with pytest.raises(ValueError, match="has none of the usual"):
        run_benchmark(data, pipelines=["MDM"], out=tmp_path)


def test_simulated_default_has_the_sessions_that_are_needed(tmp_path, tiny_default):
    options = ["--out", str(tmp_path), "--evaluation", "cross-session", "--pipelines", "MDM"]
    assert main(options) == 0
    assert len(pd.read_csv(tmp_path / "results.csv")) == 4


def test_cached_subjects_are_not_read_again(tmp_path, monkeypatch):
    run_benchmark(SimulatedMotorImagery(**TINY), pipelines=["MDM"], out=tmp_path)
    monkeypatch.setattr(
        SimulatedMotorImagery, "_record", lambda *args: pytest.fail("read a cached subject")
    )
    result = run_benchmark(SimulatedMotorImagery(**TINY), pipelines=["MDM"], out=tmp_path)
    assert result.n_cached == 2


def test_failing_pipeline_is_told_and_the_rest_goes_on(tmp_path, capsys):
    from sklr.eeg._report import format_report, write_report

    pipelines = {"bad": Fails(), **make_pipelines(["TS+LR"])}
    result = run_benchmark(SimulatedMotorImagery(**TINY), pipelines=pipelines, out=tmp_path)
    assert set(result.scores["pipeline"]) == {"TS+LR"}
    assert [failure["subject"] for failure in result.failures] == [1, 2]
    assert "FAILED subject 2, bad: these trials will not do" in format_report(result, "TS+LR")
    assert "failures.csv" in write_report(result, tmp_path, "TS+LR")


class Incomplete(SimulatedMotorImagery):
    """Subject 1 has no trial, 2 one class, 3 damaged samples, 4 cannot be read; 5 is well."""

    def _record(self, subject, session):
        raw = super()._record(subject, session)
        if subject == 1:
            raw.annotations.delete(np.arange(len(raw.annotations)))
        elif subject == 2:
            raw.annotations.delete(np.nonzero(raw.annotations.description == "left_hand")[0])
        elif subject == 3:
            raw._data[0, 100:200] = np.nan
        elif subject == 4:
            raise OSError("file is truncated")
        return raw


def test_bad_subjects_are_told_and_the_rest_goes_on(tmp_path):
    data = Incomplete(n_subjects=5, n_trials=20)
    result = run_benchmark(data, pipelines=["MDM"], out=tmp_path)
    assert result.scores["subject"].tolist() == ["5"]
    reasons = {failure["subject"]: failure["reason"] for failure in result.failures}
    assert set(reasons) == {1, 2, 3, 4}
    assert "1 class" in reasons[2]
    assert "NaN" in reasons[3]
    assert "truncated" in reasons[4]


def test_cross_session_needs_sessions(tmp_path):
    with pytest.raises(ValueError, match="cross-session needs two sessions"):
        run_benchmark(SimulatedMotorImagery(**TINY), evaluation="cross-session", out=tmp_path)


def test_nothing_succeeds(tmp_path, capsys, monkeypatch, tiny_default):
    from sklr.eeg import _benchmark

    monkeypatch.setattr(_benchmark, "make_pipelines", lambda *args, **options: {"bad": Fails()})
    assert main(["--out", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "No result." in text
    assert "FAILED subject 1, bad" in text


def test_damaged_cache_is_put_aside(tmp_path):
    data = SimulatedMotorImagery(**TINY)
    first = run_benchmark(data, pipelines=["MDM"], out=tmp_path)
    (cache,) = tmp_path.glob("results/**/*.hdf5")
    cache.write_bytes(b"not an HDF5 file")
    with pytest.warns(UserWarning, match="could not be read"):
        again = run_benchmark(SimulatedMotorImagery(**TINY), pipelines=["MDM"], out=tmp_path)
    assert again.n_cached == 0
    assert again.scores["score"].tolist() == first.scores["score"].tolist()
    assert cache.with_suffix(".damaged").exists()


def test_state_is_left_as_it_was(tmp_path):
    import logging
    import os
    import warnings

    import mne

    before = (
        mne.utils.logger.level,
        logging.getLogger("moabb").level,
        list(warnings.filters),
        np.random.get_state()[1].tolist(),
        os.environ.get("MOABB_DOWNLOAD_PROVIDER"),
    )
    run_benchmark(SimulatedMotorImagery(**TINY), pipelines=["MDM"], out=tmp_path)
    after = (
        mne.utils.logger.level,
        logging.getLogger("moabb").level,
        list(warnings.filters),
        np.random.get_state()[1].tolist(),
        os.environ.get("MOABB_DOWNLOAD_PROVIDER"),
    )
    assert before == after


def test_subjects_take_ranges(tmp_path, monkeypatch, capsys):
    from sklr.eeg import _benchmark

    def look(*args, subjects, **options):
        raise ValueError(f"subjects are {subjects}")

    monkeypatch.setattr(_benchmark, "run_benchmark", look)
    assert main(["--subjects", "1", "5-7", "--out", str(tmp_path)]) == 2
    assert "subjects are [1, 5, 6, 7]" in capsys.readouterr().err


def test_lists_pipelines(capsys):
    assert main(["--list"]) == 0
    assert "ACM+TS+SVM nested" in capsys.readouterr().out


class TestWrongOptions:
    def check(self, options, message, capsys):
        assert main(options) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error

    def test_output_is_a_file(self, tmp_path, capsys, monkeypatch):
        from sklr.eeg import _benchmark

        monkeypatch.setattr(_benchmark, "run_benchmark", lambda *a, **k: pytest.fail("worked"))
        (tmp_path / "taken").write_text("")
        self.check(["--out", str(tmp_path / "taken")], "cannot be written", capsys)
        self.check(["--out", str(tmp_path / "taken" / "sub")], "cannot be written", capsys)

    @pytest.mark.parametrize(
        "options, message",
        [
            (["--dataset", "Nope"], "dataset must be 'auto', 'simulated' or one of"),
            (["--pipelines", "Nope"], "pipelines must be among ['MDM'"),
            (["--evaluation", "nope"], "evaluation must be one of ['within-session'"),
            (["--subjects", "99"], "subjects must be among 1..2"),
            (["--dataset", "PhysionetMI"], "No subject of PhysionetMI is on disk"),
        ],
    )
    def test_names(self, options, message, tmp_path, capsys, tiny_default):
        self.check([*options, "--out", str(tmp_path)], message, capsys)

    def test_missing_recordings_fail_at_once(self, tmp_path, capsys):
        options = ["--dataset", "PhysionetMI", "--subjects", "3", "--out", str(tmp_path)]
        assert main(options) == 1
        assert "FAILED subject 3: missing S003/S003R04.edf" in capsys.readouterr().out


def table():
    values = [[0.6, 0.7, 0.8, 0.9, 0.5], [0.7, 0.7, 0.9, 0.95, 0.4], [0.6, np.nan, 0.9, 0.9, 0.6]]
    return pd.DataFrame(values, index=["base", "other", "third"], columns=list("12345"))


def test_comparisons_equal_hand_computation():
    from scipy.stats import ttest_rel

    first = paired_comparisons(table(), "base").iloc[0]
    difference = np.array([0.1, 0.0, 0.1, 0.05, -0.1])
    assert first.difference == pytest.approx(0.03)
    assert first.standard_error == pytest.approx(difference.std(ddof=1) / np.sqrt(5))
    peer = ttest_rel(table().loc["other"], table().loc["base"]).confidence_interval()
    assert (first.low, first.high) == pytest.approx((peer.low, peer.high))
    second = paired_comparisons(table(), "base").iloc[1]
    assert second.n_subjects == 4
    assert np.isnan(second.p)


def test_sign_flip_equals_enumeration():
    from scipy.stats import permutation_test

    difference = np.random.default_rng(0).standard_normal(8) + 0.4
    peer = permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(difference) == pytest.approx(peer.pvalue)
    assert sign_flip_p(np.ones(6)) == pytest.approx(2 / 64)
    assert sign_flip_p(np.ones(30)) < 0.001


def test_figure_shows_every_subject(tmp_path):
    data = SimulatedMotorImagery(**TINY)
    result = run_benchmark(data, pipelines=["MDM", "TS+LR"], out=tmp_path)
    (axes,) = paired_figure(result, "TS+LR").axes
    assert len(axes.lines) == 2 + 1 + 1  # subjects, mean, chance
    np.testing.assert_allclose(
        axes.lines[0].get_ydata(), subject_table(result.scores).loc[["TS+LR", "MDM"], "1"]
    )
    assert "SIMULATED" in axes.get_title()


def test_pipelines_are_cloneable_and_new():
    first, second = make_pipelines(), make_pipelines()
    for name in first:
        assert first[name] is not second[name]
        assert repr(clone(first[name])) == repr(first[name])


WRONG = {
    "--fmin 40 --fmax 35": "fmin must be below fmax",
    "--fmin 0": "fmin must be a frequency above 0",
    "--fmax 90": "below half the sampling rate",
    "--orders 0": "orders must be an integer >= 1",
    "--lags -1": "lags must be an integer >= 1",
    "--n-jobs 0": "n_jobs must be",
    "--subjects 1 1": "more than once",
    "--subjects 9": "subjects must be among",
    "--channels C3 XX": r"channels \['XX'\] are not in",
    "--channels C3 C3": "channels must be different names",
    "--paradigm p300": "no simulated data",
    "--paradigm sleep": "paradigm must be",
    "--pipelines Nope": "pipelines must be among",
    "--evaluation nowhere": "evaluation must be one of",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_options_are_said_before_a_subject_is_read(
    options, tmp_path, capsys, monkeypatch, tiny_default
):
    monkeypatch.setattr(SimulatedMotorImagery, "_record", lambda *args: pytest.fail("read"))
    assert main(["--out", str(tmp_path), *options.split()]) == 2
    assert re.search(WRONG[options], capsys.readouterr().err)


@pytest.mark.parametrize("text", ["3-1", "two"])
def test_ranges_of_subjects_run_forwards(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--subjects", text])
    assert stop.value.code == 2
    assert text in capsys.readouterr().err


class FirstUnreadable(SimulatedMotorImagery):
    """Says neither channels nor rate, and its first subject cannot be read."""

    def __init__(self, **options):
        super().__init__(**options)
        self._known = {"channels": self.channels, "sfreq": self.sfreq}
        del self.channels, self.sfreq

    def _record(self, subject, session):
        if subject == 1:
            raise OSError("file is truncated")
        vars(self).update(self._known)
        try:
            return super()._record(subject, session)
        finally:
            del self.channels, self.sfreq


def test_an_unreadable_first_subject_costs_only_itself(tmp_path):
    result = run_benchmark(FirstUnreadable(**TINY), pipelines=["MDM"], out=tmp_path)
    assert result.scores["subject"].tolist() == ["2"]
    assert [failure["subject"] for failure in result.failures] == [1]


class OnTheNetwork(SimulatedMotorImagery):
    """Fetches its recordings."""

    def _record(self, subject, session):
        import urllib.request

        urllib.request.urlopen("http://recordings.invalid/1.edf", timeout=5)


def test_nothing_is_fetched_that_was_not_asked_for(tmp_path):
    import socket

    before = socket.getaddrinfo
    result = run_benchmark(OnTheNetwork(n_subjects=1), pipelines=["MDM"], out=tmp_path)
    assert "recordings.invalid was not asked for" in result.failures[0]["reason"]
    assert socket.getaddrinfo is before


def test_flickering_stimuli_end_to_end(tmp_path, capsys, monkeypatch):
    from sklr.eeg import _simulated

    original = _simulated.SimulatedSSVEP.__init__
    monkeypatch.setattr(
        _simulated.SimulatedSSVEP,
        "__init__",
        lambda self, **options: original(self, **({"n_subjects": 2, "n_trials": 24} | options)),
    )
    assert main(["--out", str(tmp_path), "--paradigm", "ssvep"]) == 0
    text = capsys.readouterr().out
    assert "accuracy. SIMULATED" in text
    assert "filter bank" in text
    scores = pd.read_csv(tmp_path / "results.csv").groupby("pipeline")["score"].mean()
    assert set(scores.index) == {
        "MDM", "TS+LR", "FB+TS+LR", "ACM(5,3)+TS+SVM", "ACM average+TS+SVM", "ACM bands+TS+SVM",
    }  # fmt: skip
    assert scores["FB+TS+LR"] > scores["TS+LR"] + 0.2


def test_a_dataset_is_for_its_own_paradigm(tmp_path):
    from sklr.eeg import SimulatedSSVEP

    with pytest.raises(ValueError, match="is a dataset for paradigm='ssvep', not 'p300'"):
        run_benchmark(SimulatedSSVEP(n_subjects=1), paradigm="p300", out=tmp_path)


@pytest.mark.parametrize("evaluation", ["cross-session", "cross-subject"])
def test_recentring_runs_between_sessions_and_subjects(evaluation, tmp_path):
    """MOABB passes no groups: what is asked about is recentred by itself."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import AugmentedCovariance, GroupRecentering, TangentSpace

    pipeline = make_pipeline(
        AugmentedCovariance(1, estimator="oas"),
        GroupRecentering(),
        TangentSpace(),
        LogisticRegression(max_iter=1000),
    )
    data = SimulatedMotorImagery(**TINY, n_sessions=2)
    result = run_benchmark(
        data, pipelines={"recentred": pipeline}, evaluation=evaluation, out=tmp_path
    )
    assert len(result.scores) == 4 and not result.failures
    assert result.scores["score"].mean() > 0.55

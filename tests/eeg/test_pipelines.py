"""Pipelines as MOABB reads and keeps them, and the simulated dataset in its hands."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("moabb", reason="extra 'eeg' not installed")

from moabb.analysis.results import get_digest, get_string_rep
from moabb.paradigms import LeftRightImagery
from moabb.pipelines.utils import parse_pipelines_from_directory

from sklr.datasets import make_motor_imagery
from sklr.eeg import (
    SimulatedMotorImagery,
    make_pipelines,
    moabb_configs,
    pipelines_folder,
)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = pipelines_folder(copy_to=tmp_path_factory.mktemp("pipelines") / "copy")
    found = parse_pipelines_from_directory(folder)
    found += parse_pipelines_from_directory(f"{folder}/comparison")
    return {config["name"]: config for config in found}


def test_folder_holds_the_same_pipelines_as_the_objects(configs):
    for name, pipeline in make_pipelines().items():
        assert get_string_rep(configs[name]["pipeline"]) == get_string_rep(pipeline)


def test_every_file_names_paradigm_and_citation(configs):
    import yaml

    files = sorted(pathlib.Path(pipelines_folder()).rglob("*.yml"))
    assert len(files) == len(configs) == 11
    for file in files:
        content = yaml.safe_load(file.read_text())
        assert content["citations"]
        assert set(content["paradigms"]) <= {"LeftRightImagery", "MotorImagery", "SSVEP", "P300"}


def test_search_file_has_the_grid_of_moabb_s_own(configs):
    search = configs["ACM+TS+SVM nested"]["pipeline"][-1]
    grid = configs["ACM+TS+SVM grid"]["param_grid"]
    assert grid["augmentedcovariance__order"] == list(search.orders) == list(range(1, 11))
    assert grid["augmentedcovariance__lag"] == list(search.lags) == list(range(1, 11))
    assert grid["svc__C"] == list(search.Cs)
    assert grid["svc__kernel"] == list(search.kernels)


def test_digests_are_stable_between_processes_and_differ_with_parameters():
    code = (
        "from moabb.analysis.results import get_digest\n"
        "from sklr.eeg import make_pipelines\n"
        "print(*[get_digest(p) for p in make_pipelines().values()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [get_digest(pipeline) for pipeline in make_pipelines().values()]
    assert done.stdout.split() == here
    assert len(set(here)) == len(here)
    name = "ACM+TS+SVM nested"
    other = make_pipelines([name], orders=[1, 2])[name]
    assert get_digest(other) != get_digest(make_pipelines([name])[name])


def test_unknown_pipeline():
    with pytest.raises(ValueError, match=r"must be among \['MDM'.*got \['Nope'\]"):
        make_pipelines(["MDM", "Nope"])


@pytest.mark.parametrize("form", ["objects", "folder"])
def test_moabb_benchmark_runs_them(tmp_path, form):
    from moabb import benchmark

    fake = SimulatedMotorImagery(n_subjects=1, n_trials=20)
    if form == "objects":
        pipelines = moabb_configs(
            ["TS+LR", "ACM+TS+SVM nested", "ACM(3,2)+TS+SVM"], orders=[1, 2], lags=[1]
        )
    else:
        folder = tmp_path / "some"
        folder.mkdir()
        for name in ("ts_lr.yml", "acm_svm.yml"):
            (folder / name).write_text((pathlib.Path(pipelines_folder()) / name).read_text())
        pipelines = str(folder)
    scores = benchmark(
        pipelines=pipelines,
        evaluations=["WithinSession"],
        paradigms=["LeftRightImagery"],
        include_datasets=[fake],
        results=str(tmp_path / "results"),
        output=str(tmp_path / "output"),
        n_jobs=1,
    )
    assert len(scores) == (3 if form == "objects" else 2)
    assert scores["score"].between(0, 1).all()


def test_dataset_gives_the_generated_trials():
    data = SimulatedMotorImagery(n_subjects=1, n_trials=12)
    X, y, meta = LeftRightImagery(fmin=8, fmax=35).get_data(data, subjects=[1])
    assert X.shape[:2] == (12, 9)
    assert meta["session"].nunique() == 1
    source, labels = make_motor_imagery(12, duration=4.0, subject=1, random_state=42)
    assert (np.where(y == "right_hand", 1, 0) == labels).all()
    # Microvolts after MOABB's scaling, and the band-passed part of what was generated.
    from scipy.signal import butter, sosfiltfilt

    band = sosfiltfilt(butter(4, [8, 35], "bandpass", fs=160, output="sos"), source, axis=2)
    start = int(0.25 * 160)
    part = band[:, :, start : start + X.shape[2]]
    for trial in range(12):
        correlation = np.corrcoef(part[trial, 3, 40:-40], X[trial, 3, 40:-40])[0, 1]
        assert correlation > 0.95


def test_dataset_is_seeded_and_named_by_its_settings():
    first, second = SimulatedMotorImagery(seed=1), SimulatedMotorImagery(seed=2)
    assert first.code != second.code
    assert first.code == SimulatedMotorImagery(seed=1).code
    a = first.get_data([1])[1]["0"]["0"].get_data()
    b = SimulatedMotorImagery(seed=1).get_data([1])[1]["0"]["0"].get_data()
    c = second.get_data([1])[1]["0"]["0"].get_data()
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
    assert first.data_path(1) == []
    with pytest.raises(ValueError, match="subject must be one of"):
        first.data_path(99)


@pytest.mark.parametrize("name", ["n_subjects", "n_sessions", "n_trials"])
def test_dataset_parameters(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        SimulatedMotorImagery(**{name: 0})

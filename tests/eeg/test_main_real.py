"""The main job on real recordings: PhysionetMI, expanded from the data folder."""

import os
import subprocess
import sys

import pytest

pd = pytest.importorskip("pandas", reason="needs the extra test")

pytest.importorskip("moabb", reason="extra 'eeg' not installed")


@pytest.fixture(scope="module")
def recordings(data_folder, tmp_path_factory):
    source = data_folder / "eeg"
    if not (source / "unpack.py").is_file():
        pytest.skip(f"no EEG recordings: {source} has no unpack.py")
    folder = tmp_path_factory.mktemp("mne_data")
    subprocess.run([sys.executable, str(source / "unpack.py"), str(folder)], check=True)
    return folder


def run(recordings, home, *options):
    """Run the main job in a process of its own; return code, output and scores."""
    out = home / "out"
    environment = os.environ | {
        "MNE_DATA": str(recordings),
        "MNE_DATASETS_EEGBCI_PATH": str(recordings),
        "MOABB_DOWNLOAD_PROVIDER": "upstream",
        "HOME": str(home),
        "_MNE_FAKE_HOME_DIR": str(home),
    }
    done = subprocess.run(
        [sys.executable, "-m", "sklr.eeg", "--out", str(out), *options],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    path = out / "results.csv"
    scores = pd.read_csv(path) if path.is_file() else None
    return done.returncode, done.stdout + done.stderr, scores


def test_real_subjects_end_to_end(recordings, tmp_path):
    code, text, scores = run(recordings, tmp_path, "--subjects", "1", "7", "--orders", "1", "3",
                             "--lags", "2", "4")  # fmt: skip
    assert code == 0, text
    assert "real recordings" in text
    assert not scores["simulated"].any()
    table = scores.pivot_table(index="pipeline", columns="subject", values="score")
    assert table.shape == (7, 2)
    # Subject 7 is nearly perfect for everybody; subject 1 scores .86 to .96 over pipelines.
    # One subject's score moves by .05 with the folds' seed, hence the width.
    assert (table[7] > 0.93).all()
    assert (table[1] > 0.78).all()
    assert table.loc["TS+LR", 1] == pytest.approx(0.94, abs=0.04)
    assert table.loc["ACM(3,2)+TS+SVM", 1] == pytest.approx(0.96, abs=0.04)


def test_damaged_and_missing_recordings_cost_only_their_subjects(recordings, tmp_path):
    copy = tmp_path / "data"
    copy.mkdir()
    relative = "MNE-eegbci-data/files/eegmmidb/1.0.0"
    for subject in ("S001", "S002", "S007"):
        folder = copy / relative / subject
        folder.mkdir(parents=True)
        for file in (recordings / relative / subject).glob("*.edf"):
            os.link(file, folder / file.name)
    damaged = copy / relative / "S001" / "S001R08.edf"
    whole = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(whole[:1_500_000])  # still opens, with a part of the trials
    (copy / relative / "S002" / "S002R12.edf").unlink()
    code, text, scores = run(copy, tmp_path, "--pipelines", "TS+LR", "--subjects", "1", "2", "7")
    assert code == 0, text
    assert scores["subject"].tolist() == [7]
    assert "FAILED subject 1: damaged S001/S001R08.edf: 1500000 bytes" in text
    assert "FAILED subject 2: missing S002/S002R12.edf" in text
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert sorted(failures["subject"]) == [1, 2]

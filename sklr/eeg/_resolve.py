"""Datasets by name, and which of their subjects are on disk and whole."""

import hashlib
import os
import pathlib

from sklr.eeg._result import failure_of
from sklr.utils._imports import import_optional

PHYSIONET_FOLDER = pathlib.Path("MNE-eegbci-data", "files", "eegmmidb", "1.0.0")


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


def choose_subjects(data, subjects, download):
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
    return [failure_of(subject, None, reason) for subject, reason in bad.items()]


def _physionet_checksums() -> dict[str, str]:
    """SHA-256 of the published files, from the list that MNE ships."""
    import mne

    path = pathlib.Path(mne.__file__).parent / "data" / "eegbci_checksums.txt"
    pairs = (line.split() for line in path.read_text().splitlines())
    return dict(pairs)

"""Simulated recordings as MOABB datasets."""

from typing import Any

import numpy as np

from sklr.datasets import make_motor_imagery, make_ssvep
from sklr.datasets._eeg import MOTOR_CHANNELS, VISUAL_CHANNELS
from sklr.utils._imports import import_optional
from sklr.utils._validation import check_positive_int

mne = import_optional("mne", extra="eeg", feature="SimulatedMotorImagery")
_fake: Any = import_optional("moabb.datasets.fake", extra="eeg", feature="SimulatedMotorImagery")


# moabb.benchmark takes a dataset from outside MOABB's own list only if it is a FakeDataset.
class _Simulated(_fake.FakeDataset):
    """Continuous recordings from trials, with pauses of the same background between them."""

    def _trials(self, subject, session, duration):
        """Return trials of a session, with the pause at the end of each, and class numbers."""
        raise NotImplementedError

    def _get_single_subject_data(self, subject):
        return {
            str(session): {"0": self._record(subject, session)}
            for session in range(self.n_sessions)
        }

    def _record(self, subject, session):
        pause = 1.0
        X, y = self._trials(subject, session, self.interval[1] + pause)
        n_times = X.shape[2]
        # Trials join with a short cross-fade, so that the filter sees no steps.
        n_fade = int(0.25 * self.sfreq)
        fade = np.ones(n_times)
        fade[:n_fade] = np.linspace(0, 1, n_fade)
        fade[-n_fade:] = fade[:n_fade][::-1]
        signal = (X * fade).transpose(1, 0, 2).reshape(len(self.channels), -1)
        info = mne.create_info(list(self.channels), self.sfreq, "eeg")
        raw = mne.io.RawArray(1e-6 * signal, info, verbose="ERROR")
        raw.set_montage("standard_1005", verbose="ERROR")
        names = list(self.event_id)
        onsets = (np.arange(self.n_trials) * n_times + n_fade) / self.sfreq
        durations = np.full(self.n_trials, float(self.interval[1]))
        raw.set_annotations(
            mne.Annotations(onsets, durations, [names[label] for label in y]), verbose="ERROR"
        )
        return raw

    def data_path(self, subject, path=None, force_update=False, update_path=None, verbose=None):
        """Return no path: there are no files.

        Parameters
        ----------
        subject : int
            Subject number.
        path : str, default=None
            Ignored.
        force_update : bool, default=False
            Ignored.
        update_path : bool, default=None
            Ignored.
        verbose : bool, default=None
            Ignored.

        Returns
        -------
        paths : list
            Empty.
        """
        if subject not in self.subject_list:
            raise ValueError(f"subject must be one of {self.subject_list}, got {subject!r}.")
        return []


class SimulatedMotorImagery(_Simulated):
    """Simulated left and right hand imagery, for MOABB's paradigms and evaluations.

    Continuous recordings whose trials come from :func:`sklr.datasets.make_motor_imagery`, with
    pauses of the same background between them. No data of a person: good for trying pipelines
    and measuring time, not for claims about brains.

    Parameters
    ----------
    n_subjects : int, default=6
        Subjects, numbered from 1.
    n_sessions : int, default=1
        Sessions a subject; two or more allow cross-session evaluation.
    n_trials : int, default=45
        Trials a session, as in PhysionetMI.
    channels : sequence of str, default=nine channels over the motor cortex
        Names of the 10-10 system.
    sfreq : float, default=160.0
        Samples a second.
    effect : float, default=1.0
        Strength of the class differences.
    seed : int, default=42
        Seed of everything.

    See Also
    --------
    sklr.datasets.make_motor_imagery : The trials, without MOABB.

    Examples
    --------
    >>> from sklr.eeg import SimulatedMotorImagery
    >>> dataset = SimulatedMotorImagery(n_subjects=2)
    >>> dataset.subject_list
    [1, 2]
    """

    def __init__(
        self,
        n_subjects=6,
        n_sessions=1,
        n_trials=45,
        channels=MOTOR_CHANNELS,
        sfreq=160.0,
        effect=1.0,
        seed=42,
    ):
        check_positive_int(n_subjects, "n_subjects")
        check_positive_int(n_sessions, "n_sessions")
        check_positive_int(n_trials, "n_trials")
        self.n_trials = n_trials
        self.channels = tuple(channels)
        self.sfreq = sfreq
        self.effect = effect
        self.seed = seed
        # The code holds the settings: MOABB keeps results by it.
        settings = f"{n_trials}-{len(self.channels)}ch-{sfreq:g}-{effect:g}-{seed}"
        # Past FakeDataset's own, which makes a folder and sets an environment variable.
        super(_fake.FakeDataset, self).__init__(
            subjects=list(range(1, n_subjects + 1)),
            sessions_per_subject=n_sessions,
            events={"left_hand": 1, "right_hand": 2},
            code="SimulatedMotorImagery-" + settings.replace(".", "p").replace("_", ""),
            interval=[0, 3],
            paradigm="imagery",
        )

    def _trials(self, subject, session, duration):
        return make_motor_imagery(
            self.n_trials,
            channels=self.channels,
            sfreq=self.sfreq,
            duration=duration,
            effect=self.effect,
            subject=subject,
            session=session,
            random_state=self.seed,
        )


class SimulatedSSVEP(_Simulated):
    """Simulated responses to flickering stimuli, for MOABB's paradigms and evaluations.

    Continuous recordings whose trials come from :func:`sklr.datasets.make_ssvep`, with pauses of
    the same background between them. No data of a person: good for trying pipelines and measuring
    time, not for claims about brains.

    Parameters
    ----------
    n_subjects : int, default=6
        Subjects, numbered from 1.
    n_sessions : int, default=1
        Sessions a subject; two or more allow cross-session evaluation.
    n_trials : int, default=48
        Trials a session.
    frequencies : sequence of float, default=(7.0, 9.0, 11.0, 13.0)
        Flicker in Hz, one class each.
    channels : sequence of str, default=eight channels over the occiput
        Names of the 10-10 system.
    sfreq : float, default=128.0
        Samples a second.
    effect : float, default=1.0
        Strength of the responses.
    seed : int, default=42
        Seed of everything.

    See Also
    --------
    sklr.datasets.make_ssvep : The trials, without MOABB.

    Examples
    --------
    >>> from sklr.eeg import SimulatedSSVEP
    >>> dataset = SimulatedSSVEP(n_subjects=2)
    >>> list(dataset.event_id)
    ['7.0', '9.0', '11.0', '13.0']
    """

    def __init__(
        self,
        n_subjects=6,
        n_sessions=1,
        n_trials=48,
        frequencies=(7.0, 9.0, 11.0, 13.0),
        channels=VISUAL_CHANNELS,
        sfreq=128.0,
        effect=1.0,
        seed=42,
    ):
        check_positive_int(n_subjects, "n_subjects")
        check_positive_int(n_sessions, "n_sessions")
        check_positive_int(n_trials, "n_trials")
        self.n_trials = n_trials
        self.frequencies = tuple(float(frequency) for frequency in frequencies)
        self.channels = tuple(channels)
        self.sfreq = sfreq
        self.effect = effect
        self.seed = seed
        flicker = "-".join(f"{frequency:g}" for frequency in self.frequencies)
        settings = f"{n_trials}-{len(self.channels)}ch-{sfreq:g}-{flicker}-{effect:g}-{seed}"
        # Past FakeDataset's own, which makes a folder and sets an environment variable.
        super(_fake.FakeDataset, self).__init__(
            subjects=list(range(1, n_subjects + 1)),
            sessions_per_subject=n_sessions,
            events={str(f): i + 1 for i, f in enumerate(self.frequencies)},
            code="SimulatedSSVEP-" + settings.replace(".", "p").replace("_", ""),
            interval=[0, 2],
            paradigm="ssvep",
        )

    def _trials(self, subject, session, duration):
        return make_ssvep(
            self.n_trials,
            frequencies=self.frequencies,
            channels=self.channels,
            sfreq=self.sfreq,
            duration=duration,
            effect=self.effect,
            subject=subject,
            session=session,
            random_state=self.seed,
        )

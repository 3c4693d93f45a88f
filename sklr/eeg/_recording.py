"""What the options of the main job need to know of a dataset's recordings."""

from sklr.datasets._eeg import MOTOR_CHANNELS


def stimulus_frequencies(data):
    """Stimulus frequencies of a dataset of flickering stimuli, None where names are not numbers."""
    try:
        return sorted(float(name) for name in data.event_id if name != "rest")
    except ValueError:
        return None


class Recording:
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

"""Read recordings: good data channels of ``mne.Epochs``, with their names and their rate."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

#: Types of channels that measure the brain; MNE's own list of data channels.
_DATA_TYPES = frozenset({"eeg", "mag", "grad", "seeg", "ecog", "dbs", "csd", "hbo", "hbr"})


class Recording(NamedTuple):
    """Trials, and what is known of their channels.

    Attributes
    ----------
    data : array-like
        Trials of shape (n_trials, n_channels, n_times), or whatever else was given.
    ch_names : tuple of str or None
        Names of the channels, None where the data have none.
    sfreq : float or None
        Samples a second, None where it is not known.
    """

    data: Any
    ch_names: tuple[str, ...] | None = None
    sfreq: float | None = None


def read_recording(X: Any) -> Recording:
    """Read trials: what is no recording passes unchanged, without names.

    Of ``mne.Epochs`` the good data channels are taken: stimulus channels hold the labels,
    EOG, ECG and miscellaneous ones are no brain signals, and those in ``info["bads"]`` were
    marked as bad. A list of Epochs, which scikit-learn makes when it takes rows of Epochs, is
    put together. MNE is not imported.

    Parameters
    ----------
    X : array-like, mne.Epochs or list of mne.Epochs
        The trials.

    Returns
    -------
    recording : Recording
        Data, names of channels, sampling rate.

    Raises
    ------
    TypeError
        Another kind of recording (``Raw``, ``Evoked``, ...).
    ValueError
        No good data channel, or Epochs of one list that do not have the same ones.
    """
    if _is_epochs(X):
        return _read_epochs(X)
    rows = isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object)
    if rows and len(X) and any(_is_epochs(part) for part in X):
        return _join(list(X))
    return Recording(X)


def _is_epochs(X: Any) -> bool:
    """Whether `X` is Epochs, by what it has; other recordings are refused."""
    if not (hasattr(X, "ch_names") and (hasattr(X, "get_data") or hasattr(X, "info"))):
        return False
    kind = type(X).__name__
    if hasattr(X, "nave"):
        raise TypeError(f"{kind} is an average over trials: give the mne.Epochs it was made of.")
    if hasattr(X, "annotations") and not hasattr(X, "events"):
        raise TypeError(
            f"{kind} is one continuous recording: cut it into trials first, by mne.Epochs(raw, "
            "events) or mne.make_fixed_length_epochs(raw, duration)."
        )
    if hasattr(X, "freqs") or not hasattr(X, "get_data"):
        raise TypeError(
            f"{kind} does not hold trials over time: give mne.Epochs, or an array of shape "
            "(n_trials, n_channels, n_times)."
        )
    return True


def _good_channels(X: Any) -> list[int] | None:
    """Places of the good data channels; None where all are, or nothing is known of types."""
    if not hasattr(X, "get_channel_types"):
        return None
    types = X.get_channel_types()
    bads = set(X.info["bads"])
    good = [
        place
        for place, (name, kind) in enumerate(zip(X.ch_names, types, strict=True))
        if (kind in _DATA_TYPES or kind.startswith("fnirs")) and name not in bads
    ]
    if not good:
        counts = ", ".join(f"{n} {kind}" for kind, n in Counter(types).items())
        raise ValueError(
            f"The Epochs have no good data channel: their {len(types)} channels are {counts}, and "
            f"{len(bads)} of them are marked as bad. Set their types by "
            "epochs.set_channel_types(...), or give epochs.get_data()."
        )
    return good


def _read_epochs(X: Any, picks: list[int] | None = None) -> Recording:
    if picks is None:
        picks = _good_channels(X)
    if picks is None:
        data, names = X.get_data(copy=True), tuple(X.ch_names)
    else:
        # Copied once: by `picks` MNE copies already, but for a selection that is everything.
        data = X.get_data(picks=picks, copy=len(picks) == len(X.ch_names))
        names = tuple(X.ch_names[place] for place in picks)
    return Recording(data, names, _rate(X))


def _rate(X: Any) -> float | None:
    return float(X.info["sfreq"]) if hasattr(X, "info") else None


def _channels_of(X: Any) -> tuple:
    """All that Epochs of one list must have in common."""
    bads = tuple(X.info["bads"]) if hasattr(X, "info") else ()
    return tuple(X.ch_names), _rate(X), bads


def _join(parts: list) -> Recording:
    first = parts[0]
    for number, part in enumerate(parts):
        if not _is_epochs(part):
            raise TypeError(
                f"A list of Epochs must hold Epochs only; item {number} is of type "
                f"{type(part).__name__}."
            )
        if _channels_of(part) != _channels_of(first):
            raise ValueError(
                f"Epochs of one list must have the same channels, bad channels and sampling "
                f"rate; item {number} differs from item 0."
            )
    picks = _good_channels(first)
    read = [_read_epochs(part, picks) for part in parts]
    lengths = {part.data.shape[2] for part in read}
    if len(lengths) > 1:
        raise ValueError(f"Epochs of one list must be of one length, got {sorted(lengths)}.")
    return read[0]._replace(data=np.concatenate([part.data for part in read]))


def compare_recording(estimator: Any, recording: Recording) -> None:
    """Refuse channels and rates that are not those of `fit`; warn where one has no names.

    As scikit-learn does with names of columns.

    Parameters
    ----------
    estimator : estimator instance
        Fitted; has ``feature_names_in_`` and ``sfreq_in_`` where Epochs were seen in `fit`.
    recording : Recording
        What `predict` or `transform` was given.
    """
    name = type(estimator).__name__
    seen, given = getattr(estimator, "feature_names_in_", None), recording.ch_names
    if seen is not None and given is not None and tuple(seen) != given:
        missing = [channel for channel in seen if channel not in given]
        unseen = [channel for channel in given if channel not in seen]
        if missing or unseen:
            what = f"missing now: {missing or 'none'}; not seen in fit: {unseen or 'none'}"
        else:
            what = f"another order, {list(given)} after {list(seen)}"
        raise ValueError(
            f"{name} was fitted with other good data channels ({what}). "
            f"Use epochs.copy().pick(list(estimator.feature_names_in_)), and the same bads."
        )
    rate, rate_now = getattr(estimator, "sfreq_in_", None), recording.sfreq
    if rate is not None and rate_now is not None and abs(rate - rate_now) > 1e-6 * rate:
        raise ValueError(
            f"{name} was fitted at {rate:g} samples a second, X has {rate_now:g}: use "
            f"epochs.copy().resample({rate:g})."
        )


def remember_recording(estimator: Any, recording: Recording) -> None:
    """Set ``feature_names_in_`` and ``sfreq_in_`` where the recording has them."""
    names = recording.ch_names
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    if recording.sfreq is not None:
        estimator.sfreq_in_ = recording.sfreq

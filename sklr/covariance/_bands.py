"""Trials in a band of frequencies."""

from numbers import Real


def check_band(band, sfreq, name):
    """Return a band as two floats that the sampling rate allows, or None for the whole signal."""
    if band is None:
        return None
    try:
        low, high = band
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be pairs (low, high) in Hz, got {band!r}.") from None
    numbers = isinstance(low, Real) and isinstance(high, Real)
    if not (numbers and 0 < low < high < sfreq / 2):
        raise ValueError(
            f"{name} must be pairs with 0 < low < high < sfreq / 2 = {sfreq / 2:g} Hz, "
            f"got {band!r}."
        )
    return float(low), float(high)


def band_pass(X, band, sfreq, order=4):
    """Filter trials forwards and backwards by a Butterworth filter."""
    from scipy.signal import butter, sosfiltfilt

    sos = butter(order, band, "bandpass", fs=sfreq, output="sos")
    centred = X - X.mean(axis=2, keepdims=True)
    return sosfiltfilt(sos, centred, axis=2, padlen=min(X.shape[2] - 1, 30))

"""Simulated EEG: seeded trials with known structure, for examples, tests and the main job."""

from numbers import Integral, Real

import numpy as np
from scipy.signal import butter, lfilter, sosfiltfilt
from sklearn.utils import check_random_state

from sklr.utils._validation import check_positive_int

#: Positions on a unit disc seen from above, x to the right, y to the nose: 10-10 rows and columns.
_ROWS = {"F": 0.46, "FC": 0.24, "C": 0.0, "CP": -0.24, "P": -0.46, "PO": -0.66, "AF": 0.66}
_ROWS["O"] = -0.86
_COLUMNS = {"7": -0.78, "5": -0.6, "3": -0.4, "1": -0.2, "z": 0.0}
_COLUMNS |= {"8": 0.78, "6": 0.6, "4": 0.4, "2": 0.2}
ELECTRODES = {
    row + column: (x * (1.0 - 0.35 * abs(y)), y)
    for row, y in _ROWS.items()
    for column, x in _COLUMNS.items()
}
VISUAL_CHANNELS = ("PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2")
MOTOR_CHANNELS = ("FC3", "FCz", "FC4", "C3", "Cz", "C4", "CP3", "CPz", "CP4")


def _resonance(rng, shape, frequency, sfreq, radius):
    """AR(2) noise with a spectral peak, unit variance; one frequency a trial."""
    n_settle = 200
    noise = rng.standard_normal((*shape[:-1], shape[-1] + n_settle))
    out = np.empty(shape)
    for i, f in enumerate(np.broadcast_to(frequency, shape[0])):
        a1, a2 = 2 * radius * np.cos(2 * np.pi * f / sfreq), -(radius**2)
        # Variance of the stationary AR(2) process with unit innovations.
        variance = (1 - a2) / ((1 + a2) * ((1 - a2) ** 2 - a1**2))
        signal = lfilter([1.0], [1.0, -a1, -a2], noise[i], axis=-1)[..., n_settle:]
        out[i] = signal / np.sqrt(variance)
    return out


def _pink(rng, shape):
    """1/f noise of unit variance, by shaping the spectrum of white noise."""
    n_times = shape[-1]
    n_long = 2 * n_times  # the ends of a periodic signal must not meet inside a trial
    spectrum = np.fft.rfft(rng.standard_normal((*shape[:-1], n_long)), axis=-1)
    spectrum[..., 0] = 0.0
    spectrum[..., 1:] /= np.sqrt(np.arange(1, spectrum.shape[-1]))
    signal = np.fft.irfft(spectrum, n=n_long, axis=-1)[..., :n_times]
    return signal / signal.std()


def _topography(positions, centre, width):
    """Smooth projection of a source below `centre` on the electrodes."""
    distance = ((positions - np.asarray(centre)) ** 2).sum(axis=1)
    return np.exp(-0.5 * distance / width**2)


def _checked(sfreq, duration, effect, subject, session, channels):
    """Check what all simulated recordings have; return the channels as a list."""
    for name, value, smallest in (
        ("sfreq", sfreq, 64.0),
        ("duration", duration, 0.1),
        ("effect", effect, 0.0),
    ):
        if isinstance(value, bool) or not isinstance(value, Real) or not value >= smallest:
            raise ValueError(f"{name} must be a number >= {smallest:g}, got {value!r}.")
    for name, value in (("subject", subject), ("session", session)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ValueError(f"{name} must be an integer >= 0, got {value!r}.")
    channels = list(channels)
    unknown = [name for name in channels if name not in ELECTRODES]
    if unknown or not channels:
        raise ValueError(
            f"channels has unknown names {unknown} (of {channels}); known are {sorted(ELECTRODES)}."
        )
    return channels


def make_motor_imagery(
    n_trials=45,
    *,
    channels=MOTOR_CHANNELS,
    sfreq=160.0,
    duration=3.0,
    band=None,
    effect=1.0,
    subject=0,
    session=0,
    random_state=None,
):
    """Simulated imagery of the left and the right hand, shaped like PhysionetMI.

    Two rolandic sources, one under each hand area, with a mu and a beta rhythm (AR(2) noise).
    Imagining a hand weakens the rhythms of the opposite side, which a covariance matrix sees, and
    shifts their frequency, which only delays see. They are mixed smoothly into the channels
    together with 1/f sources spread over the head, a posterior alpha rhythm and sensor noise.

    Parameters
    ----------
    n_trials : int, default=45
        Trials; the classes alternate in random order and differ by at most one trial.
    channels : sequence of str, default=nine channels over the motor cortex
        Names of the 10-10 system, rows AF, F, FC, C, CP, P, PO, O with columns 7 to 8.
    sfreq : float, default=160.0
        Samples a second.
    duration : float, default=3.0
        Seconds a trial.
    band : pair of float, default=None
        Band-pass in Hz (Butterworth, order 4, forwards and backwards). None does not filter.
    effect : float, default=1.0
        Strength of the class differences; 0 makes the classes equal.
    subject : int, default=0
        Subjects differ in frequencies, strengths and places of their sources, and in how
        strongly the classes differ; drawn from `random_state` and this number.
    session : int, default=0
        Sessions of a subject differ a little in gain and noise.
    random_state : int, RandomState instance or None, default=None
        Seed. The same seed, subject and session give the same trials.

    Returns
    -------
    X : ndarray of shape (n_trials, n_channels, n_times)
        Signals in microvolts.
    y : ndarray of shape (n_trials,)
        0 for the left hand, 1 for the right.

    Raises
    ------
    TypeError, ValueError
        A parameter out of range, or an unknown channel; the message names it.

    See Also
    --------
    sklr.eeg.SimulatedMotorImagery : The same as a MOABB dataset.

    References
    ----------
    .. [1] G. Pfurtscheller, F. H. Lopes da Silva, "Event-related EEG/MEG synchronization and
       desynchronization: basic principles", Clin. Neurophysiol. 110(11), 1999.
       https://doi.org/10.1016/S1388-2457(99)00141-8

    Examples
    --------
    >>> from sklr.datasets import make_motor_imagery
    >>> X, y = make_motor_imagery(n_trials=10, random_state=0)
    >>> X.shape, y.sum()
    ((10, 9, 480), np.int64(5))
    """
    n_trials = check_positive_int(n_trials, "n_trials")
    channels = _checked(sfreq, duration, effect, subject, session, channels)
    if band is not None:
        band = tuple(band)
        if len(band) != 2 or not 0 < band[0] < band[1] < sfreq / 2:
            raise ValueError(
                f"band must be two frequencies 0 < low < high < sfreq / 2 = {sfreq / 2:g}, got "
                f"{band!r}."
            )
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    person = np.random.default_rng([seed, int(subject)])
    rng = np.random.default_rng([seed, int(subject), int(session) + 1])
    n_edge = int(sfreq) if band else 0  # a second at either end, for the filter to settle
    n_times = int(round(duration * sfreq)) + 2 * n_edge
    positions = np.array([ELECTRODES[name] for name in channels])

    y = rng.permutation(np.arange(n_trials) % 2)
    # What makes a person: where the rhythms lie, how fast and strong they are, how they react.
    mu, beta = 10.5 + person.uniform(-1.5, 1.5), 21.0 + person.uniform(-2.5, 2.5)
    drop = effect * person.uniform(0.08, 0.28)
    shift = effect * person.uniform(0.4, 1.0)
    strength = 5.0 * person.uniform(0.8, 1.25)
    width = person.uniform(0.3, 0.38)
    X = np.zeros((n_trials, len(channels), n_times))
    for side, x in ((0, -0.4), (1, 0.4)):  # left hemisphere reacts to the right hand
        centre = (x + person.normal(0, 0.04), person.normal(0, 0.05))
        active = (y == 1) if side == 0 else (y == 0)
        # Trials differ from each other by more than the classes do.
        amplitude = np.exp(rng.normal(0, 0.2, n_trials)) * (1 - drop * active)
        source = _resonance(rng, (n_trials, n_times), mu + shift * active, sfreq, 0.97)
        source += 0.45 * _resonance(rng, (n_trials, n_times), beta - shift * active, sfreq, 0.94)
        source *= strength * amplitude[:, None]
        X += _topography(positions, centre, width)[:, None] * source[:, None]
    alpha = _resonance(rng, (n_trials, n_times), mu - 0.5, sfreq, 0.98)
    X += 6.0 * _topography(positions, (0.0, -0.7), 0.35)[:, None] * alpha[:, None]
    centres = person.uniform(-0.8, 0.8, size=(12, 2))
    background = _pink(rng, (n_trials, len(centres), n_times))
    mixing = np.stack([_topography(positions, centre, 0.4) for centre in centres], axis=1)
    X += 7.0 * np.exp(rng.normal(0, 0.05)) * (mixing @ background)
    X += 1.5 * rng.standard_normal(X.shape)
    X *= np.exp(rng.normal(0, 0.05, len(channels)))[:, None]
    if band:
        sos = butter(4, band, "bandpass", fs=sfreq, output="sos")
        X = np.ascontiguousarray(sosfiltfilt(sos, X, axis=2)[:, :, n_edge:-n_edge])
    return X, y


def make_ssvep(
    n_trials=50,
    *,
    frequencies=(7.0, 9.0, 11.0, 13.0),
    channels=VISUAL_CHANNELS,
    sfreq=128.0,
    duration=2.0,
    effect=1.0,
    subject=0,
    session=0,
    random_state=None,
):
    """Simulated responses to flickering stimuli (SSVEP): the class is a frequency.

    A source below the occiput follows the stimulus that is looked at, with its first harmonic, at
    a phase and strength drawn for each trial; it is mixed smoothly into the channels together
    with a posterior alpha rhythm, 1/f sources spread over the head and sensor noise. An ordinary
    covariance sees the strength of the source, which all classes share; delays see its frequency.

    Parameters
    ----------
    n_trials : int, default=50
        Trials; the classes differ by at most one trial.
    frequencies : sequence of float, default=(7.0, 9.0, 11.0, 13.0)
        Flicker in Hz, one class each, below a quarter of `sfreq`.
    channels : sequence of str, default=eight channels over the occiput
        Names of the 10-10 system, rows AF, F, FC, C, CP, P, PO, O with columns 7 to 8.
    sfreq : float, default=128.0
        Samples a second.
    duration : float, default=2.0
        Seconds a trial.
    effect : float, default=1.0
        Strength of the response; 0 makes the classes equal.
    subject : int, default=0
        Subjects differ in strength and place of their sources; drawn from `random_state` and
        this number.
    session : int, default=0
        Sessions of a subject differ in gains of the channels and in noise.
    random_state : int, RandomState instance or None, default=None
        Seed. The same seed, subject and session give the same trials.

    Returns
    -------
    X : ndarray of shape (n_trials, n_channels, n_times)
        Signals in microvolts.
    y : ndarray of shape (n_trials,)
        Number of the frequency.

    Raises
    ------
    TypeError, ValueError
        A parameter out of range, or an unknown channel; the message names it.

    See Also
    --------
    make_motor_imagery : Imagined movements.
    sklr.eeg.SimulatedSSVEP : The same as a MOABB dataset.

    References
    ----------
    .. [1] F.-B. Vialatte, M. Maurice, J. Dauwels, A. Cichocki, "Steady-state visually evoked
       potentials: focus on essential paradigms and future perspectives", Prog. Neurobiol. 90(4),
       2010. https://doi.org/10.1016/j.pneurobio.2009.11.005

    Examples
    --------
    >>> from sklr.datasets import make_ssvep
    >>> X, y = make_ssvep(n_trials=8, random_state=0)
    >>> X.shape, sorted(y.tolist())
    ((8, 8, 256), [0, 0, 1, 1, 2, 2, 3, 3])
    """
    n_trials = check_positive_int(n_trials, "n_trials")
    channels = _checked(sfreq, duration, effect, subject, session, channels)
    frequencies = np.asarray(frequencies, dtype=float)
    if frequencies.ndim != 1 or len(frequencies) < 2 or len(set(frequencies)) < len(frequencies):
        raise ValueError(f"frequencies must be two or more different numbers, got {frequencies}.")
    if not ((frequencies > 0) & (frequencies < sfreq / 4)).all():
        raise ValueError(
            f"frequencies must be between 0 and sfreq / 4 = {sfreq / 4:g} Hz, so that the first "
            f"harmonic is below half the sampling rate, got {frequencies}."
        )
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    person = np.random.default_rng([seed, int(subject), 7])
    rng = np.random.default_rng([seed, int(subject), int(session) + 1, 7])
    n_times = int(round(duration * sfreq))
    positions = np.array([ELECTRODES[name] for name in channels])
    y = rng.permutation(np.arange(n_trials) % len(frequencies))
    strength = 2.0 * effect * person.uniform(0.6, 1.4)
    centre = (person.normal(0, 0.08), -0.8 + person.normal(0, 0.05))
    times = np.arange(n_times) / sfreq
    phase = rng.uniform(0, 2 * np.pi, (2, n_trials, 1))
    angle = 2 * np.pi * frequencies[y][:, None] * times
    response = np.sin(angle + phase[0]) + 0.5 * np.sin(2 * angle + phase[1])
    response *= np.exp(rng.normal(0, 0.3, (n_trials, 1)))
    X = strength * _topography(positions, centre, 0.3)[:, None] * response[:, None]
    alpha = _resonance(rng, (n_trials, n_times), 10.0 + person.uniform(-1, 1), sfreq, 0.97)
    X += 4.0 * _topography(positions, (0.0, -0.6), 0.35)[:, None] * alpha[:, None]
    centres = person.uniform(-0.9, 0.9, size=(12, 2))
    background = _pink(rng, (n_trials, len(centres), n_times))
    mixing = np.stack([_topography(positions, place, 0.4) for place in centres], axis=1)
    X += 5.0 * np.exp(rng.normal(0, 0.1)) * (mixing @ background)
    X += 1.5 * rng.standard_normal(X.shape)
    X *= np.exp(rng.normal(0, 0.1, len(channels)))[:, None]
    return X, y


def make_ar2_trials(
    n_trials=80,
    *,
    n_channels=3,
    n_times=200,
    frequencies=(0.2, 0.3),
    radius=0.9,
    random_state=None,
):
    r"""Two classes of autoregressive noise with equal covariance and different spectra.

    Channels are independent AR(2) processes of unit variance with poles
    :math:`r e^{\pm i \pi f}`; only `f` differs between the classes. The ordinary covariance of
    both is the identity: what tells them apart is in the delays alone.

    Parameters
    ----------
    n_trials : int, default=80
        Trials; the classes differ by at most one trial.
    n_channels : int, default=3
        Channels.
    n_times : int, default=200
        Samples a trial.
    frequencies : pair of float, default=(0.2, 0.3)
        Peak of each class as a fraction of the Nyquist frequency, between 0 and 1.
    radius : float, default=0.9
        Radius of the poles, in [0, 1): sharper peaks towards 1.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_trials, n_channels, n_times)
        The trials.
    y : ndarray of shape (n_trials,)
        0 or 1.

    Raises
    ------
    TypeError, ValueError
        A parameter out of range; the message names it.

    Examples
    --------
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(n_trials=6, random_state=0)
    >>> X.shape, y.tolist()
    ((6, 3, 200), [0, 1, 0, 1, 0, 1])
    """
    n_trials = check_positive_int(n_trials, "n_trials")
    n_channels = check_positive_int(n_channels, "n_channels")
    n_times = check_positive_int(n_times, "n_times")
    frequencies = tuple(frequencies)
    if len(frequencies) != 2 or not all(0 < f < 1 for f in frequencies):
        raise ValueError(f"frequencies must be two numbers in (0, 1), got {frequencies!r}.")
    if not 0 <= radius < 1:
        raise ValueError(f"radius must be in [0, 1), got {radius!r}.")
    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    y = np.arange(n_trials) % 2
    # A frequency of f Nyquist is f cycles a second at two samples a second.
    peaks = np.asarray(frequencies)[y]
    return _resonance(rng, (n_trials, n_channels, n_times), peaks, 2.0, radius), y

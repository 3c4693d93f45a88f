"""MDOP selection: CPU a trial against trial length, beside a plain NumPy / SciPy version.

Nine channels, one thread; the growth exponent is the slope of log time on log length. Compile
time apart.
"""

import sys

from _common import Several, cpu, one_blas_thread, run_parts, share_of_limit, trials

one_blas_thread()

import numpy as np  # noqa: E402


def plain_mdop(S, w):
    """The rule in NumPy: distance matrices and array operations, no Numba."""
    from scipy.spatial.distance import cdist

    def neighbours(Y):
        D = cdist(Y, Y)
        t = np.arange(len(Y))
        D[np.abs(t[:, None] - t) <= w] = np.inf
        return D.argmin(axis=1), D.min(axis=1)

    Y, previous = None, np.inf
    for cycle in range(50):
        best = (-np.inf,)
        for a in range(len(S)) if Y is None else [None]:
            Z = S[a][:, None] if Y is None else Y
            n = len(Z) - 50
            j, dx = neighbours(Z[:n])
            grid = np.arange(51)[:, None]
            for b in range(len(S)):
                gap = np.abs(S[b][grid + np.arange(n)] - S[b][grid + j])
                beta = np.log10(np.maximum(gap, 1e-300) / dx).mean(axis=1)
                if beta.max() > best[0]:
                    best = (beta.max(), int(beta.argmax()), a, b)
        _, tau, a, b = best
        Y = S[a][:, None] if Y is None else Y
        length = min(len(Y), S.shape[1] - tau)
        old = neighbours(Y[:length])[1]
        Y = np.c_[Y[:length], S[b][tau : tau + length]]
        new = neighbours(Y)[1]
        close = old < 0.5
        fraction = (new[close] / old[close] > 2).mean() if close.any() else 1.0
        if fraction <= 0.05 or fraction > previous:
            return cycle + 1
        previous = fraction
    return 50


def table():
    """CPU a trial by its length, ours and the plain version."""
    from sklr.covariance import select_embedding

    X, _, source = trials(9)
    select_embedding(X[:1])  # compiles
    long = np.concatenate(X[:8], axis=1)  # trials end to end, for lengths beyond one
    rows = []
    print(f"{'samples':>8}{'ours ms':>9}{'plain ms':>10}{'ratio':>7}   ({source}, one trial)")
    for n_times in (241, 481, 962, 1924, 3848):
        batch = long[None, :, :n_times]
        ours, (order, lag, details) = cpu(
            lambda: select_embedding(batch, return_details=True), repeats=5
        )
        S = (batch[0] - batch[0].mean(axis=1, keepdims=True)) / batch[0].std(
            axis=1, ddof=1, keepdims=True
        )
        plain, cycles = cpu(lambda: plain_mdop(S, details.theiler[0]))
        if cycles != order:
            sys.exit(f"the plain version did {cycles} cycles, ours {order}")
        # What no search does without: all differences of times, once for each cycle and channel.
        gaps = np.empty((n_times, n_times))
        one, _ = cpu(lambda: [np.subtract.outer(x, x, out=gaps) for x in S], 3)  # noqa: B023
        limit = (order * one / 2, f"{order} passes over all differences of times, halved")
        rows.append({"samples": n_times, "ours": ours, "plain": plain, "cycles": order,
                     **share_of_limit(ours, more=limit)})  # fmt: skip
        print(f"{n_times:8d}{1e3 * ours:9.1f}{1e3 * plain:10.1f}{plain / ours:7.1f}")
    lengths, seconds = (np.log([row[key] for row in rows]) for key in ("samples", "ours"))
    exponent = float(np.polyfit(lengths, seconds, 1)[0])
    whole, (order, lag) = cpu(lambda: select_embedding(X))
    print(f"time grows as samples ** {exponent:.2f}")
    print(
        f"{X.shape}: {1e3 * whole / len(X):.1f} ms a trial, MDOP chooses order {order}, lag {lag}; "
        f"aFNN {select_embedding(X, 'afnn')}"
    )
    return Several(
        rows=rows, exponent=exponent, data=source, a_trial=whole / len(X), mdop=[order, lag]
    )


def many_channels():
    """45 trials of 64 channels and 481 samples, mixed noise of 8 to 35 Hz at 160 Hz.

    The limit is one pass of the same differences, those of each point and its neighbour in each
    pair of channels at each delay, by NumPy into a block in the cache.
    """
    from scipy.signal import butter, sosfiltfilt

    from sklr.covariance import AugmentedCovarianceSVC, augmented_covariance, select_embedding

    rng = np.random.default_rng(0)
    band = butter(4, (8, 35), "band", fs=160, output="sos")
    X = rng.standard_normal((64, 64)) @ sosfiltfilt(band, rng.standard_normal((45, 64, 481)))
    seconds, (order, lag, details) = cpu(lambda: select_embedding(X, return_details=True))
    # A whole fit: that choice, covariances of so many rows, their mean, the map and the SVM.
    y = np.arange(len(X)) % 2
    fit, model = cpu(lambda: AugmentedCovarianceSVC("mdop", estimator="oas").fit(X, y))
    known, _ = cpu(lambda: AugmentedCovarianceSVC(order, lag, estimator="oas").fit(X, y))
    matrices, G = cpu(lambda: augmented_covariance(X, order, lag, estimator="oas"))
    n_rows = G.shape[1]
    print(
        f"fit with order='mdop': {fit:.1f} s; with order and lag given {known:.1f} s, of which "
        f"matrices of {n_rows} rows {matrices:.1f} s"
    )
    of_fit = share_of_limit(known, eigen=[(5 * len(X), n_rows)])
    gaps = np.empty((431, 51))
    windows = np.lib.stride_tricks.sliding_window_view(X[0], 51, axis=1)

    def differences():
        for _ in range(64):
            for channel in windows:
                np.subtract(channel, channel[::-1], out=gaps)

    limit, _ = cpu(differences, repeats=3)
    S = (X[0] - X[0].mean(axis=1, keepdims=True)) / X[0].std(axis=1, ddof=1, keepdims=True)
    plain, _ = cpu(lambda: plain_mdop(S, details.theiler[0]))
    ours, _ = cpu(lambda: select_embedding(X[:1]), repeats=5)
    print(
        f"{X.shape}: {seconds:.1f} s, {len(details.trials)} trials looked at, order {order}, lag "
        f"{lag}; one trial {1e3 * ours:.0f} ms, plain {1e3 * plain:.0f} = {plain / ours:.0f} x, "
        f"the differences alone {1e3 * limit:.0f} ms ({limit / ours:.0%})"
    )
    return {
        "seconds": seconds,
        "trials": len(details.trials),
        "mdop": [order, lag],
        "fit": fit,
        "fit, order and lag known": known,
        "its matrices": matrices,
        "rows of its matrices": n_rows,
        "share of that fit": of_fit["share"],
        "limit of that fit": of_fit["limit"],
        "a_trial": ours,
        "plain_a_trial": plain,
        **share_of_limit(ours, more=(limit, "the same differences, by NumPy")),
    }


def main(argv=None):
    run_parts(__doc__, {"rows": table, "many_channels": many_channels}, argv)


if __name__ == "__main__":
    main()

"""Mutual information, nearest neighbours and embedding statistics of one trial (Numba)."""

import math

import numpy as np

from sklr.utils._compile import njit

# Differences of standardised values below this are zero: four factors can not overflow.
_ZERO = 1e-70
# Adding and subtracting 1.5 * 2 ** 52 rounds to the nearest integer.
_ROUNDER = 6755399441055744.0
_LOG_2 = math.log10(2.0)


@njit
def _partition(ordered, counts, edges, starts, stops, bins):
    """Halve sorted values until each cell looks uniform; return the number of cells.

    Uniform to a chi-square test of 10 %. `starts` and `stops` are room for 64 halves, `bins` for
    four numbers.
    """
    # Depth-first, the left half first, so that cells come out in order.
    starts[0], stops[0] = 0, len(ordered)
    depth, n_cells = 1, 0
    while depth > 0:
        depth -= 1
        start, stop = starts[depth], stops[depth]
        n = stop - start
        low, high = ordered[start], ordered[stop - 1]
        # Equal values cannot be split further.
        is_uniform = n < 10 or high <= low
        if not is_uniform:
            n_bins, critical = (2, 2.706) if n < 20 else (4, 6.251)
            for cell in range(n_bins):
                bins[cell] = 0.0
            for k in range(start, stop):
                cell = np.int64((ordered[k] - low) / (high - low) * n_bins)
                bins[cell if cell < n_bins else n_bins - 1] += 1.0
            # Rounded to the nearest integer, of two to the even one.
            expected = n / n_bins + _ROUNDER - _ROUNDER
            statistic = 0.0
            for cell in range(n_bins):
                gap = bins[cell] - expected
                statistic += gap * gap / expected
            is_uniform = statistic < critical
        if is_uniform:
            counts[n_cells] = n
            edges[n_cells] = high
            n_cells += 1
        else:
            middle = start + n // 2
            starts[depth], stops[depth] = middle, stop
            starts[depth + 1], stops[depth + 1] = start, middle
            depth += 2
    return n_cells


@njit
def _information(cells, counts, joint, n, out):
    """Write the mutual information of cell numbers at delays 1 .. len(out).

    `joint` has a zero for each pair of cells, and gets them back.
    """
    n_cells = joint.shape[0]
    for delay in range(1, len(out) + 1):
        for t in range(n):
            joint[cells[t], cells[t + delay]] += 1
        total = 0.0
        for i in range(n_cells):
            for j in range(n_cells):
                f = joint[i, j]
                if f > 0:
                    total += f / n * math.log2(f * n / (counts[i] * counts[j]))
                    joint[i, j] = 0
        out[delay - 1] = total


def mutual_information(signal, max_delay):
    """Self mutual information in bits at delays 1 .. max_delay, on an adaptive partition."""
    n = len(signal) - max_delay
    # Sorting and searching are NumPy's: compiling them would take seconds.
    ordered = np.sort(signal[:n])
    counts, edges = np.empty(n, dtype=np.int64), np.empty(n)
    n_cells = _partition(ordered, counts, edges, *np.empty((2, 64), dtype=np.int64), np.empty(4))
    # A value belongs to the first cell whose upper edge reaches it, the last takes all above.
    cells = np.minimum(np.searchsorted(edges[:n_cells], signal), n_cells - 1)
    out = np.empty(max_delay)
    _information(cells, counts, np.zeros((n_cells, n_cells), dtype=np.int64), n, out)
    return out


def first_minimum(curve):
    """1-based index of the first entry whose successor is not smaller; else the last."""
    places = np.flatnonzero(curve[1:] >= curve[:-1])
    return int(places[0]) + 1 if len(places) else len(curve)


def nearest_neighbours(Y, n_points, n_columns, theiler):
    """Nearest other point of each of the first points, in Euclidean distance.

    Parameters
    ----------
    Y : ndarray of shape (n_columns_max, n_times)
        Coordinates, one row each.
    n_points, n_columns : int
        How many points and coordinates count.
    theiler : int
        Points at most this far apart in time are no neighbours.

    Returns
    -------
    index, distance : ndarray of shape (n_points,)
        -1 and infinity where there is no neighbour.
    """
    index, distance = np.empty(n_points, dtype=np.int64), np.empty(n_points)
    _nearest(Y, n_columns, theiler, index, distance, np.empty(n_points))
    return index, distance


@njit
def _nearest(Y, n_columns, theiler, index, distance, row):
    """Write what `nearest_neighbours` returns."""
    n_points = len(index)
    for i in range(n_points):
        value = Y[0, i]
        for j in range(n_points):
            gap = Y[0, j] - value
            row[j] = gap * gap
        for column in range(1, n_columns):
            value = Y[column, i]
            for j in range(n_points):
                gap = Y[column, j] - value
                row[j] += gap * gap
        best, found = np.inf, -1
        for j in range(0, i - theiler):
            if row[j] < best:
                best, found = row[j], j
        for j in range(i + theiler + 1, n_points):
            if row[j] < best:
                best, found = row[j], j
        index[i] = found
        distance[i] = math.sqrt(best)


def divergence(signals, index, distance, max_delay):
    """Mean log10 of how much a neighbour's distance grows in each signal, at delays 0 .. max.

    Signals are of the order of one. Points without a neighbour, at distance zero, or with equal
    values do not count.

    Parameters
    ----------
    signals : ndarray of shape (n_signals, n_times)
        Where the distance may grow.
    index, distance : ndarray of shape (n_points,)
        What `nearest_neighbours` found; n_points + max_delay is at most n_times.
    max_delay : int
        Largest delay.

    Returns
    -------
    beta : ndarray of shape (n_signals, max_delay + 1)
        Minus infinity where no point counts.
    """
    points = np.flatnonzero((index >= 0) & (distance > _ZERO))
    beta = np.empty((len(signals), max_delay + 1))
    products, counts = np.empty((2, max_delay + 1))
    exponents = np.empty(max_delay + 1, dtype=np.int64)
    _diverge(
        signals, points.astype(np.uint64), index[points].astype(np.uint64),
        1.0 / distance[points], beta, products,
        products.view(np.int64), exponents, counts,
    )  # fmt: skip
    return beta


@njit
def _diverge(signals, points, partners, scales, beta, products, bits, exponents, counts):
    """Write what `divergence` returns; `bits` is the same memory as `products`.

    The innermost loop runs over delays, so that it reads and multiplies neighbours in memory;
    places are unsigned, since a test for negative ones would keep it from being vectorised. A
    logarithm is taken once a delay: every few points the products give up their exponents.
    """
    n_delays = np.uint64(len(products))
    for s in range(signals.shape[0]):
        for k in range(n_delays):
            products[k], exponents[k], counts[k] = 1.0, 0, 0
        for start in range(0, len(points), 4):
            stop = start + 4 if start + 4 < len(points) else len(points)
            for p in range(start, stop):
                here, there, scale = points[p], partners[p], scales[p]
                for k in range(n_delays):
                    gap = abs(signals[s, here + k] - signals[s, there + k])
                    counts[k] += 1.0 if gap > _ZERO else 0.0
                    products[k] *= gap * scale if gap > _ZERO else 1.0
            # Exponents to the integers, so that products stay between 1 and 2.
            for k in range(n_delays):
                exponents[k] += (bits[k] >> 52) - 1023
                bits[k] = (bits[k] & 0xFFFFFFFFFFFFF) | (1023 << 52)
        for k in range(n_delays):
            total = math.log10(products[k]) + exponents[k] * _LOG_2
            beta[s, k] = total / counts[k] if counts[k] > 0 else -np.inf


def mdop_trial(signals, theiler, max_delay, ratio, threshold, max_cycles):
    """Maximum derivatives on projection for one trial of standardised channels.

    Returns
    -------
    n_cycles : int
        Cycles done.
    delays : ndarray of shape (n_cycles + 1,)
        0 and the delay found in each cycle.
    fractions : ndarray of shape (n_cycles,)
        False neighbours after each cycle.
    """
    n_channels, n_times = signals.shape
    Y = np.empty((max_cycles + 1, n_times))
    delays = np.zeros(max_cycles + 1, dtype=np.int64)
    fractions = np.ones(max_cycles)
    length = n_times
    done = 0
    for cycle in range(max_cycles):
        n_points = length - max_delay
        if n_points < 2:
            break
        best, best_delay, best_from, best_to = -np.inf, -1, 0, 0
        # Any channel may open; from then on the coordinates are what was chosen.
        for a in range(n_channels if cycle == 0 else 1):
            if cycle == 0:
                Y[0] = signals[a]
            index, distance = nearest_neighbours(Y, n_points, cycle + 1, theiler)
            beta = divergence(signals, index, distance, max_delay)
            b, delay = divmod(int(np.argmax(beta)), max_delay + 1)
            if beta[b, delay] > best:
                best, best_delay = beta[b, delay], delay
                best_from, best_to = a, b
        if best_delay < 0:
            break
        if cycle == 0:
            Y[0] = signals[best_from]
        new_length = min(length, n_times - best_delay)
        Y[cycle + 1, :new_length] = signals[best_to, best_delay : best_delay + new_length]
        old = nearest_neighbours(Y, new_length, cycle + 1, theiler)[1]
        new = nearest_neighbours(Y, new_length, cycle + 2, theiler)[1]
        is_close = old < 1.0 / ratio
        close = np.count_nonzero(is_close)
        false = np.count_nonzero(is_close & (new > ratio * old))
        length = new_length
        delays[cycle + 1] = best_delay
        fractions[cycle] = false / close if close > 0 else 1.0
        done = cycle + 1
        if fractions[cycle] <= threshold:
            break
        if cycle > 0 and fractions[cycle] > fractions[cycle - 1]:
            break
    return done, delays[: done + 1], fractions[:done]


def cao_e1(signal, delay, max_dimension):
    """Cao's E1 for dimensions 1 .. max_dimension at one delay; NaN where too few points are."""
    sums, counts = np.zeros((2, max_dimension + 1))
    _add_growth(signal, delay, sums, counts, np.empty(len(signal)))
    e1 = np.full(max_dimension, np.nan)
    known = counts[1:] >= 2  # fewer than two points have no nearest one
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    np.divide(means[1:], means[:-1], out=e1, where=known)
    return e1


@njit
def _add_growth(signal, delay, sums, counts, row):
    """Add how much the distance of each point's neighbour grows with one more dimension."""
    n_times = len(signal)
    for i in range(n_times - delay):
        for j in range(n_times):
            row[j] = 0.0
        for d in range(1, len(sums) + 1):
            n_points = n_times - d * delay  # of these the next coordinate is known
            if i >= n_points:
                break
            shift = (d - 1) * delay
            best, found = np.inf, -1
            for j in range(n_points):
                step = signal[j + shift] - signal[i + shift]
                row[j] += step * step
                if row[j] > 0.0 and row[j] < best and j != i:
                    best, found = row[j], j
            if found >= 0:
                gap = signal[found + d * delay] - signal[i + d * delay]
                sums[d - 1] += math.sqrt(1.0 + gap * gap / best)
                counts[d - 1] += 1.0


def _warm_up():
    signal = np.sin(np.arange(60.0) ** 1.1)
    first_minimum(mutual_information(signal, 5))
    mdop_trial(np.stack((signal, signal[::-1])), 1, 5, 2.0, 0.05, 2)
    cao_e1(signal, 2, 3)

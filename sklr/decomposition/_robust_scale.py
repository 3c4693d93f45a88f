"""Medians of residuals, and where a robust loss may leave them out."""

import numpy as np

# Entries that a median is taken from.
_SAMPLE = 200_000


def weighted_median(values, weights):
    """Median of values, each counted as often as its weight says."""
    if len(weights) == 0:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order], dtype=np.float64)
    middle = cumulated[-1] / 2
    low, high = np.searchsorted(cumulated, [middle * (1 - 1e-12), middle * (1 + 1e-12)])
    return float((values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2)


def sample(entries):
    """Return step and weights of a sample of the entries, large enough for a median."""
    step = max(1, len(entries.values) // _SAMPLE)
    return step, entries.weights[::step]


def median_size(by_row, model, settings):
    """Median size of the residuals."""
    step, weights = sample(by_row)
    return weighted_median(np.abs(by_row.residuals(model, settings, step)), weights)


def cut_that_keeps(cut, by_row, n_columns, model, settings):
    """Raise `cut` to where no row or column is left out as a whole: what is large is no outlier.

    One that would keep clearly less than half of its values keeps half of them. Of few values most
    may be outliers by chance.
    """
    sizes = np.abs(by_row.residuals(model, settings))
    for numbers, n in ((by_row.row_numbers, by_row.n), (by_row.indices, n_columns)):
        counts = np.bincount(numbers, minlength=n)
        kept = np.bincount(numbers[sizes <= cut], minlength=n)
        lost = kept < counts / 2 - np.sqrt(counts)
        if lost.any():
            chosen = lost[numbers]
            ordered = sizes[chosen][np.lexsort((sizes[chosen], numbers[chosen]))]
            counts = counts[lost]
            middles = np.cumsum(counts) - counts + counts // 2
            cut = max(cut, float(ordered[middles].max()))
    return cut

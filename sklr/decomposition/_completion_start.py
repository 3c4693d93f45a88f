"""Where alternating minimisation starts: mean, biases, and a sketched SVD of what they leave."""

import numpy as np

from sklr.decomposition import _completion_plain as plain
from sklr.decomposition._completion_data import Model, is_small, row_means, run

_OVERSAMPLING = 8
_BIAS_ROUNDS = 5
# With a robust loss the start clips residuals to these quantiles.
_CLIP = (0.05, 0.95)
# Entries that a median is taken from.
_SAMPLE = 200_000


def spectral_start(rows, cols, masses, model, settings, rng, clip):
    """Return factors from a sketched SVD of the zero-filled residuals of the biases.

    One power step of a Gaussian sketch. Rows and columns are scaled by the root of how often
    they were seen, without which few heavy rows would fill the leading directions.
    """
    dtype, number = model.dtype, model.dtype.type
    low, high = (number(value) for value in clip)
    damp_r, damp_c = ((1.0 / np.sqrt(m + m.mean())).astype(dtype) for m in masses)

    small = is_small(rows, settings)

    def times(half, bias, offset, scale, B):
        if small:
            return plain.residual_product(
                half, number(model.mean), bias, offset, low, high, scale, B
            )
        from sklr.decomposition._completion_kernels import residual_product

        out = np.empty((half.n, B.shape[1]), dtype=dtype)
        run(
            residual_product, half, B.shape[1], settings.n_jobs, number(model.mean), bias, offset,
            low, high, scale, np.ascontiguousarray(B), out,
        )  # fmt: skip
        return out

    def forward(B):
        return times(rows, model.row_bias, model.col_bias, damp_r, damp_c[:, None] * B)

    def backward(B):
        return times(cols, model.col_bias, model.row_bias, damp_c, damp_r[:, None] * B)

    size = min(settings.rank + _OVERSAMPLING, rows.n, cols.n)
    sketch = rng.standard_normal((cols.n, size)).astype(dtype)
    sketch = np.linalg.qr(backward(np.linalg.qr(forward(sketch))[0]))[0]
    left = np.linalg.qr(forward(sketch))[0]
    right, s, turn = np.linalg.svd(backward(left), full_matrices=False)
    # On average the scaled matrix has each value times the root of its row's and its column's
    # frequency: taken back here.
    root = np.sqrt(s[: settings.rank] * masses[0].sum() ** 0.5)
    U = damp_r[:, None] * (left @ turn[: settings.rank].T) * root
    V = damp_c[:, None] * right[:, : settings.rank] * root
    return np.ascontiguousarray(U, dtype=dtype), np.ascontiguousarray(V, dtype=dtype)


def weighted_median(values, weights):
    """Median of values, each counted as often as its weight says."""
    if len(weights) == 0:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weights[order], dtype=np.float64)
    middle = cumulated[-1] / 2
    low, high = np.searchsorted(cumulated, [middle * (1 - 1e-12), middle * (1 + 1e-12)])
    return float((values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2)


def _sampled(half):
    """Return step and weights of a sample of the entries, large enough for a median."""
    step = max(1, len(half.values) // _SAMPLE)
    return step, half.weights[::step]


def _sample_residuals(rows, model, U, V, small):
    """Residuals of a sample of the entries, and their weights."""
    step, weights = _sampled(rows)
    return _residuals(rows, model, U, V, small, step), weights


def _residuals(rows, model, U, V, small, step=1):
    """Residuals of every `step`-th entry."""
    number = model.dtype.type
    if small:
        found = plain.residuals(rows, number(model.mean), model.row_bias, model.col_bias, U, V)
        return found[::step]
    from sklr.decomposition._completion_kernels import entry_residuals

    out = np.empty(-(-len(rows.values) // step), dtype=model.dtype)
    entry_residuals(
        rows.indptr, rows.indices, rows.values, number(model.mean), model.row_bias,
        model.col_bias, U, V, step, out,
    )  # fmt: skip
    return out


def median_size(rows, model, U, V, small):
    """Median size of the residuals."""
    residuals, weights = _sample_residuals(rows, model, U, V, small)
    return weighted_median(np.abs(residuals), weights)


def cut_that_keeps(cut, rows, cols, model, U, V, small):
    """Raise `cut` to where no row or column is left out as a whole: what is large is no outlier.

    One that would keep clearly less than half of its values keeps half of them. Of few values most
    may be outliers by chance.
    """
    sizes = np.abs(_residuals(rows, model, U, V, small))
    for numbers, n in ((plain.row_numbers(rows), rows.n), (rows.indices, cols.n)):
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


def _row_medians(half, mean, offset, ridge):
    """Each row's median of its values without mean and column offsets, shrunk like a mean."""
    residuals = half.values - mean - offset[half.indices]
    counts = np.diff(half.indptr)
    ordered = residuals[np.lexsort((residuals, np.repeat(np.arange(half.n), counts)))]
    last = max(len(ordered) - 1, 0)
    low = np.minimum(half.indptr[:-1] + np.maximum(counts - 1, 0) // 2, last)
    high = np.minimum(half.indptr[:-1] + counts // 2, last)
    shrunk = counts / np.maximum(counts + ridge, 1)
    return ((ordered[low] + ordered[high]) / 2 * shrunk).astype(half.values.dtype)


def squared_loss(rows, model, settings):
    """Weighted sum of squared residuals."""
    if is_small(rows, settings):
        number = model.dtype.type
        r = plain.residuals(
            rows, number(model.mean), model.row_bias, model.col_bias, model.U, model.V
        ).astype(np.float64)
        return float(r**2 @ rows.weights if len(rows.weights) else r @ r)
    from sklr.decomposition._completion_kernels import row_losses

    out = np.empty(rows.n)
    run(
        row_losses, rows, settings.rank, settings.n_jobs, model.dtype.type(model.mean),
        model.row_bias, model.col_bias, model.U, model.V, out,
    )  # fmt: skip
    return float(out.sum())


def start_biases(rows, cols, masses, settings, dtype):
    """Mean and biases by alternating ridge means, or medians; the range to clip residuals to."""
    robust = settings.loss != "squared"
    mean = 0.0
    if settings.fit_bias and robust:
        step, weights = _sampled(rows)
        mean = weighted_median(rows.values[::step], weights)
    elif settings.fit_bias and len(rows.weights):
        mean = float(np.average(rows.values, weights=rows.weights.astype(np.float64)))
    elif settings.fit_bias:
        mean = float(np.mean(rows.values, dtype=np.float64))
    number = dtype.type
    model = Model(
        mean=float(number(mean)),
        scale=1.0,
        U=np.zeros((rows.n, 1), dtype=dtype),
        V=np.zeros((cols.n, 1), dtype=dtype),
        row_bias=np.zeros(rows.n, dtype=dtype),
        col_bias=np.zeros(cols.n, dtype=dtype),
    )
    for _ in range(_BIAS_ROUNDS if settings.fit_bias else 0):
        for half, offset, out in (
            (cols, model.row_bias, model.col_bias),
            (rows, model.col_bias, model.row_bias),
        ):
            if robust:
                out[:] = _row_medians(half, number(mean), offset, settings.bias_alpha)
            else:
                row_means(half, number(mean), offset, settings.bias_alpha, out)
    clip = (-np.inf, np.inf)
    model.scale = float(np.sqrt(squared_loss(rows, model, settings) / masses[0].sum()))
    if robust:
        residuals, weights = _sample_residuals(
            rows, model, model.U, model.V, is_small(rows, settings)
        )
        # Gross outliers would turn the start towards themselves.
        clip = tuple(np.quantile(residuals, _CLIP).tolist())
        model.scale = 1.4826 * weighted_median(np.abs(residuals), weights) or model.scale
    largest = max(abs(float(rows.values.max())), abs(float(rows.values.min())))
    if model.scale <= 4 * np.finfo(dtype).eps * largest:
        model.scale = 0.0  # the biases explain everything: what is left is rounding
    return model, clip

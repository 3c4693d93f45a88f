"""Where alternating minimisation starts: mean, biases, and a sketched SVD of what they leave."""

import numpy as np

from sklr.decomposition._completion_data import Model
from sklr.decomposition._robust_scale import median_size, sample, weighted_median

_OVERSAMPLING = 8
_BIAS_ROUNDS = 5
# With a robust loss the start clips residuals to these quantiles.
_CLIP = (0.05, 0.95)


def _row_medians(entries, mean, offset, ridge):
    """Each row's median of its values without mean and column offsets, shrunk like a mean."""
    residuals = entries.values - mean - offset[entries.indices]
    counts = np.diff(entries.indptr)
    ordered = residuals[np.lexsort((residuals, entries.row_numbers))]
    last = max(len(ordered) - 1, 0)
    low = np.minimum(entries.indptr[:-1] + np.maximum(counts - 1, 0) // 2, last)
    high = np.minimum(entries.indptr[:-1] + counts // 2, last)
    shrunk = counts / np.maximum(counts + ridge, 1)
    return ((ordered[low] + ordered[high]) / 2 * shrunk).astype(entries.values.dtype)


def _mean(by_row, settings):
    if not settings.fit_bias:
        return 0.0
    if settings.loss != "squared":
        step, weights = sample(by_row)
        return weighted_median(by_row.values[::step], weights)
    if len(by_row.weights):
        return float(np.average(by_row.values, weights=by_row.weights.astype(np.float64)))
    return float(np.mean(by_row.values, dtype=np.float64))


def start_biases(by_row, by_column, settings):
    """Mean and biases by alternating ridge means, or medians; the range to clip residuals to.

    The factors of the model are zero, and its scale is what the biases leave.
    """
    robust = settings.loss != "squared"
    dtype = by_row.values.dtype
    number = dtype.type
    mean = _mean(by_row, settings)
    model = Model(
        mean=float(number(mean)),
        scale=1.0,
        U=np.zeros((by_row.n, 1), dtype=dtype),
        V=np.zeros((by_column.n, 1), dtype=dtype),
        row_bias=np.zeros(by_row.n, dtype=dtype),
        col_bias=np.zeros(by_column.n, dtype=dtype),
    )
    for _ in range(_BIAS_ROUNDS if settings.fit_bias else 0):
        for entries, offset, out in (
            (by_column, model.row_bias, model.col_bias),
            (by_row, model.col_bias, model.row_bias),
        ):
            if robust:
                out[:] = _row_medians(entries, number(mean), offset, settings.bias_alpha)
            else:
                entries.row_means(number(mean), offset, settings.bias_alpha, out)
    clip = (-np.inf, np.inf)
    total = by_row.weight_sums().sum()
    model.scale = float(np.sqrt(by_row.squared_loss(model, settings) / total))
    if robust:
        step, _ = sample(by_row)
        # Gross outliers would turn the start towards themselves.
        clip = tuple(np.quantile(by_row.residuals(model, settings, step), _CLIP).tolist())
        model.scale = 1.4826 * median_size(by_row, model, settings) or model.scale
    largest = max(abs(float(by_row.values.max())), abs(float(by_row.values.min())))
    if model.scale <= 4 * np.finfo(dtype).eps * largest:
        model.scale = 0.0  # the biases explain everything: what is left is rounding
    return model, clip


def spectral_start(by_row, by_column, model, settings, rng, clip):
    """Return factors from a sketched SVD of the zero-filled residuals of the biases.

    One power step of a Gaussian sketch. Rows and columns are scaled by the root of how often
    they were seen, without which few heavy rows would fill the leading directions.
    """
    dtype, mean = model.dtype, model.number(model.mean)
    clip = tuple(model.number(value) for value in clip)
    masses = by_row.weight_sums(), by_column.weight_sums()
    damp_r, damp_c = ((1.0 / np.sqrt(m + m.mean())).astype(dtype) for m in masses)

    def forward(B):
        return by_row.residual_product(
            mean, model.row_bias, model.col_bias, clip, damp_r, damp_c[:, None] * B, settings
        )

    def backward(B):
        return by_column.residual_product(
            mean, model.col_bias, model.row_bias, clip, damp_c, damp_r[:, None] * B, settings
        )

    size = min(settings.rank + _OVERSAMPLING, by_row.n, by_column.n)
    sketch = rng.standard_normal((by_column.n, size)).astype(dtype)
    sketch = np.linalg.qr(backward(np.linalg.qr(forward(sketch))[0]))[0]
    left = np.linalg.qr(forward(sketch))[0]
    right, s, turn = np.linalg.svd(backward(left), full_matrices=False)
    # On average the scaled matrix has each value times the root of its row's and its column's
    # frequency: taken back here.
    root = np.sqrt(s[: settings.rank] * masses[0].sum() ** 0.5)
    factors = []
    for F in (
        damp_r[:, None] * (left @ turn[: settings.rank].T) * root,
        damp_c[:, None] * right[:, : settings.rank] * root,
    ):
        out = np.zeros((len(F), settings.rank), dtype)  # more components than rows: zeros
        out[:, : F.shape[1]] = F
        factors.append(out)
    return factors

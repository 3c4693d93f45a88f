"""Where sweeps of factor analysis start: one group of rows, or a few."""

import numpy as np

from sklr.decomposition._factor_analysis import Mixture, expected, row_posterior


def start(table, n_factors):
    """One group: factors of the zero-filled table.

    Parameters
    ----------
    table : Table
        The rows.
    n_factors : int
        Number of factors.

    Returns
    -------
    model : Mixture
        A start for `improve`.
    """
    p, n = table.values.shape
    share = max(table.observed.mean(), 1e-3)
    # Pairs of columns are seen together in share^2 of the rows, a column with itself in share.
    moments = table.values @ table.values.T / n
    moments /= share**2
    moments[range(p), range(p)] *= share
    energy, V = np.linalg.eigh(moments)
    W = V[:, ::-1][:, :n_factors] * np.sqrt(np.maximum(energy[::-1][:n_factors], 1e-3))
    return _one_group(W, np.zeros(p), np.maximum(1.0 - (W**2).sum(axis=1), 0.1))


def _one_group(W, mean, noise):
    p, k = W.shape
    return Mixture(
        np.ones(1), mean[None], W[None].copy(), noise[None], np.zeros((1, p, k + 1, k + 1))
    )


def split(model, table, n_groups):
    """Start a mixture from one group.

    Rows are completed and bisected along the first principal direction of the group with the
    largest spread, then k-means: no seed, and no matter in which order rows come.

    Parameters
    ----------
    model : Mixture
        One group, fitted.
    table : Table
        The rows.
    n_groups : int
        Number of groups.

    Returns
    -------
    model : Mixture
        A start for `improve`.
    """
    k = model.n_factors
    filled = np.hstack(
        [
            np.where(chunk.observed > 0, chunk.values, expected(model, row_posterior(model, chunk)))
            for chunk in table.chunks(k)
        ]
    )
    labels = _cluster(filled, n_groups)
    groups = []
    for c in range(n_groups):
        part = filled[:, labels == c]
        mean = part.mean(axis=1)
        part = part - mean[:, None]
        energy, V = np.linalg.eigh(part @ part.T / part.shape[1])
        W = V[:, ::-1][:, :k] * np.sqrt(np.maximum(energy[::-1][:k], 1e-6))
        noise = np.maximum((part**2).mean(axis=1) - (W**2).sum(axis=1), 0.05)
        groups.append(_one_group(W, mean, noise))
    sizes = np.bincount(labels, minlength=n_groups)
    return Mixture(
        sizes / sizes.sum(),
        *(
            np.concatenate([getattr(g, name) for g in groups])
            for name in ("means", "loadings", "noise", "cov")
        ),
    )


def _cluster(X, n_groups):
    labels = np.zeros(X.shape[1], dtype=np.intp)
    for new in range(1, n_groups):
        spread = [
            ((X[:, labels == c] - X[:, labels == c].mean(axis=1, keepdims=True)) ** 2).sum()
            for c in range(new)
        ]
        widest = np.flatnonzero(labels == np.argmax(spread))
        part = X[:, widest] - X[:, widest].mean(axis=1, keepdims=True)
        _, V = np.linalg.eigh(part @ part.T)
        along = V[:, -1] @ part
        labels[widest[along > np.median(along)]] = new
        for _ in range(20):
            centres = np.array([X[:, labels == c].mean(axis=1) for c in range(new + 1)])
            far = (centres**2).sum(axis=1)[:, None] - 2.0 * centres @ X
            nearest = far.argmin(axis=0)
            if (nearest == labels).all() or np.bincount(nearest, minlength=new + 1).min() < 2:
                break
            labels = nearest
    return labels

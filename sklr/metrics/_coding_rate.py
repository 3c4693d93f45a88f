"""Coding rate of a representation, and what a partition saves of it."""

from numbers import Real

import numpy as np

from sklr.utils._validation import check_array

# Rows of a membership come from float32 scalings too.
_ROW_SUM_TOLERANCE = 1e-4


def coding_rate(Z, eps=0.1):
    r"""Coding rate: the nats a sample that it takes to write `Z` down to an error.

    .. math:: R(Z) = \tfrac12 \log\det\Big(I_d + \frac{d}{n\epsilon} Z^\top Z\Big)
              = \tfrac12 \sum_i \log\Big(1 + \frac{d\, \sigma_i^2}{n\epsilon}\Big)

    The larger it is, the more directions the samples fill. Rows are taken as they are; scale them
    to unit length where directions alone matter.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The representation.
    eps : float, default=0.1
        Squared error allowed for a sample, above 0.

    Returns
    -------
    rate : float
        Not negative; 0.0 for rows of zeros.

    Raises
    ------
    ValueError
        `eps` is not above 0, or `Z` is not a finite table.

    See Also
    --------
    rate_reduction : What a partition saves.
    sklr.neural_network.ManifoldLinearizingClustering : Clusters by it.

    References
    ----------
    .. [1] Y. Yu, K. H. R. Chan, C. You, C. Song and Y. Ma, "Learning diverse and discriminative
       representations via the principle of maximal coding rate reduction", NeurIPS 2020,
       arXiv:2006.08558.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import coding_rate
    >>> one_direction, four_directions = np.eye(4)[[0, 0, 0, 0]], np.eye(4)
    >>> round(coding_rate(one_direction), 3), round(coding_rate(four_directions), 3)
    (1.857, 4.796)
    """
    Z, eps = _check(Z, eps)
    return 0.5 * _logdet(Z, Z.shape[1] / (len(Z) * eps))


def rate_reduction(Z, membership, eps=0.1):
    r"""Rate reduction: the coding rate of all samples minus that of the parts of a partition.

    .. math:: \Delta R = R(Z) - \frac{1}{2n} \sum_j t_j \log\det\Big(I_d + \frac{d}{t_j \epsilon}
              Z^\top \mathrm{diag}(\Pi_{:j}) Z\Big), \qquad t_j = \sum_i \Pi_{ij}

    It is large where the parts lie in subspaces of few dimensions that are orthogonal to each
    other, and zero for a membership that says nothing (all entries of a row equal).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        The representation.
    membership : array-like of shape (n_samples,) or (n_samples, n_parts)
        Labels; or the share of each sample that is in each part, rows summing to one. A doubly
        stochastic matrix of shape (n_samples, n_samples) makes each sample the head of a part.
    eps : float, default=0.1
        Squared error allowed for a sample, above 0.

    Returns
    -------
    reduction : float
        In nats a sample, not negative up to rounding.

    Raises
    ------
    ValueError
        Shares that are negative or whose rows do not sum to one, a wrong number of rows, or `eps`
        not above 0.

    See Also
    --------
    coding_rate : The first term.
    sklr.transport.sinkhorn_projection : Makes a doubly stochastic membership.

    References
    ----------
    .. [1] Y. Yu, K. H. R. Chan, C. You, C. Song and Y. Ma, "Learning diverse and discriminative
       representations via the principle of maximal coding rate reduction", NeurIPS 2020,
       arXiv:2006.08558.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import rate_reduction
    >>> Z = np.eye(2)[[0, 0, 1, 1]]
    >>> right, wrong = [0, 0, 1, 1], [0, 1, 0, 1]
    >>> round(rate_reduction(Z, right), 3), round(rate_reduction(Z, wrong), 3)
    (0.876, 0.0)
    """
    Z, eps = _check(Z, eps)
    n, d = Z.shape
    whole = 0.5 * _logdet(Z, d / (n * eps))
    parts = 0.0
    for rows, shares in _parts(membership, n):
        total = shares.sum()
        parts += total * _logdet(np.sqrt(shares)[:, None] * Z[rows], d / (total * eps))
    return float(whole - parts / (2 * n))


def coding_length(Z, labels, eps):
    """Return the nats for writing a partition down: each part in its own code, and the labels.

    `Z` is a float64 table and `labels` are codes; nothing is checked.
    """
    n, d = Z.shape
    length = 0.0
    for label in np.unique(labels):
        part = Z[labels == label]
        m = len(part)
        length += 0.5 * (m + d) * _logdet(part, d / (m * eps)) - m * np.log(m / n)
    return float(length)


def _check(Z, eps):
    if isinstance(eps, bool) or not isinstance(eps, Real) or not 0 < eps < np.inf:
        raise ValueError(f"eps must be a finite number above 0, got {eps!r}.")
    return check_array(Z, dtype=np.float64, input_name="Z"), float(eps)


def _parts(membership, n):
    """Yield (rows, shares above zero) of each part that is not empty."""
    membership = np.asarray(membership)
    if len(membership.shape) == 0 or membership.shape[0] != n:
        raise ValueError(
            f"membership must have one row for each of the {n} samples of Z, "
            f"got shape {membership.shape}."
        )
    if membership.ndim == 1:
        for label in np.unique(membership):
            rows = np.flatnonzero(membership == label)
            yield rows, np.ones(len(rows))
        return
    shares = check_array(membership, dtype=np.float64, input_name="membership")
    if shares.min() < 0:
        raise ValueError(f"membership must not be negative; its smallest is {shares.min():.6g}.")
    off = np.abs(shares.sum(axis=1) - 1.0)
    if off.max() > _ROW_SUM_TOLERANCE:
        worst = int(off.argmax())
        raise ValueError(
            f"Each row of membership must sum to one; row {worst} sums to "
            f"{shares[worst].sum():.6g}."
        )
    for column in shares.T:
        rows = np.flatnonzero(column)
        if len(rows):
            yield rows, column[rows]


def _logdet(Z, scale):
    """Return ``logdet(I + scale * Z'Z)`` by the smaller Gram matrix."""
    G = Z.T @ Z if Z.shape[1] <= Z.shape[0] else Z @ Z.T
    G *= scale
    G.flat[:: len(G) + 1] += 1.0
    return float(2.0 * np.log(np.diag(np.linalg.cholesky(G))).sum())

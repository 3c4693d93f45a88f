"""Checks that both doors of FastRP share: the estimator and the blocks."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils._param_validation import Interval, Options, StrOptions

from sklr.utils._warnings import warn_user

# What an embedding may be asked for, whichever way it is computed.
EMBEDDING_CONSTRAINTS: dict = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "weights": ["array-like"],
    "degree_exponent": [Interval(Real, None, None, closed="neither")],
    "input_matrix": [StrOptions({"transition", "adjacency"})],
    "projection": [StrOptions({"sparse", "gaussian"}), "array-like", "sparse matrix"],
    "density": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
    "normalize_powers": ["boolean"],
    "center_powers": ["boolean"],
    "standardize": ["boolean"],
    "self_weight": [Interval(Real, None, None, closed="neither")],
    "isolated": [StrOptions({"keep", "zero"})],
    "dtype": [Options(type, {np.float32, np.float64}), StrOptions({"float32", "float64"})],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
}


def check_weights(weights):
    """Return the weights of the powers as an array, or say what is wrong with them."""
    try:
        weights = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"weights must be numbers, got {weights!r}.") from None
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(
            f"weights must have one number for each power, at least one; got shape {weights.shape}."
        )
    if not np.isfinite(weights).all() or not weights.any():
        raise ValueError(f"weights must be finite and not all zero, got {weights.tolist()}.")
    return weights


def check_centring(center_powers, input_matrix):
    """Refuse centred powers of the adjacency, which no mean is kept by."""
    if center_powers and input_matrix != "transition":
        raise ValueError(
            f"center_powers=True needs input_matrix='transition', got {input_matrix!r}: sums over "
            "neighbours have no mean that all walks tend to."
        )


def check_projection(projection, n_nodes, n_components, dtype):
    """Return a projection that the user gives, checked: CSR or a dense array."""
    given = projection.shape if hasattr(projection, "shape") else np.shape(projection)
    if given != (n_nodes, n_components):
        raise ValueError(
            f"projection has shape {given}; {n_nodes} nodes and n_components={n_components} "
            f"need ({n_nodes}, {n_components})."
        )
    if sparse.issparse(projection):
        projection = sparse.csr_array(projection).astype(dtype)
        values = projection.data
    else:
        projection = values = np.array(projection, dtype=dtype, order="C")
    if not np.isfinite(values).all():
        raise ValueError("projection has NaN or infinite entries.")
    return projection


def warn_of_dangling(degrees, indices):
    """Warn where edges lead to nodes that none leaves: no walk goes on from there."""
    without = degrees == 0
    if without.any():
        reached = np.zeros(len(degrees), dtype=bool)
        reached[indices] = True
        n_dangling = int((without & reached).sum())
        if n_dangling:
            warn_user(
                f"{n_dangling} nodes have edges that lead to them and none that leaves them; "
                "their embedding is that of isolated nodes. Pass symmetrize=True to use edges "
                "both ways.",
            )

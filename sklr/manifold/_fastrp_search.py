"""How well embeddings of a grid of powers tell labels, or edges that were left out."""

import numpy as np
from scipy import sparse
from scipy.stats import rankdata
from sklearn.utils.multiclass import type_of_target

from sklr.manifold import _fastrp_core as core
from sklr.utils._graph import check_adjacency
from sklr.utils._warnings import warn_user

# Penalties of the ridge regression, in units of a standardised column's sum of squares.
_PENALTIES = (0.003, 0.03, 0.3, 3.0, 30.0)
# Fewer nodes or edges than this say nothing.
_FEWEST = 10


def known_labels(y, n_nodes):
    """Return the nodes whose labels are known, and their labels as a 0/1 table (float64).

    Parameters
    ----------
    y : array-like or sparse matrix of shape (n_nodes,) or (n_nodes, n_labels)
        One label a node, or a 0/1 table of labels. -1, NaN and None stand for "not known"; one of
        them makes a row of the table not known.
    n_nodes : int
        Length wanted.

    Returns
    -------
    nodes : ndarray of shape (n_known,)
        Ascending.
    table : ndarray of shape (n_known, n_labels)
        A column for each label that occurs.
    """
    y = y.toarray() if sparse.issparse(y) else np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(y) != n_nodes:
        raise ValueError(
            f"y must have one label, or one row of labels, for each of the {n_nodes} nodes, got "
            f"shape {y.shape}. Nodes whose labels are not known have -1."
        )
    gone = _not_known(y)
    if y.ndim == 2:
        nodes = np.flatnonzero(~gone.any(axis=1))
        try:
            table = y[nodes].astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError("A table of labels must have 0 and 1, got other objects.") from None
        if not np.isin(table, (0.0, 1.0)).all():
            wrong = table[~np.isin(table, (0.0, 1.0))][0]
            raise ValueError(f"A table of labels must have 0 and 1 (-1: not known), got {wrong!r}.")
        return nodes, table[:, table.any(axis=0)]
    nodes = np.flatnonzero(~gone)
    listed = y[nodes]
    if listed.dtype.kind == "f" and len(listed) and type_of_target(listed) == "continuous":
        raise ValueError(
            "Unknown label type: y has real numbers; labels of classes are wanted (bin them, for "
            "example with sklearn.preprocessing.KBinsDiscretizer)."
        )
    try:
        values, codes = np.unique(listed, return_inverse=True)
    except TypeError:  # strings beside numbers
        values, codes = np.unique(listed.astype(str), return_inverse=True)
    return nodes, np.equal.outer(codes, np.arange(len(values))).astype(np.float64)


def _not_known(y):
    if y.dtype.kind == "f":
        return np.isnan(y) | (y == -1)
    if y.dtype.kind == "O":
        flat = [v is None or (not isinstance(v, str) and (v != v or v == -1)) for v in y.ravel()]
        return np.array(flat, dtype=bool).reshape(y.shape)
    return y == -1 if y.dtype.kind in "iu" else np.zeros(y.shape, dtype=bool)


class LabelScore:
    """Leave-one-out error of a ridge regression on the labels of some nodes."""

    def __init__(self, table):
        self.table = table

    def __call__(self, rows):
        """Return minus the squared error of each node, at the best penalty."""
        rows = rows - rows.mean(axis=0)
        rows /= np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
        m, d = rows.shape
        # With rows = U S V', all predictions are made of U and S; the smaller Gram matrix has them.
        if d <= m:
            squares, right = np.linalg.eigh(rows.T @ rows)
            kept = squares > squares[-1] * 1e-12
            squares = squares[kept]
            left = rows @ (right[:, kept] / np.sqrt(squares))
        else:
            squares, left = np.linalg.eigh(rows @ rows.T)
            kept = squares > squares[-1] * 1e-12
            squares, left = squares[kept], left[:, kept]
        mean = self.table.mean(axis=0)
        wanted = self.table - mean
        inner, square = left.T @ wanted, left**2
        best = np.full(m, -np.inf)
        for penalty in _PENALTIES:
            share = squares / (squares + penalty * m)
            own = np.minimum(1.0 / m + square @ share, 1 - 1e-9)
            errors = (wanted - left @ (share[:, None] * inner)) / (1.0 - own)[:, None]
            found = -(errors**2).sum(axis=1)
            if found.mean() > best.mean():
                best = found
        return best


class EdgeScore:
    """How often an edge that was left out is nearer, by cosine, than a pair drawn at random."""

    def __init__(self, edges, pairs):
        self.edges, self.pairs = edges, pairs

    def __call__(self, rows):
        """Return the share of pairs that each edge beats; their mean is the area under the ROC."""
        rows = rows - rows.mean(axis=0)
        rows /= np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms > 0, norms, 1.0)
        near = np.einsum("ij,ij->i", rows[self.edges[0]], rows[self.edges[1]])
        far = np.einsum("ij,ij->i", rows[self.pairs[0]], rows[self.pairs[1]])
        ranks = rankdata(np.r_[near, far])[: len(near)]
        return (ranks - rankdata(near)) / len(far)


def _distinct(keys):
    """Sorted keys without repeats, by sorting: NumPy's table of hashes takes 100 times as long."""
    keys = np.sort(keys)
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys


def _among(keys, ordered):
    """Whether each key is one of some, which are sorted."""
    place = np.searchsorted(ordered, keys)
    return ordered[np.minimum(place, len(ordered) - 1)] == keys


def leave_edges_out(adjacency, share, most, rng):
    """Return the graph without some edges, the nodes at issue, and the score of their rows.

    None where the graph has too few edges. Both directions of an undirected edge go together.
    """
    n_nodes = adjacency.shape[0]
    rows = np.repeat(np.arange(n_nodes), np.diff(adjacency.indptr))
    columns = adjacency.indices.astype(np.int64)
    one, other = np.minimum(rows, columns), np.maximum(rows, columns)
    keys = one * n_nodes + other
    # Ends that have another edge: what is left alone has no row to compare.
    degrees = np.bincount(rows, minlength=n_nodes)
    able = (one != other) & (degrees[rows] > 1) & (degrees[columns] > 1)
    able, known = _distinct(keys[able]), _distinct(keys)
    n_out = min(int(np.ceil(share * len(known))), most, len(able))
    if n_out < _FEWEST:
        return None
    out = rng.choice(able, n_out, replace=False)
    kept = ~_among(keys, np.sort(out))
    indptr = np.concatenate(([0], np.cumsum(kept)))[adjacency.indptr]
    rest = sparse.csr_array(
        (adjacency.data[kept], adjacency.indices[kept], indptr), shape=adjacency.shape
    )
    left, right = rng.integers(0, n_nodes, (2, 2 * n_out))
    pairs = np.minimum(left, right) * n_nodes + np.maximum(left, right)
    no_edge = (left != right) & ~_among(pairs, known)
    if no_edge.sum() < _FEWEST:
        return None
    left, right = left[no_edge], right[no_edge]
    nodes, place = np.unique(np.r_[out // n_nodes, out % n_nodes, left, right], return_inverse=True)
    parts = np.split(place, np.cumsum([n_out, n_out, len(left)]))
    return check_adjacency(rest, dtype=None), nodes, EdgeScore(parts[:2], parts[2:])


def powers_of_rows(operator, start, n_powers, nodes, threads, progress):
    """Yield powers 1, 2, ... of some nodes, in double precision; two whole tables are in memory."""
    steps = core.Steps(operator, threads)
    source, spare = start, np.empty_like(start)
    for _ in progress(range(n_powers)):
        steps.product(source, spare, core.Merge())
        source, spare = spare, source
        yield source[nodes].astype(np.float64)


def unit_rows(rows):
    """Return rows divided by their norms; zero rows stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def best_candidate(scores, default):
    """Return the candidate of the best mean, or the default where none is clearly better.

    Parameters
    ----------
    scores : list of ndarray of shape (n_parts,)
        For each candidate, the score of each node or edge; higher is better.
    default : int
        The candidate that stays unless the best one beats it by a standard error of their paired
        difference.

    Returns
    -------
    best : int
        A position in `scores`.
    means, errors : ndarray of shape (n_candidates,)
        Means, and standard errors of the difference to the best mean.
    """
    table = np.array(scores)
    means = table.mean(axis=1)
    best = int(means.argmax())
    gaps = table[best] - table
    errors = gaps.std(axis=1) / np.sqrt(table.shape[1])
    if gaps[default].mean() <= errors[default]:
        best = default
    return best, means, errors


def enough_labels(nodes, table):
    """Return whether known labels can choose; say why not."""
    if len(nodes) >= _FEWEST and table.shape[1] >= 2 and len(np.unique(table, axis=0)) >= 2:
        return True
    warn_user(
        f"y has {len(nodes)} nodes of known labels and {table.shape[1]} different labels (-1 "
        f"stands for not known); at least {_FEWEST} nodes and 2 labels are needed to choose by "
        "them. Edges that are left out choose instead.",
    )
    return False

"""Recommendations from factors of rows and columns: what both models of pairs share."""

from contextlib import contextmanager
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._pair_ids import ids_of_call, position
from sklr.utils._warnings import warn_user

# Scores that are made at a time.
_BLOCK = 4_000_000


def _check_n(n):
    if isinstance(n, (bool, np.bool_)) or not isinstance(n, Integral):
        raise TypeError(f"n must be an integer, got {n!r}.")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")


def _best(scores, n):
    """Places and scores of the n highest of each row, highest first; -inf is no candidate."""
    n = min(n, scores.shape[1])
    if n < scores.shape[1]:
        chosen = np.argpartition(-scores, n - 1, axis=1)[:, :n]
    else:
        chosen = np.broadcast_to(np.arange(n), scores.shape)
    chosen = np.sort(chosen, axis=1)  # ties in the order of the ids
    found = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(found, order, axis=1)


def seen_ids(ids, shape):
    """Return row ids, the samples' numbers of them, and the same of columns: seen, or of shape."""
    if shape is None:
        row_ids, rows = np.unique(ids[0], return_inverse=True)
        col_ids, cols = np.unique(ids[1], return_inverse=True)
        return row_ids, rows, col_ids, cols
    return np.arange(shape[0]), ids[0], np.arange(shape[1]), ids[1]


def known_columns(model, ids):
    """Places of column ids, and which of them had a value in fit; a warning names the others."""
    cols = position(model.col_ids_, ids, "column")
    known = (cols >= 0) & model._rated[cols]
    if not known.all():
        warn_user(
            f"{(~known).sum()} of {len(known)} values are of columns without a value in fit (the "
            f"first is {ids[~known][0]}); they are left out.",
        )
    return cols.astype(np.int32), known


@contextmanager
def unnamed_pairs(model, X):
    """Check pairs without the names of fit's table: what new rows chose is often a list."""
    names = None if hasattr(X, "columns") else vars(model).pop("feature_names_in_", None)
    try:
        yield
    finally:
        if names is not None:
            model.feature_names_in_ = names


class RecommenderMixin:
    """Recommendations and neighbours for models with factors of rows (users) and columns (items).

    A class has `row_ids_`, `col_ids_`, `row_factors_`, `col_factors_`, the private `_seen`
    (index pointer and columns of each row's values in `fit`) and `_rated` (whether a column has a
    value), and `_scores`.
    """

    def recommend(self, row, n=10, *, exclude_seen=True, items=None, filter_items=None):
        """Return the columns with the highest scores for one row, or for many at once.

        Parameters
        ----------
        row : int, str or array-like of shape (n_rows,)
            Id of a row that `fit` has seen, or several.
        n : int, default=10
            How many columns.
        exclude_seen : bool, default=True
            Whether columns that the row has a value for are left out. Columns without any value
            are left out always.
        items : array-like of ids, default=None
            Columns to choose from; all of them by default.
        filter_items : array-like of ids, default=None
            Columns to leave out for every row: sold out, say.

        Returns
        -------
        cols : ndarray of shape (n,) or (n_rows, n)
            Column ids, best first. For one row there are fewer where there are fewer candidates;
            with several rows the places that remain have the id -1, or an empty string.
        values : ndarray of shape (n,) or (n_rows, n)
            Their scores, -inf where there is no candidate.
        """
        check_is_fitted(self)
        rows, alone = ids_of_call(row, "row")
        _check_n(n)
        places = position(self.row_ids_, rows, "row")
        indptr, _ = self._seen
        unknown = (places < 0) | (indptr[places] == indptr[places + 1])
        if unknown.any():
            raise ValueError(
                f"row {rows[unknown][0]} had no value in fit, {unknown.sum()} of {len(rows)} rows: "
                "nothing is known of it. fold_in takes the values of new rows."
            )
        allowed = self._candidates(items, filter_items)
        n_kept = min(n, len(allowed))
        cols = np.empty((len(rows), n_kept), dtype=np.intp)
        values = np.empty((len(rows), n_kept), dtype=self.col_factors_.dtype)
        step = max(1, _BLOCK // max(len(allowed), 1))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            scores = self._scores(places[part], allowed)
            if exclude_seen:
                self._hide_seen(scores, places[part], allowed)
            cols[part], values[part] = _best(scores, n_kept)
        missing = np.isneginf(values)
        if len(allowed):
            cols = self.col_ids_[allowed][cols]
            cols[missing] = "" if cols.dtype.kind == "U" else -1
        if alone:
            return cols[0][~missing[0]], values[0][~missing[0]]
        return cols, values

    def similar_items(self, items, n=10):
        """Return the columns whose factors point most nearly in the direction of a column's.

        Parameters
        ----------
        items : int, str or array-like of shape (n_items,)
            Id of a column that `fit` has seen, or several.
        n : int, default=10
            How many others.

        Returns
        -------
        cols : ndarray of shape (n,) or (n_items, n)
            Column ids, most similar first, without the column itself.
        similarities : ndarray of shape (n,) or (n_items, n)
            Cosines of the angles between the factors.
        """
        check_is_fitted(self)
        items, alone = ids_of_call(items, "items")
        _check_n(n)
        places = position(self.col_ids_, items, "column")
        unknown = (places < 0) | ~self._rated[places]
        if unknown.any():
            raise ValueError(f"column {items[unknown][0]} had no value in fit.")
        allowed = np.flatnonzero(self._rated)
        factors = self.col_factors_[allowed]
        sizes = np.linalg.norm(factors, axis=1, keepdims=True)
        factors = np.divide(factors, sizes, out=np.zeros_like(factors), where=sizes > 0)
        own = np.searchsorted(allowed, places)
        n = min(n, max(len(allowed) - 1, 0))
        cols = np.empty((len(items), n), dtype=self.col_ids_.dtype)
        values = np.empty((len(items), n), dtype=factors.dtype)
        step = max(1, _BLOCK // len(allowed))
        for start in range(0, len(items), step):
            part = slice(start, start + step)
            scores = factors[own[part]] @ factors.T
            scores[np.arange(len(scores)), own[part]] = -np.inf
            chosen, values[part] = _best(scores, n)
            cols[part] = self.col_ids_[allowed[chosen]]
        return (cols[0], values[0]) if alone else (cols, values)

    def _candidates(self, items, filter_items):
        """Places of the columns that may be recommended."""
        allowed = self._rated.copy()
        if items is not None:
            chosen = position(self.col_ids_, ids_of_call(items, "items")[0], "column")
            only = np.zeros(len(allowed), dtype=bool)
            only[chosen[chosen >= 0]] = True
            allowed &= only
        if filter_items is not None and np.size(filter_items):
            out = position(self.col_ids_, ids_of_call(filter_items, "filter_items")[0], "column")
            allowed[out[out >= 0]] = False
        return np.flatnonzero(allowed)

    def _hide_seen(self, scores, places, allowed):
        indptr, indices = self._seen
        counts = indptr[places + 1] - indptr[places]
        rows = np.repeat(np.arange(len(places)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        seen = indices[np.repeat(indptr[places], counts) + within]
        where = np.full(len(self.col_ids_), -1)
        where[allowed] = np.arange(len(allowed))
        at = where[seen]
        scores[rows[at >= 0], at[at >= 0]] = -np.inf

"""What LowRankImputer takes: numbers, marks of missing values, bounds of what is filled in."""

from numbers import Number, Real

import numpy as np
import scipy.sparse as sp

_MOST = 10


def is_nan(value):
    """Whether missing values are NaN once the input is an array of numbers."""
    if value is None or isinstance(value, str) or type(value).__name__ == "NAType":
        return True
    return isinstance(value, Real) and value != value


def named(columns, names):
    """Columns by name where they have one, in words."""
    found = [repr(str(names[c])) if names is not None else str(int(c)) for c in columns[:_MOST]]
    more = len(columns) - len(found)
    return ", ".join(found) + (f" and {more} more" if more else "")


def _kind(X):
    dtypes = getattr(X, "dtypes", None)
    if dtypes is not None and hasattr(X, "iloc"):
        kinds = {getattr(dtype, "kind", "O") for dtype in np.atleast_1d(np.array(dtypes, object))}
        return "O" if kinds - set("fiub") else "f"
    if isinstance(X, np.ndarray):
        return X.dtype.kind
    if isinstance(X, (list, tuple)) or hasattr(X, "columns"):
        try:
            return np.asarray(X).dtype.kind
        except ValueError:  # ragged: the check of arrays says so
            return "f"
    return "f"


def as_numbers(X, missing_values):
    """Return a table of objects as numbers, missing values as NaN; anything else unchanged.

    Parameters
    ----------
    X : array-like, dataframe or sparse matrix
        The input as it came.
    missing_values : object
        The mark of missing values.

    Returns
    -------
    X : array-like, dataframe or sparse matrix
        What the usual check of arrays understands.
    """
    text = isinstance(missing_values, str)
    if sp.issparse(X) or _kind(X) not in "OUSMm":
        if text:
            raise ValueError(
                f"missing_values={missing_values!r} is text, and X holds numbers: nothing could be "
                "missing. Pass the number that stands for a missing value, or np.nan."
            )
        return X
    table = np.array(X, dtype=object)
    if table.ndim != 2:
        return X
    nan = is_nan(missing_values)
    for place, value in np.ndenumerate(table):
        if text and isinstance(value, str) and value == missing_values:
            table[place] = np.nan
        elif value is None or type(value).__name__ in ("NAType", "NaTType"):
            if not nan:
                raise ValueError(
                    f"X has {value!r} in row {place[0]}, column {place[1]}, and "
                    f"missing_values={missing_values!r}; use missing_values=np.nan for it."
                )
            table[place] = np.nan
        elif isinstance(value, str) or not isinstance(value, (Number, np.generic, dict, list)):
            where = _column_name(X, place[1])
            raise ValueError(
                f"X holds numbers, got {value!r} of type {type(value).__name__} in row {place[0]}, "
                f"column {where}. Encode text, categories and dates as numbers first "
                "(sklearn.preprocessing.OrdinalEncoder keeps missing values)."
            )
    if hasattr(X, "iloc"):
        try:
            return type(X)(table.astype(float), columns=X.columns, index=X.index)
        except (TypeError, ValueError):
            return X
    if hasattr(X, "columns"):
        return X
    return table


def _column_name(X, number):
    columns = getattr(X, "columns", None)
    return number if columns is None else repr(str(list(columns)[number]))


def bounds(given, name, observed, names):
    """Bound of each column: one number, one for each, or what was observed.

    Parameters
    ----------
    given : "observed", float or array-like
        The parameter.
    name : str
        Its name.
    observed : ndarray of shape (n_features,)
        Smallest or largest observed value of each column.
    names : ndarray or None
        Names of the columns.

    Returns
    -------
    bound : ndarray of shape (n_features,)
        Infinite where there is none.
    """
    if isinstance(given, str):
        return observed
    bound = np.asarray(given, dtype=float)
    if bound.ndim > 1 or (bound.ndim == 1 and len(bound) != len(observed)):
        raise ValueError(
            f"{name} must be a number or one for each of the {len(observed)} columns, got shape "
            f"{bound.shape}."
        )
    if np.isnan(bound).any():
        raise ValueError(f"{name} must have no NaN, got {given!r}; use infinity for no bound.")
    return np.broadcast_to(bound, observed.shape)

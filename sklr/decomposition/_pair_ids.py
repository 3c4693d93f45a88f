"""Ids of (row, column) pairs: integers or strings, as a table has them in two columns."""

from numbers import Integral

import numpy as np

# From here on a float does not tell neighbouring integers apart.
_EXACT = 2.0**53


def id_columns(X):
    """Return the ids of each column of a checked table, as int64 or as strings."""
    if X.dtype.kind in "OU":
        return [_objects(column, j) for j, column in enumerate(X.T)]
    if X.dtype.kind not in "iufb":
        raise TypeError(f"ids must be integers or strings, got {X.dtype}.")
    return [_integers(column, j) for j, column in enumerate(X.T)]


def _integers(column, j):
    kind = column.dtype.kind
    if kind == "f":
        wrong = column != np.floor(column)
        if wrong.any():
            raise ValueError(
                f"ids must be integers or strings, got {column[wrong][0]} in column {j} of X."
            )
        if (np.abs(column) >= _EXACT).any():
            raise ValueError(
                f"ids as large as {np.abs(column).max():.17g}, in column {j} of X, are not exact "
                f"in {column.dtype}: beyond 2 ** 53 different ids become one. Pass integers; a "
                "float column beside integers makes floats of both."
            )
    elif kind == "u" and column.max() >= 2**63:
        raise ValueError(f"ids must be below 2 ** 63, got {column.max()} in column {j} of X.")
    return column.astype(np.int64, copy=False)


def _objects(column, j):
    text = np.fromiter((isinstance(value, str) for value in column), bool, len(column))
    if text.all():
        return column.astype(str)
    if text.any():
        raise TypeError(
            f"ids of a column must be all strings or all integers, got {column[text][0]!r} and "
            f"{column[~text][0]!r} in column {j} of X."
        )
    if all(isinstance(value, Integral) for value in column):
        try:
            return np.array([int(value) for value in column], dtype=np.int64)
        except OverflowError as exc:
            raise ValueError(f"ids must fit 64 bits, column {j} of X has larger ones.") from exc
    try:
        numbers = column.astype(np.float64)
    except (TypeError, ValueError) as exc:
        other = next(value for value in column if not isinstance(value, (int, float)))
        raise TypeError(
            f"an id must be an integer or a string, got a {type(other).__name__} in column {j} of "
            f"X: argument must be a string or a number. ({exc})"
        ) from exc
    return _integers(numbers, j)


def position(known, ids, what="row"):
    """Place of each id among the sorted known ones, -1 where it is not."""
    ids = np.asarray(ids)
    kinds = ["strings" if array.dtype.kind == "U" else "integers" for array in (known, ids)]
    if kinds[0] != kinds[1] and len(known):
        raise TypeError(f"{what} ids were {kinds[0]} in fit, got {kinds[1]}: {ids.ravel()[:3]}.")
    place = np.searchsorted(known, ids)
    place[place == len(known)] = 0
    return np.where(known[place] == ids, place, -1)


def ids_of_call(given, what):
    """Check ids that are given to a method: one, or a list; returns them and whether it is one."""
    alone = isinstance(given, (str, Integral)) and not isinstance(given, (bool, np.bool_))
    found = np.atleast_1d(np.asarray(given))
    if found.dtype.kind == "O" and len(found) and all(isinstance(v, str) for v in found.ravel()):
        found = found.astype(str)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iuU" or (np.ndim(given) == 0 and not alone):
        raise TypeError(
            f"{what} must be an id, integer or string, or a list of such, got {given!r}."
        )
    return found if found.dtype.kind == "U" else found.astype(np.int64), alone


def check_shape(shape):
    """Check numbers of rows and columns, or None."""
    if shape is None:
        return None
    if len(shape) != 2 or not all(isinstance(s, Integral) and s > 0 for s in shape):
        raise ValueError(f"shape must be two positive integers, got {shape!r}.")
    return tuple(int(s) for s in shape)


def check_range(ids, shape, name, *, fitting):
    """Check that ids are within the shape; without one that there are no negative ones in fit."""
    for column, what, size in zip(ids, ("row", "column"), shape or (None, None), strict=False):
        if column.dtype.kind == "U":
            if shape is not None:
                raise TypeError(
                    f"{what} ids are strings, and shape={shape} is for ids that are numbers: leave "
                    "it out."
                )
        elif size is not None and (column.min() < 0 or column.max() >= size):
            raise ValueError(
                f"{what} ids must be from 0 to {size - 1} (shape={shape}), "
                f"got {column.min()} to {column.max()}."
            )
        elif shape is None and fitting and column.min() < 0:
            raise ValueError(
                f"Negative values in data passed to {name}: ids are integers from 0, got "
                f"{column.min()}. Leave out the samples of unknown ids."
            )

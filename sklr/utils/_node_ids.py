"""Identifiers of nodes: any objects, compared exactly, whatever numbers they are kept in."""

import operator
from typing import Any

import numpy as np


def node_ids(nodes: Any) -> np.ndarray:
    """Return the ids of nodes; a number n stands for 0 .. n - 1."""
    if isinstance(nodes, bool):
        raise ValueError(f"nodes must be ids or their number, got {nodes!r}.")
    try:
        return np.arange(operator.index(nodes))
    except TypeError:
        pass
    nodes = list(nodes) if not hasattr(nodes, "to_numpy") else nodes.to_numpy()
    return as_ids(nodes)


def as_ids(values: Any) -> np.ndarray:
    """Return values as a 1-D array; ids that are tuples stay single objects."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None:
        try:
            array = np.asarray(values)
        except ValueError:
            array = None
    # A list of mixed ids would turn into strings, integers of many sizes into floats, and tuples
    # into a matrix.
    mixed = array is not None and array.dtype.kind in "US" and not isinstance(values, np.ndarray)
    if array is not None and array.dtype.kind == "f" and isinstance(values, list):
        array = array if all(isinstance(v, float) for v in values) else None
    if array is None or array.ndim != 1 or (mixed and not all(isinstance(v, str) for v in values)):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array.astype(object) if array.dtype.kind in "US" else array


def locate(ids: np.ndarray, nodes: np.ndarray, what: str) -> np.ndarray:
    """Return the position of each id in `nodes`."""
    if not _comparable(ids, nodes):
        ids, nodes = exact(ids), exact(nodes)
    if len(nodes) and _comparable(ids, nodes):
        order = np.argsort(nodes, kind="stable")
        found = np.searchsorted(nodes, ids, sorter=order)
        positions = order[np.minimum(found, len(nodes) - 1)]
        unknown = nodes[positions] != ids
    else:
        table = {node: position for position, node in enumerate(nodes.tolist())}
        listed = ids.tolist()
        positions = np.fromiter((table.get(v, -1) for v in listed), np.int64, len(listed))
        unknown = positions < 0
    if unknown.any():
        examples = list(dict.fromkeys(ids[unknown].tolist()))
        some = ", ".join(repr(v) for v in examples[:3]) + (", ..." if len(examples) > 3 else "")
        raise ValueError(
            f"{int(unknown.sum())} of {len(ids)} edges have a {what} that is not in nodes: {some}. "
            "Name every id in nodes, or remove these edges."
        )
    return positions


def check_unique(nodes: np.ndarray) -> None:
    """Refuse ids that occur twice."""
    listed = nodes.tolist()
    if len(set(listed)) != len(listed):
        seen: set = set()
        double = next(v for v in listed if v in seen or seen.add(v))  # type: ignore[func-returns-value]
        raise ValueError(f"nodes has {double!r} more than once; ids must be unique.")


def sorted_ids(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the distinct ids, sorted where they have an order."""
    if not _comparable(source, target):
        source, target = exact(source), exact(target)
    if _comparable(source, target):
        return np.unique(np.r_[source, target])
    found = list(dict.fromkeys([*source.tolist(), *target.tolist()]))
    try:
        found.sort()
    except TypeError:
        pass  # ids of several types have no order but that of their appearance
    return as_ids(found)


def exact(ids: np.ndarray) -> np.ndarray:
    """Return numbers as int64 where that loses nothing, so that columns of ids can be compared.

    Integers of 64 bits do not all have a floating point number of their own.
    """
    if ids.dtype.kind == "u" and (ids.itemsize < 8 or not len(ids) or ids.max() < 2**63):
        return ids.astype(np.int64)
    whole = ids.dtype.kind == "f" and np.isfinite(ids).all() and (ids == np.floor(ids)).all()
    if whole and (np.abs(ids) < 2.0**63).all():
        return ids.astype(np.int64)
    return ids


def _comparable(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays are numbers that a common type holds exactly."""
    kinds = {one.dtype.kind, other.dtype.kind}
    return kinds <= set("biu") and np.result_type(one, other).kind in "biu" or kinds == {"f"}


def has_missing(ids: np.ndarray) -> np.ndarray | None:
    """Return which ids are missing (None where none can be)."""
    if ids.dtype.kind == "f":
        return np.isnan(ids)
    if ids.dtype.kind != "O":
        return None
    # Missing values are not equal to themselves (NaN) or do not know (pandas.NA).
    missing = (v is None or (not isinstance(v, str) and not _equals_itself(v)) for v in ids)
    return np.fromiter(missing, bool, len(ids))


def _equals_itself(value: Any) -> bool:
    try:
        return bool(value == value)
    except (TypeError, ValueError):
        return False

"""Graphs in folders: CSR arrays as files that are mapped into memory and not loaded."""

import os
import pathlib
import shutil
import tempfile
import tokenize
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from sklr.utils._graph import check_adjacency, index_dtype, is_graph_object, to_adjacency

_NAMES = ("indptr", "indices", "data")
# Files are looked through in pieces of so many numbers.
_PIECE = 8_000_000


@dataclass
class MappedGraph:
    """The arrays of a graph folder, mapped; `data` is None where every edge weighs 1."""

    folder: pathlib.Path
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray | None

    @property
    def n_nodes(self):
        return len(self.indptr) - 1


def save_graph(folder, graph, *, overwrite=False):
    """Write a graph into a folder, from where it can be used without being loaded.

    The folder has ``indptr.npy`` (int64), ``indices.npy`` (int32 where that is enough) and, unless
    every edge weighs 1, ``data.npy``: the three arrays of a CSR matrix. Any other program can
    write it as well.

    Parameters
    ----------
    folder : path-like
        Where to write; made if it is not there.
    graph : sparse or dense matrix of shape (n_nodes, n_nodes), networkx or igraph graph
        The graph; :func:`to_adjacency` makes one of an edge list.
    overwrite : bool, default=False
        Whether a graph that is there is replaced.

    Returns
    -------
    folder : pathlib.Path
        The folder.

    Raises
    ------
    FileExistsError
        There is something already, and `overwrite` is False, or it is no graph.

    See Also
    --------
    load_graph : Read a graph, or map it.
    sklr.manifold.fastrp_blocks : Embed a graph that is in a folder.

    Notes
    -----
    Files are written beside their place and moved there when all are complete: a run that is
    stopped leaves what was there before.

    Examples
    --------
    >>> import tempfile
    >>> from sklr.utils import load_graph, save_graph
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_graph(f"{folder}/graph", [[0, 1], [1, 0]])
    ...     print(load_graph(path).toarray())
    [[0. 1.]
     [1. 0.]]
    """
    folder = pathlib.Path(folder)
    if is_graph_object(graph):
        graph = to_adjacency(graph)
    adjacency = check_adjacency(graph, name="graph", dtype=None)
    _check_replaceable(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        # mkdtemp makes folders that nobody else may read; the graph is to be shared.
        partial.chmod(file_mode(0o777))
        np.save(partial / "indptr.npy", adjacency.indptr.astype(np.int64))
        np.save(partial / "indices.npy", adjacency.indices)
        data = adjacency.data
        if not (data == 1).all():
            np.save(partial / "data.npy", data if data.dtype.kind == "f" else data.astype(float))
        if folder.is_dir():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def file_mode(wanted: int) -> int:
    """Return the permissions that a new file or folder gets here when it asks for `wanted`."""
    mask = os.umask(0)
    os.umask(mask)
    return wanted & ~mask


def _check_replaceable(folder: pathlib.Path, overwrite: bool) -> None:
    if folder.is_symlink():
        raise FileExistsError(
            f"{folder} is a link to {os.path.realpath(folder)}; nothing was written. Name that "
            "folder itself, or a new one."
        )
    if not folder.exists():
        return
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    if not found:
        return
    foreign = set(found) - {f"{name}.npy" for name in _NAMES}
    if foreign or not folder.is_dir():
        raise FileExistsError(
            f"{folder} has something that is no graph ({sorted(foreign)[0]}); nothing was written. "
            "Name a new folder."
        )
    if not overwrite:
        raise FileExistsError(
            f"{folder} has a graph; nothing was written. Pass overwrite=True to replace it."
        )


def load_graph(folder, *, mmap=False):
    """Read a graph from a folder that :func:`save_graph` or another program wrote.

    Parameters
    ----------
    folder : path-like
        A folder with ``indptr.npy``, ``indices.npy`` and possibly ``data.npy``.
    mmap : bool, default=False
        Map the files instead of reading them. Weights of 1 are in no file, and take memory.

    Returns
    -------
    adjacency : csr_array of shape (n_nodes, n_nodes)
        The graph.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is cut off, or the arrays do not fit together.

    See Also
    --------
    save_graph : Write such a folder.

    Examples
    --------
    >>> import tempfile
    >>> from sklr.utils import load_graph, save_graph
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_graph(f"{folder}/graph", [[0.0, 0.5], [0.5, 0.0]])
    ...     print(load_graph(path, mmap=True).nnz)
    2
    """
    graph = open_graph(folder)
    arrays = [graph.indptr, graph.indices, graph.data]
    if not mmap:
        arrays = [None if array is None else np.array(array) for array in arrays]
    indptr, indices, data = arrays
    if data is None:
        data = np.ones(len(indices))
    # SciPy wants one type for both, and would make it int64.
    index = index_dtype(graph.n_nodes, len(indices))
    indptr, indices = (array.astype(index, copy=False) for array in (indptr, indices))
    return sparse.csr_array((data, indices, indptr), shape=(graph.n_nodes, graph.n_nodes))


def open_graph(folder, *, check: bool = True) -> MappedGraph:
    """Map the files of a graph folder, and look through them unless that was done before."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no graph folder {folder}; sklr.utils.save_graph writes one."
        )
    arrays: dict[str, Any] = {
        name: _map(folder / f"{name}.npy", optional=name == "data") for name in _NAMES
    }
    graph = MappedGraph(folder, **arrays)
    if check:
        _check_graph(graph)
    return graph


# NumPy reads a header as Python source: a damaged one fails in every way that source can.
_UNREADABLE = (ValueError, TypeError, EOFError, OSError, SyntaxError, tokenize.TokenError)


def _map(path: pathlib.Path, *, optional: bool) -> np.ndarray | None:
    if not path.is_file():
        if optional:
            return None
        raise FileNotFoundError(
            f"The graph folder has no {path.name}: {path.parent} must have indptr.npy and "
            "indices.npy (and data.npy for weights)."
        )
    try:
        # Copy on write: nothing is ever written, but compiled kernels have one type the fewer.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except _UNREADABLE as exc:
        empty = _read_empty(path)
        if empty is not None:
            return empty
        raise ValueError(f"{path} is cut off or no .npy file: {exc}") from exc
    return array.view(np.ndarray)


def _read_empty(path: pathlib.Path) -> np.ndarray | None:
    """Return an array without elements, which has no map; the header alone says whether it is."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(file)
    except (*_UNREADABLE, KeyError):
        return None
    return np.empty(shape, dtype) if 0 in shape and not dtype.hasobject else None


def _pieces(array, overlap=0):
    for first in range(0, len(array), _PIECE):
        yield first, array[first : first + _PIECE + overlap]


def _check_graph(graph: MappedGraph) -> None:
    """Raise ValueError unless the arrays make a graph: kernels do not look at bounds."""
    folder, indptr, indices, data = graph.folder, graph.indptr, graph.indices, graph.data
    for name, array in (("indptr", indptr), ("indices", indices)):
        wanted = (np.int64,) if name == "indptr" else (np.int32, np.int64)
        if array.ndim != 1 or array.dtype not in wanted:
            raise ValueError(
                f"{folder / name}.npy must be one-dimensional, of {' or '.join(map(_type, wanted))}"
                f"; found {array.ndim} dimensions of {array.dtype}."
            )
    if len(indptr) < 2 or indptr[0] != 0:
        raise ValueError(
            f"{folder}/indptr.npy must begin with 0 and have one number more than there are nodes; "
            f"found {len(indptr)} numbers{f', the first {indptr[0]}' if len(indptr) else ''}."
        )
    if indptr[-1] != len(indices):
        raise ValueError(
            f"{folder}: indptr.npy ends with {indptr[-1]}, but indices.npy has {len(indices)} "
            "numbers. One of the files is from another graph, or incomplete."
        )
    for first, piece in _pieces(indptr, overlap=1):
        falls = np.diff(piece) < 0
        if falls.any():
            raise ValueError(
                f"{folder}/indptr.npy falls after place {first + int(np.argmax(falls))}; it must "
                "never."
            )
    for first, piece in _pieces(indices):
        if piece.min() < 0 or piece.max() >= graph.n_nodes:
            bad = (piece < 0) | (piece >= graph.n_nodes)
            place = int(np.argmax(bad))
            raise ValueError(
                f"{folder}/indices.npy has the node {piece[place]} at place {first + place}; there "
                f"are {graph.n_nodes} nodes, numbered from 0."
            )
    if data is None:
        return
    if data.ndim != 1 or data.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"{folder}/data.npy must be one-dimensional, of float32 or float64; found {data.ndim} "
            f"dimensions of {data.dtype}."
        )
    if len(data) != len(indices):
        raise ValueError(
            f"{folder}: data.npy has {len(data)} numbers, but indices.npy has {len(indices)}."
        )
    for first, piece in _pieces(data):
        bad = ~(np.isfinite(piece) & (piece >= 0))
        if bad.any():
            place = int(np.argmax(bad))
            raise ValueError(
                f"{folder}/data.npy has {piece[place]} at place {first + place}; weights must be "
                "finite and not negative."
            )


def _type(kind) -> str:
    return np.dtype(kind).name

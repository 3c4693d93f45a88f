"""Graph folders: what is written is read; what is damaged is refused and left alone."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from sklr.utils import load_graph, save_graph

WEIGHTED = np.array([[0, 1.5, 0], [1.5, 0, 2], [0, 2, 3.0]])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "matrix", [WEIGHTED, (WEIGHTED > 0).astype(int), np.zeros((4, 4)), np.triu(WEIGHTED)]
)
def test_round_trip(tmp_path, matrix, mmap):
    path = save_graph(tmp_path / "deep" / "graph", matrix)
    found = load_graph(path, mmap=mmap)
    assert isinstance(found, sparse.csr_array)
    assert found.indices.dtype == found.indptr.dtype == np.int32
    assert_array_equal(found.toarray(), matrix)
    assert (path / "data.npy").exists() == bool(((matrix != 0) & (matrix != 1)).any())
    assert np.load(path / "indptr.npy").dtype == np.int64
    assert np.load(path / "indices.npy").dtype == np.int32
    # Others may read what one wrote: no private permissions of a temporary folder.
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_graph_objects_can_be_saved(tmp_path):
    networkx = pytest.importorskip("networkx")
    graph = networkx.path_graph(4)
    wanted = networkx.to_numpy_array(graph)
    assert_array_equal(load_graph(save_graph(tmp_path / "graph", graph)).toarray(), wanted)


def test_nothing_is_overwritten_unasked(tmp_path):
    path = save_graph(tmp_path / "graph", WEIGHTED)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_graph(path, WEIGHTED.T)
    with pytest.raises(ValueError, match="negative"):
        save_graph(path, -WEIGHTED, overwrite=True)
    assert_array_equal(load_graph(path).toarray(), WEIGHTED)
    save_graph(path, WEIGHTED > 0, overwrite=True)
    assert_array_equal(load_graph(path).toarray(), WEIGHTED > 0)
    (tmp_path / "other").mkdir()
    save_graph(tmp_path / "other", WEIGHTED)  # an empty folder is no loss
    (path / "notes.txt").write_text("keep me")
    for target in (path, path / "notes.txt"):
        with pytest.raises(FileExistsError, match="no graph"):
            save_graph(target, WEIGHTED, overwrite=True)
    assert (path / "notes.txt").read_text() == "keep me"
    assert {item.name for item in tmp_path.iterdir()} == {"graph", "other"}


def test_a_link_is_not_replaced(tmp_path):
    path = save_graph(tmp_path / "graph", WEIGHTED)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FileExistsError, match="link is a link to .*graph; nothing was written"):
        save_graph(tmp_path / "link", WEIGHTED.T, overwrite=True)
    assert_array_equal(load_graph(tmp_path / "link").toarray(), WEIGHTED)


def damage(path, name, change):
    array = np.load(path / f"{name}.npy")
    np.save(path / f"{name}.npy", change(array))


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[:-8])


def claim(path, size):
    """Give a file a header of more numbers than it has, or any memory could take."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(8))


@pytest.mark.parametrize(
    "harm, error, message",
    [
        (lambda p: cut(p / "indices.npy"), ValueError, "indices.npy is cut off"),
        (lambda p: cut(p / "indptr.npy"), ValueError, "indptr.npy is cut off"),
        (lambda p: cut(p / "data.npy"), ValueError, "data.npy is cut off"),
        (lambda p: claim(p / "data.npy", 2**50), ValueError, "data.npy is cut off"),
        (lambda p: (p / "data.npy").write_bytes(b""), ValueError, "data.npy is cut off"),
        (lambda p: (p / "indices.npy").write_text("hello"), ValueError, "no .npy file"),
        (lambda p: (p / "indices.npy").unlink(), FileNotFoundError, "no indices.npy"),
        (lambda p: damage(p, "indices", lambda x: x[:-1]), ValueError, "ends with 5, but.* 4"),
        (lambda p: damage(p, "indptr", lambda x: x[:-1]), ValueError, "ends with 3"),
        (lambda p: damage(p, "indptr", lambda x: x[[0, 2, 1, 3]]), ValueError, "falls after pl"),
        (lambda p: damage(p, "indptr", lambda x: x + 1), ValueError, "begin with 0"),
        (lambda p: damage(p, "indptr", lambda x: x[:0]), ValueError, "begin with 0"),
        (lambda p: damage(p, "indptr", lambda x: x.astype(float)), ValueError, "int64; found"),
        (lambda p: damage(p, "indices", lambda x: x + 1), ValueError, "node 3 at place 2"),
        (lambda p: damage(p, "indices", lambda x: x - 1), ValueError, "node -1 at place 1"),
        (lambda p: damage(p, "indices", lambda x: x[:, None]), ValueError, "one-dimensional"),
        (lambda p: damage(p, "data", lambda x: x[:-1]), ValueError, "data.npy has 4 numbers"),
        (lambda p: damage(p, "data", lambda x: -x), ValueError, "-1.5 at place 0"),
        (lambda p: damage(p, "data", lambda x: x * np.nan), ValueError, "finite"),
        (lambda p: damage(p, "data", lambda x: x.astype(int)), ValueError, "float64; found"),
    ],
)
def test_damaged_folders(tmp_path, harm, error, message):
    path = save_graph(tmp_path / "graph", WEIGHTED)
    harm(path)
    before = {item.name: item.read_bytes() for item in path.iterdir()}
    for mmap in (False, True):
        with pytest.raises(error, match=message):
            load_graph(path, mmap=mmap)
    assert {item.name: item.read_bytes() for item in path.iterdir()} == before


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no graph folder"):
        load_graph(tmp_path / "nothing")


def test_mapped_arrays_are_not_written_through(tmp_path):
    path = save_graph(tmp_path / "graph", WEIGHTED)
    load_graph(path, mmap=True).data[:] = 0
    assert_array_equal(load_graph(path).toarray(), WEIGHTED)

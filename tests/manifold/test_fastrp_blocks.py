"""Blocks of columns give the bits of the whole, on every engine; what fails leaves no trace."""

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from scipy import sparse

from sklr.manifold import FastRP, fast_random_projection, fastrp_blocks
from sklr.manifold import _fastrp_blocks as blocks_module
from sklr.manifold import _fastrp_core as core
from sklr.utils import save_graph


def make_graph(n=1200, n_edges=9000, seed=0, weighted=True):
    """Nodes 0 .. 9 are hubs, the last one has no edges."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(n - 1, size=(2, n_edges))
    ends[0, : n_edges // 5] %= 10
    weights = rng.uniform(0.2, 3, n_edges) if weighted else np.ones(n_edges)
    A = sparse.coo_array((weights, ends), shape=(n, n)).tocsr()
    A = (A + A.T).tocsr()
    if not weighted:
        A.data[:] = 1
    return A


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_graph(tmp_path_factory.mktemp("graph") / "graph", make_graph())


def same_bits(found, wanted):
    """Equal, and zeros of the same sign."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    assert np.asarray(found).tobytes() == wanted.tobytes()


SETTINGS = [
    {},
    {"weights": (1.0, 0.0, 2.0), "self_weight": 0.5},
    {"weights": (2.0,), "normalize_powers": False, "standardize": False},
    {"projection": "gaussian", "self_weight": 1.0, "isolated": "zero"},
    {"dtype": "float64", "input_matrix": "adjacency"},
    {"standardize": False, "isolated": "zero", "degree_exponent": -0.6},
    {"center_powers": True},
    {"center_powers": True, "projection": "gaussian", "degree_exponent": -0.6},
]


@pytest.mark.parametrize("column_block", [1, 7, 16, 64])
@pytest.mark.parametrize("settings", SETTINGS)
def test_blocks_equal_the_whole(folder, tmp_path, column_block, settings):
    wanted = fast_random_projection(make_graph(), 50, random_state=3, **settings)
    found = fastrp_blocks(
        folder, tmp_path / "out.npy", 50, column_block=column_block, random_state=3, **settings
    )
    same_bits(found, wanted)
    assert isinstance(found, np.memmap)
    same_bits(np.load(tmp_path / "out.npy"), wanted)
    assert [item.name for item in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.parametrize("weights", [(0.0, 0.0, 1.0, 6.0), (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_first_power_in_blocks(tmp_path, weights, weighted):
    A = make_graph(5000, 6000, weighted=weighted)
    assert core.keeps_first_power_sparse(5000**0.5 * 40, 5000, 40, A.nnz)
    path = save_graph(tmp_path / "graph", A)
    assert (path / "data.npy").exists() == weighted
    wanted = fast_random_projection(A, 40, weights=weights, random_state=0)
    for block in (3, 40):
        found = fastrp_blocks(
            path, tmp_path / "out.npy", 40, weights=weights, random_state=0, column_block=block,
            overwrite=True,
        )  # fmt: skip
        same_bits(found, wanted)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_given_projection_in_blocks(folder, tmp_path, kind):
    R = np.random.default_rng(0).standard_normal((1200, 10))
    R[R < 1] = 0
    wanted = fast_random_projection(make_graph(), 10, projection=kind(R), self_weight=1.0)
    found = fastrp_blocks(
        folder, tmp_path / "out.npy", 10, projection=kind(R), self_weight=1.0, column_block=4
    )
    same_bits(found, wanted)


def test_method_of_the_estimator(folder, tmp_path):
    rp = FastRP(12, affinity="precomputed", weights=(1.0, 3.0), random_state=5, isolated="zero")
    found = rp.fit_transform_blocks(folder, tmp_path / "out.npy", column_block=5)
    same_bits(found, rp.fit_transform(make_graph()))


def test_many_windows(folder, tmp_path, monkeypatch):
    """Rows are merged in windows; moments are those of the whole."""
    wanted = fast_random_projection(make_graph(), 16, random_state=0)
    monkeypatch.setattr(blocks_module, "_WINDOW_BYTES", 1)
    same_bits(fastrp_blocks(folder, tmp_path / "out.npy", 16, random_state=0), wanted)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_two_workers(folder, tmp_path, backend):
    wanted = fast_random_projection(make_graph(), 40, random_state=1)
    with parallel_config(backend=backend, n_jobs=2):
        for block in (1, 16, 64) if backend == "threading" else (16,):
            found = fastrp_blocks(
                folder, tmp_path / "out.npy", 40, column_block=block, random_state=1,
                overwrite=True,
            )  # fmt: skip
            same_bits(found, wanted)


def test_dask_cluster_of_two_processes(folder, tmp_path):
    """The scale-out path: two worker processes, the same bits for every block size."""
    distributed = pytest.importorskip(
        "distributed", reason="Dask is not installed: pip install 'sklr[dask]'"
    )
    wanted = fast_random_projection(make_graph(), 40, random_state=1)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            memory_limit="1GB",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
        parallel_config(backend="dask", wait_for_workers_timeout=300),
    ):
        for block in (1, 16, 64):
            found = fastrp_blocks(
                folder, tmp_path / "out.npy", 40, column_block=block, random_state=1,
                overwrite=True,
            )  # fmt: skip
            same_bits(found, wanted)
        ran = client.run(lambda: "sklr.manifold._fastrp_kernels" in __import__("sys").modules)
        assert all(ran.values()) and len(ran) == 2


def files_of(path):
    return {item: item.read_bytes() for item in path.rglob("*") if item.is_file()}


@pytest.mark.parametrize(
    "name, message",
    [("indices", "cut off"), ("indptr", "cut off"), ("data", "cut off"), (None, "no indices.npy")],
)
def test_damaged_graph_leaves_everything(tmp_path, name, message):
    path = save_graph(tmp_path / "graph", make_graph())
    if name is None:
        (path / "indices.npy").unlink()
    else:
        content = (path / f"{name}.npy").read_bytes()
        (path / f"{name}.npy").write_bytes(content[: len(content) // 2])
    np.save(tmp_path / "out.npy", np.arange(3))
    before = files_of(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fastrp_blocks(path, tmp_path / "out.npy", 4, overwrite=True)
    assert files_of(tmp_path) == before


def test_existing_file_is_kept(folder, tmp_path):
    np.save(tmp_path / "out.npy", np.arange(3))
    before = files_of(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fastrp_blocks(folder, tmp_path / "out.npy", 4)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("task", ["_make_columns", "_merge_window", "_finish_window"])
def test_a_run_that_stops_leaves_everything(folder, tmp_path, monkeypatch, stopped, task):
    np.save(tmp_path / "out.npy", np.arange(3))
    before = files_of(tmp_path)
    calls = []

    def stop(*args):
        calls.append(args)
        raise stopped

    monkeypatch.setattr(blocks_module, task, stop)
    with pytest.raises(stopped if isinstance(stopped, type) else OSError):
        fastrp_blocks(folder, tmp_path / "out.npy", 4, overwrite=True)
    assert calls
    assert files_of(tmp_path) == before
    assert [item.name for item in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"out": "out.txt"}, ValueError, "npy"),
        ({"out": "nowhere/out.npy"}, FileNotFoundError, "no folder"),
        ({"column_block": 0}, ValueError, "column_block"),
        ({"column_block": 2.5}, TypeError, "column_block"),
        ({"n_components": 0}, ValueError, "n_components"),
        ({"weights": ()}, ValueError, "at least one"),
        ({"density": 2.0}, ValueError, "density"),
        ({"projection": np.ones((3, 4))}, ValueError, r"projection has shape \(3, 4\)"),
        ({"degree_exponent": -400.0}, ValueError, "out of the range"),
        ({"graph": "nothing"}, FileNotFoundError, "no graph folder"),
    ],
)
def test_bad_parameters(folder, tmp_path, settings, error, message):
    settings = {"graph": folder, "out": "out.npy", "n_components": 4} | settings
    out = tmp_path / settings.pop("out")
    with pytest.raises(error, match=message):
        fastrp_blocks(settings.pop("graph"), out, **settings)
    assert list(tmp_path.iterdir()) == []


def test_overflow_is_an_error(tmp_path):
    path = save_graph(tmp_path / "graph", np.array([[0, 1e25], [2e25, 0]]))
    with pytest.raises(ValueError, match="overflows float32"):
        fastrp_blocks(
            path, tmp_path / "out.npy", 2, input_matrix="adjacency", normalize_powers=False,
            density=1.0,
        )  # fmt: skip
    assert not (tmp_path / "out.npy").exists()


def test_dangling_nodes_are_noticed(tmp_path):
    path = save_graph(tmp_path / "graph", np.array([[0, 1.0, 0], [0, 0, 1.0], [0, 0, 0]]))
    with pytest.warns(UserWarning, match="1 nodes have edges that lead to them and none"):
        fastrp_blocks(path, tmp_path / "out.npy", 2, random_state=0)


def test_same_seed_object(folder, tmp_path):
    """A RandomState is drawn from once, in blocks as in the whole."""
    wanted = fast_random_projection(make_graph(), 6, random_state=np.random.RandomState(4))
    found = fastrp_blocks(
        folder, tmp_path / "out.npy", 6, column_block=2, random_state=np.random.RandomState(4)
    )
    assert_array_equal(found, wanted)

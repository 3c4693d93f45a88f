"""Graphs of every kind give one adjacency, and bad ones a message that helps."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

import sklr.utils._graph as graph_module
from sklr.utils import to_adjacency
from sklr.utils._graph import check_adjacency, index_dtype

pd = pytest.importorskip("pandas", reason="needs the extra test")
pl = pytest.importorskip("polars", reason="needs the extra test")

# a-b (twice), b-c with weight 2, a self-loop on c, d alone.
NODES = ["a", "b", "c", "d"]
EDGES = [("a", "b", 1.0), ("a", "b", 0.5), ("b", "c", 2.0), ("c", "c", 3.0)]
UNDIRECTED = np.array([[0, 1.5, 0, 0], [1.5, 0, 2, 0], [0, 2, 3, 0], [0, 0, 0, 0.0]])
DIRECTED = np.triu(UNDIRECTED)


def frame_of(library):
    columns = {
        "source": [edge[0] for edge in EDGES],
        "target": [edge[1] for edge in EDGES],
        "weight": [edge[2] for edge in EDGES],
    }
    return library.DataFrame(columns)


def networkx_graph(directed):
    networkx = pytest.importorskip("networkx")
    graph = networkx.MultiDiGraph() if directed else networkx.MultiGraph()
    graph.add_nodes_from(NODES)
    graph.add_weighted_edges_from(EDGES)
    return graph


def igraph_graph(directed):
    igraph = pytest.importorskip("igraph")
    graph = igraph.Graph(directed=directed)
    graph.add_vertices(NODES)
    graph.add_edges([edge[:2] for edge in EDGES])
    graph.es["weight"] = [edge[2] for edge in EDGES]
    return graph


def graphs(directed):
    yield "pandas", frame_of(pd)
    yield "polars", frame_of(pl)
    yield "tuple", tuple(np.array(column) for column in zip(*EDGES))
    yield "networkx", networkx_graph(directed)
    yield "igraph", igraph_graph(directed)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("kind", ["pandas", "polars", "tuple", "networkx", "igraph"])
def test_every_container_gives_the_same_adjacency(kind, directed):
    graph = dict(graphs(directed))[kind]
    adjacency, nodes = to_adjacency(graph, nodes=NODES, directed=directed, return_nodes=True)
    assert isinstance(adjacency, sparse.csr_array)
    assert adjacency.dtype == np.float64 and adjacency.has_canonical_format
    assert_array_equal(adjacency.toarray(), DIRECTED if directed else UNDIRECTED)
    assert nodes.tolist() == NODES


@pytest.mark.parametrize("kind", ["networkx", "igraph"])
@pytest.mark.parametrize("directed", [False, True])
def test_graph_objects_know_their_nodes_and_direction(kind, directed):
    graph = dict(graphs(directed))[kind]
    adjacency, nodes = to_adjacency(graph, return_nodes=True)
    assert nodes.tolist() == NODES
    assert_array_equal(adjacency.toarray(), DIRECTED if directed else UNDIRECTED)


@pytest.mark.parametrize("kind", ["pandas", "polars", "tuple", "networkx", "igraph"])
def test_rows_follow_nodes(kind):
    order = [3, 1, 0, 2]
    graph = dict(graphs(False))[kind]
    adjacency = to_adjacency(graph, nodes=[NODES[i] for i in order])
    assert_array_equal(adjacency.toarray(), UNDIRECTED[np.ix_(order, order)])


@pytest.mark.parametrize("kind", ["pandas", "polars", "tuple", "networkx", "igraph"])
def test_unknown_ids_are_named(kind):
    graph = dict(graphs(False))[kind]
    with pytest.raises(ValueError, match="not in nodes.*'c'|'c', which is not in nodes"):
        to_adjacency(graph, nodes=["a", "b", "d"])
    with pytest.raises(ValueError, match="'a' more than once"):
        to_adjacency(graph, nodes=["a", "b", "c", "d", "a"])


def test_ids_of_an_edge_list_are_sorted_by_default():
    adjacency, nodes = to_adjacency(([30, 7], [7, 100]), return_nodes=True)
    assert nodes.tolist() == [7, 30, 100]
    assert_array_equal(adjacency.toarray(), [[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    # Ids without an order keep that of their appearance.
    _, nodes = to_adjacency(([("x", 1), "y"], ["y", 5]), return_nodes=True)
    assert nodes.tolist() == [("x", 1), "y", 5]


def test_nodes_may_be_a_number():
    adjacency = to_adjacency(([0], [1]), nodes=3)
    assert adjacency.shape == (3, 3) and adjacency.nnz == 2
    with pytest.raises(ValueError, match=r"1 of 1 edges have a target.*: 3\."):
        to_adjacency(([0], [3]), nodes=3)


def test_weights_can_be_left_out():
    frame = frame_of(pd)
    assert to_adjacency(frame, weight=None, source="source", target="target").max() == 3.0 - 1.0
    assert to_adjacency(networkx_graph(False), weight=None).toarray()[0, 1] == 2
    assert to_adjacency(igraph_graph(False), weight=None).toarray()[1, 2] == 1


@pytest.mark.parametrize("library", [pd, pl])
def test_bad_edge_lists(library):
    frame = frame_of(library)
    with pytest.raises(ValueError, match="source='nope' is not a column"):
        to_adjacency(frame, source="nope")
    with pytest.raises(ValueError, match="weight='nope' is not a column"):
        to_adjacency(frame, weight="nope")
    with pytest.raises(ValueError, match="name them with source="):
        to_adjacency(frame, weight=None)
    missing = library.DataFrame({"u": ["a", None], "v": ["b", "c"]})
    with pytest.raises(ValueError, match=r"1 edges have no source \(first in row 1\)"):
        to_adjacency(missing)
    missing = library.DataFrame({"u": [1, 2], "v": [2, None]})
    with pytest.raises(ValueError, match="1 edges have no target"):
        to_adjacency(missing)
    with pytest.raises(ValueError, match="weights must be numbers"):
        to_adjacency(library.DataFrame({"u": [1], "v": [2], "weight": ["heavy"]}))
    with pytest.raises(ValueError, match=r"from 1 to 2, weighs -1\.0 \(negative\)"):
        to_adjacency(library.DataFrame({"u": [1], "v": [2], "weight": [-1.0]}))
    with pytest.raises(ValueError, match="Weights must be finite"):
        to_adjacency(library.DataFrame({"u": [1], "v": [2], "weight": [None]}))


def test_bad_tuples():
    with pytest.raises(ValueError, match="2 or 3 arrays"):
        to_adjacency(([0],))
    with pytest.raises(ValueError, match=r"equally long, got \[2, 1\]"):
        to_adjacency(([0, 1], [1]))


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        np.ndarray.tolist,
        sparse.csr_array,
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_matrix,
        sparse.lil_array,
        lambda A: sparse.csr_array(A.astype(np.float32)),
    ],
)
def test_matrices_of_every_kind(make):
    assert_array_equal(to_adjacency(make(UNDIRECTED), directed=False).toarray(), UNDIRECTED)


def test_canonical_form_and_untouched_input():
    data, rows, columns = [1.0, 2.0, 0.0, 4.0], [0, 0, 1, 1], [1, 1, 2, 0]
    coo = sparse.coo_array((data, (rows, columns)), shape=(3, 3))
    assert_array_equal(check_adjacency(coo).toarray(), [[0, 3, 0], [4, 0, 0], [0, 0, 0]])
    assert check_adjacency(coo).nnz == 2
    unsorted = sparse.csr_array(
        (np.array([1.0, 2.0, 0.0]), np.array([2, 1, 0]), np.array([0, 2, 3, 3])), shape=(3, 3)
    )
    before = [part.copy() for part in (unsorted.data, unsorted.indices, unsorted.indptr)]
    flags = dict(vars(unsorted))
    out = check_adjacency(unsorted)
    assert out.indices.tolist() == [1, 2] and out.data.tolist() == [2.0, 1.0]
    for part, wanted in zip((unsorted.data, unsorted.indices, unsorted.indptr), before):
        assert_array_equal(part, wanted)
    assert vars(unsorted).keys() == flags.keys()
    # Nothing to change: nothing is copied.
    good = sparse.csr_array(UNDIRECTED)
    assert np.shares_memory(check_adjacency(good).data, good.data)
    assert check_adjacency(good.astype(np.int8), dtype=None).dtype == np.int8
    read_only = sparse.csr_array(UNDIRECTED)
    for part in (read_only.data, read_only.indices, read_only.indptr):
        part.setflags(write=False)
    assert_array_equal(check_adjacency(read_only).toarray(), UNDIRECTED)


@pytest.mark.parametrize(
    "matrix, message",
    [
        (np.zeros((2, 3)), r"square.*\(2, 3\)"),
        (np.zeros(3), "1 dimensions"),
        (np.array([[0, np.nan], [0, 0]]), r"nan as the weight of edge \(0, 1\)"),
        (np.array([[0, 0], [np.inf, 0]]), r"inf as the weight of edge \(1, 0\)"),
        (np.array([[0, 1], [-2, 0]]), r"negative weight -2 on edge \(1, 0\)"),
        (np.array([[0, 1j], [0, 0]]), "Complex data not supported"),
        (np.array([["a", "b"], ["c", "d"]]), "numeric weights"),
    ],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(ValueError, match=message):
        to_adjacency(matrix)
    if matrix.ndim == 2 and matrix.dtype.kind != "U":
        with pytest.raises(ValueError, match=message):
            to_adjacency(sparse.csc_array(matrix))


def test_asymmetric_matrix_is_refused_where_symmetry_is_needed():
    with pytest.raises(ValueError, match=r"edge \(1, 2\) has weight 5 and edge \(2, 1\) has 2"):
        to_adjacency(UNDIRECTED + np.outer([0, 1, 0, 0], [0, 0, 3, 0]), directed=False)
    with pytest.raises(ValueError, match="not symmetric"):
        check_adjacency(DIRECTED, symmetric=True)
    nearly = UNDIRECTED.copy()
    nearly[0, 1] *= 1 + 1e-15
    check_adjacency(nearly, symmetric=True)


def test_sizes_beyond_int32(monkeypatch):
    assert index_dtype(2**31 - 1) is np.int32
    assert index_dtype(5, 2**31) is np.int64
    good = check_adjacency(sparse.csr_array(UNDIRECTED))
    assert good.indices.dtype == good.indptr.dtype == np.int32
    wide = sparse.csr_array(UNDIRECTED)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert check_adjacency(wide).indices.dtype == np.int32
    monkeypatch.setattr(graph_module, "_INT32_MAX", 3)
    for graph in (UNDIRECTED, wide, tuple(np.array(column) for column in zip(*EDGES))):
        found = to_adjacency(graph)
        assert found.indices.dtype == found.indptr.dtype == np.int64
        assert_array_equal(found.toarray()[:3, :3], UNDIRECTED[:3, :3])


def test_empty_graphs():
    assert to_adjacency(np.zeros((3, 3))).nnz == 0
    assert to_adjacency(([], []), nodes=4).shape == (4, 4)
    assert to_adjacency(sparse.csr_array((2, 2))).nnz == 0


# Identifiers never pass through floating point numbers, and lists of tuples are edges.

BIG = 2**63


@pytest.mark.parametrize(
    "source, target, wanted",
    [
        (np.array([BIG + 1, BIG + 2], np.uint64), np.array([3, 4]), [3, 4, BIG + 1, BIG + 2]),
        (np.array([BIG + 1, BIG + 2], np.uint64), np.array([-3, 4]), [-3, 4, BIG + 1, BIG + 2]),
        (np.array([2**53, 2**53 + 1]), np.array([1.0, 2.0]), [1, 2, 2**53, 2**53 + 1]),
        (np.array([1, 2]), np.array([1.5, 1.0]), [1, 1.5, 2]),
        (np.array([5, 6], np.uint8), np.array([6, -1]), [-1, 5, 6]),
        ([2**53 + 1, 3], [1, BIG + 5], [1, 3, 2**53 + 1, BIG + 5]),
    ],
)
def test_ids_of_different_number_types_are_not_merged(source, target, wanted):
    adjacency, nodes = to_adjacency((source, target), return_nodes=True)
    assert nodes.tolist() == wanted
    again = to_adjacency((source, target), nodes=nodes)
    assert_array_equal(again.toarray(), adjacency.toarray())
    assert adjacency.nnz == 4


def test_ids_of_unsigned_columns_of_frames_are_kept():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": pl.Series([BIG + 1, BIG + 2], dtype=pl.UInt64), "b": [3, 4]})
    assert to_adjacency(frame, return_nodes=True)[1].tolist() == [3, 4, BIG + 1, BIG + 2]


def test_a_list_of_tuples_is_an_edge_list():
    adjacency, nodes = to_adjacency([(0, 1), (1, 2)], return_nodes=True)
    assert_array_equal(adjacency.toarray(), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    weighted = to_adjacency([(0, 1, 1.0), (1, 2, 0.5), (2, 0, 2.0)], directed=True)
    assert_array_equal(weighted.toarray(), [[0, 1, 0], [0, 0, 0.5], [2, 0, 0]])
    assert to_adjacency([("a", "b"), ("b", "c", 3)], return_nodes=True)[1].tolist() == list("abc")
    # A list of lists stays a matrix.
    assert_array_equal(to_adjacency([[0, 2], [2, 0]]).toarray(), [[0, 2], [2, 0]])


def test_an_array_of_edges_says_the_way_out():
    with pytest.raises(ValueError, match=r"to_adjacency\(\(edges\[:, 0\], edges\[:, 1\]\)\)"):
        to_adjacency(np.array([[0, 1], [1, 2], [2, 3]]))


def test_tables_of_pyarrow():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"from": [0, 1], "to": [1, 2], "weight": [1.0, 2.0]})
    assert_array_equal(to_adjacency(table).toarray(), [[0, 1, 0], [1, 0, 2], [0, 2, 0]])


def test_vertices_of_equal_names():
    igraph = pytest.importorskip("igraph")
    graph = igraph.Graph([(0, 1), (1, 2)])
    graph.vs["name"] = ["a", "a", "b"]
    with pytest.raises(ValueError, match="'a' more than once"):
        to_adjacency(graph, return_nodes=True)
    assert to_adjacency(graph).shape == (3, 3)  # names are not needed


def test_bad_weights_of_an_edge_list_are_told_by_name():
    with pytest.raises(ValueError, match="'b' to 'd', weighs -2.0"):
        to_adjacency((["a", "b"], ["c", "d"], [1, -2]))


def test_annotated_objects_are_refused_with_their_parts():
    class Annotated:
        X, obs, obsm, obsp = np.eye(2), {}, {"X_pca": 1}, {"connectivities": 1}

    with pytest.raises(ValueError, match=r"\['connectivities'\].*\['X_pca'\]"):
        to_adjacency(Annotated())


@pytest.mark.parametrize("dtype, small", [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_rounding_is_judged_by_the_precision_of_the_input(dtype, small):
    A = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=dtype)
    A[0, 1] += dtype(small)  # not symmetric, by rounding
    A[1, 1] = -dtype(small)  # below zero, by rounding
    out = check_adjacency(A, symmetric=True)
    assert out.nnz == 4 and out.data.min() > 0
    for wrong in ((0, 1, 1.01), (1, 1, -0.01)):
        B = A.copy()
        B[wrong[:2]] = wrong[2]
        with pytest.raises(ValueError, match="symmetric|[Nn]egative"):
            check_adjacency(B, symmetric=True)


def test_half_precision_is_taken():
    assert_array_equal(to_adjacency(np.ones((2, 2), np.float16)).toarray(), 1)

"""Readers on input that is not what it says: an error that names it, or a valid result.

``SKLR_EXAMPLES=1000`` tries more than the suite does.
"""

import os
import pathlib
import shutil

import numpy as np
import pytest
import scipy.sparse as sp

hypothesis = pytest.importorskip("hypothesis", reason="needs the extra test")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from sklr.utils import load_graph, save_graph, to_adjacency  # noqa: E402

several = settings(
    max_examples=int(os.environ.get("SKLR_EXAMPLES", "60")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def check_adjacency(adjacency):
    assert sp.issparse(adjacency) and adjacency.shape[0] == adjacency.shape[1]
    n = adjacency.shape[0]
    assert adjacency.indptr[0] == 0 and adjacency.indptr[-1] == len(adjacency.indices)
    assert (np.diff(adjacency.indptr) >= 0).all()
    assert (
        len(adjacency.indices) == 0 or 0 <= adjacency.indices.min() <= adjacency.indices.max() < n
    )
    assert np.isfinite(adjacency.data).all() and (adjacency.data >= 0).all()


def damage(path, place, byte, kind):
    """Change one file as bad disks and half-done copies do."""
    content = bytearray(path.read_bytes())
    at = place % max(1, len(content))
    if kind == "byte":
        content[at] = byte
    elif kind == "truncated":
        content = content[:at]
    elif kind == "longer":
        content += bytes([byte]) * (1 + place % 64)
    elif kind == "zeros":
        content[at : at + 16] = bytes(len(content[at : at + 16]))
    else:
        path.unlink()
        return
    path.write_bytes(bytes(content))


def test_damaged_graph_folders(tmp_path):
    rng = np.random.default_rng(0)
    graph = sp.random_array((12, 12), density=0.3, rng=rng, format="csr")
    whole = tmp_path / "whole"
    save_graph(whole, (graph + graph.T).tocsr())
    files = sorted(path.name for path in whole.iterdir())

    @several
    @given(
        st.sampled_from(files),
        st.integers(0, 5000),
        st.integers(0, 255),
        st.sampled_from(["byte", "truncated", "longer", "zeros", "gone"]),
        st.booleans(),
    )
    def holds(name, place, byte, kind, mmap):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        damage(folder / name, place, byte, kind)
        try:
            adjacency = load_graph(folder, mmap=mmap)
        except (ValueError, OSError) as exc:
            assert len(str(exc)) > 10
            return
        check_adjacency(adjacency)

    holds()


VALUES = st.one_of(
    st.integers(-3, 12),
    st.floats(allow_nan=True, allow_infinity=True),
    st.none(),
    st.sampled_from(["a", "b", "", "1"]),
    st.booleans(),
    st.integers(2**62, 2**70),
)


@several
@given(
    st.lists(VALUES, max_size=8),
    st.lists(VALUES, max_size=8),
    st.one_of(st.none(), st.lists(VALUES, max_size=8)),
    st.booleans(),
    st.sampled_from([list, np.array, lambda values: np.array(values, dtype=object)]),
)
def test_edge_lists(source, target, weight, directed, container):
    try:
        parts = [container(part) for part in (source, target, weight) if part is not None]
    except (OverflowError, ValueError, TypeError):
        return  # NumPy has no such array
    try:
        found = to_adjacency(tuple(parts), directed=directed)
    except (ValueError, TypeError) as exc:
        assert len(str(exc)) > 10
        return
    check_adjacency(sp.csr_array(found[0] if isinstance(found, tuple) else found))


def test_damaged_weights(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from sklr._torch._weights import read_weights, write_weights

    whole = tmp_path / "whole.pt"
    write_weights(torch.nn.Linear(4, 3), whole)
    file = tmp_path / "damaged.pt"

    @several
    @given(
        st.integers(0, 5000),
        st.integers(0, 255),
        st.sampled_from(["byte", "truncated", "longer", "zeros"]),
    )
    def holds(place, byte, kind):
        shutil.copy(whole, file)
        damage(file, place, byte, kind)
        try:
            state = read_weights(file)
        except ValueError as exc:
            assert "refused" in str(exc)
            return
        assert all(isinstance(value, torch.Tensor) for value in state.values())

    holds()


def test_a_weights_file_with_code_in_it_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from sklr._torch._weights import read_weights

    class Evil:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "was here",)

    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt is refused"):
        read_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "was here").exists()

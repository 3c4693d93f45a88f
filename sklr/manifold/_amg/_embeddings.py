"""Coordinates of vertices from smooth vectors: singular, Ritz and eigenvectors."""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from sklr.manifold._amg._hierarchy import FineMatrix, block_preconditioner
from sklr.manifold._amg._lobpcg import smallest_eigenpairs


@dataclass
class Coordinates:
    """Coordinates of all vertices of an augmented graph, and the numbers that go with them."""

    rows: np.ndarray
    singular_values: np.ndarray | None = None
    eigenvalues: np.ndarray | None = None
    n_iter: int = 0


def singular_coordinates(vectors, n_components):
    """Left singular vectors of the smooth vectors, not scaled: the paper's coordinates."""
    U, singular_values, _ = linalg.svd(vectors, full_matrices=False)
    U, singular_values = U[:, :n_components], singular_values[:n_components]
    return Coordinates(with_sign(U), singular_values=singular_values)


def ritz_coordinates(adjacency, vectors, components, n_components):
    """Ritz vectors of the Laplacian in the span of the smooth vectors, smallest values first."""
    basis, _ = linalg.qr(with_indicators(vectors, components, n_components), mode="economic")
    laplacian = plain_laplacian(adjacency)
    values, turn = linalg.eigh(basis.T @ (laplacian @ basis))
    return Coordinates(with_sign(basis @ turn[:, :n_components]), eigenvalues=values[:n_components])


def eigen_coordinates(
    adjacency, fine, hierarchies, vectors, components, n_components, shift, tol, rng
):
    """Lowest eigenvectors of ``(L + shift I) v = mu (D + shift I) v``, one column each.

    The hierarchies are the preconditioner: because the columns of a prolongator are orthonormal,
    adding the shift to every level's diagonal makes them hierarchies of the shifted matrix.
    """
    degree = adjacency.sum(axis=1)
    b = np.where(degree > 0, degree, 1.0) if shift == 0 else degree + shift
    matrix = plain_laplacian(adjacency, shift)
    if shift > 0:
        fine = FineMatrix(with_diagonal_shift(fine, shift))
        hierarchies = [hierarchy.shifted(shift) for hierarchy in hierarchies]
    values, rows, n_iter = smallest_eigenpairs(
        matrix,
        b,
        n_components,
        precondition=block_preconditioner(fine, hierarchies),
        start=with_indicators(vectors, components, n_components),
        rng=rng,
        tol=tol,
    )
    return Coordinates(with_sign(rows), eigenvalues=values, n_iter=n_iter)


def plain_laplacian(adjacency, shift=0.0):
    """Return ``D - A + shift I``."""
    return sparse.csr_array(sparse.diags_array(adjacency.sum(axis=1) + shift) - adjacency)


def with_diagonal_shift(fine, shift):
    """Return the fine matrix with a number added to its diagonal."""
    out = fine.matrix.copy()
    out.data[fine.arrays[3]] += shift
    return out


def with_indicators(vectors, components, n_components):
    """Put the components' indicators first: null vectors of the Laplacian, known without work."""
    n_found = int(components.max()) + 1
    if not 1 < n_found <= n_components:
        return vectors
    indicators = np.zeros((len(components), n_found))
    indicators[np.arange(len(components)), components] = 1.0
    return np.column_stack([indicators, vectors[:, 1:]])  # the constant vector is their sum


def with_sign(columns):
    """Make the entry of largest size of each column positive, so that a result has one sign."""
    largest = np.abs(columns).argmax(axis=0)
    sign = np.sign(columns[largest, np.arange(columns.shape[1])])
    return columns * np.where(sign == 0, 1.0, sign)

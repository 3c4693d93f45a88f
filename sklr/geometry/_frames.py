"""Tangent frames of a point cloud, and the connection Laplacian that compares vectors in them.

A frame is an orthonormal basis of the tangent space at a point, estimated from its neighbours.
Frames of two neighbours span nearly the same space in different bases, so the coordinates of a
vector are carried from one to the other by the orthogonal matrix nearest to their product. The
connection Laplacian is the graph Laplacian with these matrices in the place of ones.
"""

from numbers import Integral

import numpy as np
from scipy import sparse

from sklr.geometry._diffusion import graph_laplacian, heat_kernel
from sklr.geometry._neighbors_graph import (
    nearest_neighbors,
    neighbors_graph,
)
from sklr.utils._graph import clipped_neighbors
from sklr.utils._validation import check_array, check_positive_int

# Neighbourhoods are decomposed in batches of about this many numbers.
_BATCH = 4_000_000


def check_n_neighbors(n_neighbors, n_points):
    """Return the number of neighbours as int, at most all other points."""
    return clipped_neighbors(check_positive_int(n_neighbors, "n_neighbors"), n_points)


def principal_axes(points):
    """Principal axes and squared singular values of small point sets.

    Parameters
    ----------
    points : ndarray of shape (n, q, D)
        Point sets of q points each.

    Returns
    -------
    axes : ndarray of shape (n, D, min(q, D))
        Orthonormal columns, the largest first.
    spread : ndarray of shape (n, min(q, D))
        Squared singular values of the centred sets, none below zero.
    """
    n, q, dim = points.shape
    axes = np.empty((n, dim, min(q, dim)))
    spread = np.empty((n, min(q, dim)))
    step = max(1, _BATCH // (q * dim))
    for start in range(0, n, step):
        part = slice(start, start + step)
        centred = points[part] - points[part].mean(axis=1, keepdims=True)
        if dim <= q:
            # A symmetric problem of the smaller side: several times faster than the SVD, and
            # what squaring loses is far below what neighbours say about a tangent space.
            values, vectors = np.linalg.eigh(np.matmul(centred.transpose(0, 2, 1), centred))
            axes[part], spread[part] = vectors[:, :, ::-1], values[:, ::-1]
        else:
            _, values, vectors = np.linalg.svd(centred, full_matrices=False)
            axes[part], spread[part] = vectors.transpose(0, 2, 1), values**2
    return axes, np.maximum(spread, 0.0)


def dimension_of(spread, explained_variance):
    """Smallest m whose share of the spread, mean minus standard deviation, is large enough."""
    total = spread.sum(axis=1)
    seen = total > 0  # a neighbourhood of equal points says nothing
    if not seen.any():
        return 1
    share = np.cumsum(spread[seen], axis=1) / total[seen, None]
    enough = share.mean(axis=0) - share.std(axis=0) >= explained_variance
    return int(np.argmax(enough)) + 1 if enough.any() else spread.shape[1]


def orthogonal_part(M):
    """Nearest orthogonal matrices, the polar factors of a stack of shape (..., m, m)."""
    m = M.shape[-1]
    if m == 1:
        return np.where(M < 0, -1.0, 1.0)
    if m == 2:
        # Closed form: a rotation where the determinant is positive, else a reflection.
        sign = np.where(M[..., 0, 0] * M[..., 1, 1] < M[..., 0, 1] * M[..., 1, 0], -1.0, 1.0)
        c = M[..., 0, 0] + sign * M[..., 1, 1]
        s = M[..., 1, 0] - sign * M[..., 0, 1]
        norm = np.hypot(c, s)
        lost = norm == 0
        c, s = np.where(lost, 1.0, c), np.where(lost, 0.0, s)
        norm = np.where(lost, 1.0, norm)
        c, s = c / norm, s / norm
        return np.stack([np.stack([c, -sign * s], -1), np.stack([s, sign * c], -1)], -2)
    U, _, Vt = np.linalg.svd(M)
    return U @ Vt


def _check_points(X):
    return check_array(X, dtype=np.float64, ensure_min_samples=2, input_name="X")


def _check_frames(frames, n, n_features=None):
    frames = np.asarray(frames, dtype=np.float64)
    wanted = f"({n}, {n_features or 'n_features'}, n_dims)"
    if frames.ndim != 3 or len(frames) != n or n_features not in (None, frames.shape[1]):
        raise ValueError(f"frames must have shape {wanted}, got {frames.shape}.")
    if not np.isfinite(frames).all():
        raise ValueError("frames has values that are not finite.")
    return frames


def tangent_frames(X, n_dims="auto", *, n_neighbors=15, explained_variance=0.8, n_jobs=None):
    """Orthonormal tangent frames of a point cloud, from local principal components.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Points on or near a manifold.
    n_dims : int or "auto", default="auto"
        Dimension of the manifold. "auto" takes the smallest one whose share of the
        neighbourhoods' variance, its mean less its standard deviation over the points, is
        `explained_variance` or more: one number for the whole cloud.
    n_neighbors : int, default=15
        Neighbours of a point that span its tangent space, together with the point itself.
    explained_variance : float, default=0.8
        Share of variance for `n_dims="auto"`, above 0 and at most 1.
    n_jobs : int, default=None
        Threads of the neighbour search. The result does not depend on it.

    Returns
    -------
    frames : ndarray of shape (n_samples, n_features, n_dims)
        Orthonormal columns for each point. Their signs and order mean nothing: whatever is
        computed from frames should not change when each is rotated or reflected.

    See Also
    --------
    connection_laplacian : Compares vectors given in the frames of neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import tangent_frames
    >>> angle = np.linspace(0, 6, 50)
    >>> circle = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> frames = tangent_frames(circle, n_neighbors=4)
    >>> frames.shape
    (50, 2, 1)
    >>> bool(abs((frames[:, :, 0] * circle).sum(axis=1)[5:-5]).max() < 1e-9)
    True
    """
    X = _check_points(X)
    n_neighbors = check_n_neighbors(n_neighbors, len(X))
    neighbors = nearest_neighbors(X, n_neighbors, n_jobs=n_jobs)[1]
    return frames_of(X, neighbors, n_dims, explained_variance)


def frames_of(X, neighbors, n_dims, explained_variance, name="n_dims"):
    """Frames from known neighbours; `name` is what the caller calls the dimension."""
    if not 0 < explained_variance <= 1:
        raise ValueError(
            f"explained_variance must be above 0 and at most 1, got {explained_variance!r}."
        )
    largest = min(X.shape[1], neighbors.shape[1])
    if not isinstance(n_dims, str):
        n_dims = check_positive_int(n_dims, name)
        if n_dims > largest:
            raise ValueError(
                f"{name}={n_dims} is above what {X.shape[1]} features and "
                f"{neighbors.shape[1]} neighbours can span, {largest}."
            )
    elif n_dims != "auto":
        raise ValueError(f"{name} must be an integer >= 1 or 'auto', got {n_dims!r}.")
    members = np.concatenate([np.arange(len(X))[:, None], neighbors], axis=1)
    axes, spread = principal_axes(X[members])
    m = dimension_of(spread, explained_variance) if n_dims == "auto" else n_dims
    return np.ascontiguousarray(axes[:, :, : min(m, largest)])


def connection_laplacian(X, frames=None, *, n_neighbors=10, adjacency=None, n_jobs=None):
    r"""Connection Laplacian of a point cloud: graph Laplacian of tangent vectors.

    Block (i, i) is the degree of point i times the identity, block (i, j) is
    :math:`-A_{ij} R_{ij}`, where the orthogonal :math:`R_{ij}` carries the coordinates of a
    vector from the frame at j to the frame at i: it is the polar factor of
    :math:`T_i^\top T_j`. The matrix is symmetric and positive semidefinite.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Points on or near a manifold.
    frames : array-like of shape (n_samples, n_features, n_dims), default=None
        Orthonormal frames. None calls :func:`tangent_frames` with one and a half times
        `n_neighbors`.
    n_neighbors : int, default=10
        Neighbours in the graph; an edge of weight one joins two points when either is among
        the nearest of the other.
    adjacency : sparse array of shape (n_samples, n_samples), default=None
        Symmetric weights to use instead of that graph.
    n_jobs : int, default=None
        Threads of the neighbour search. The result does not depend on it.

    Returns
    -------
    laplacian : csr_array of shape (n_samples * n_dims, n_samples * n_dims)
        Coordinates of point i stand at ``i * n_dims`` to ``(i + 1) * n_dims``.

    See Also
    --------
    tangent_frames : The frames.
    vector_diffusion : Smooths a vector field by the heat flow of this matrix.

    Notes
    -----
    On a flat manifold its spectrum is that of the graph Laplacian, each eigenvalue `n_dims`
    times. On a sphere there is no eigenvalue zero: no tangent field is constant.

    References
    ----------
    .. [1] A. Singer, H.-T. Wu, "Vector diffusion maps and the connection Laplacian", Comm. Pure
       Appl. Math. 65, 2012. https://doi.org/10.1002/cpa.21395

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import connection_laplacian
    >>> plane = np.random.default_rng(0).uniform(size=(100, 2))
    >>> laplacian = connection_laplacian(plane, n_neighbors=8)
    >>> laplacian.shape
    (200, 200)
    >>> np.linalg.eigvalsh(laplacian.toarray())[:3].round(3) + 0.0
    array([0.   , 0.   , 0.317])
    """
    X = _check_points(X)
    n = len(X)
    if adjacency is None or frames is None:
        n_neighbors = check_n_neighbors(n_neighbors, n)
        more = min(int(np.ceil(1.5 * n_neighbors)), n - 1)
        neighbors = nearest_neighbors(X, more if frames is None else n_neighbors, n_jobs=n_jobs)
        if frames is None:
            frames = frames_of(X, neighbors[1], "auto", 0.8)
    frames = _check_frames(frames, n, X.shape[1])
    if adjacency is None:
        A = neighbors_graph(X, n_neighbors, kernel="binary", neighbors=neighbors)
    else:
        A = sparse.csr_array(adjacency).astype(np.float64)
        if A.shape != (n, n):
            raise ValueError(f"adjacency must have shape ({n}, {n}), got {A.shape}.")
        if not np.isfinite(A.data).all() or (A.data < 0).any():
            raise ValueError("adjacency must hold finite weights that are not negative.")
        if abs(A - A.T).max() > 1e-10 * max(A.max(), 1e-300):
            raise ValueError("adjacency must be symmetric.")
    return connection_of(frames, A)


def connection_of(frames, A):
    """Connection Laplacian of frames and a symmetric CSR adjacency."""
    n, _, m = frames.shape
    A = A - sparse.diags_array(A.diagonal())  # a point is no neighbour of its own
    A.eliminate_zeros()
    upper = sparse.triu(A, 1).tocoo()
    i, j = upper.coords
    R = orthogonal_part(np.matmul(frames[i].transpose(0, 2, 1), frames[j]))
    R *= -upper.data[:, None, None]
    degree = np.asarray(A.sum(axis=1)).ravel()
    diagonal = degree[:, None, None] * np.eye(m)
    rows = np.concatenate([np.arange(n), i, j])
    cols = np.concatenate([np.arange(n), j, i])
    blocks = np.concatenate([diagonal, R, R.transpose(0, 2, 1)])
    order = np.lexsort((cols, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    L = sparse.bsr_array((blocks[order], cols[order], indptr), shape=(n * m, n * m))
    return L.tocsr()


def scalar_laplacian_of(connection, n_points):
    """Graph Laplacian under a connection Laplacian: norms of its blocks are the weights."""
    m = connection.shape[0] // n_points
    blocks = sparse.bsr_array(connection, blocksize=(m, m))
    weights = np.sqrt((blocks.data**2).sum(axis=(1, 2)) / m)
    W = sparse.csr_array((weights, blocks.indices, blocks.indptr), shape=(n_points, n_points))
    return graph_laplacian(W)


def vector_diffusion(V, connection, t, *, frames=None):
    r"""Smooth a tangent vector field by the heat flow of a connection Laplacian.

    Directions are those of :math:`\exp(-t L_c) V`. The flow of vectors also shortens them, so
    lengths are taken from scalar flows: the diffused lengths of the known vectors, divided by
    the diffused indicator of where they are known (the vector heat method).

    Parameters
    ----------
    V : array-like of shape (n_samples, n_dims) or (n_samples, n_features)
        Vectors in the coordinates of the frames, or, with `frames`, in the ambient space.
        A row of NaN is unknown, and gets a vector from its neighbours.
    connection : sparse array of shape (n_samples * n_dims, n_samples * n_dims)
        Output of :func:`connection_laplacian`.
    t : float
        Diffusion time, above 0; one over the degree is one step to the neighbours.
    frames : array-like of shape (n_samples, n_features, n_dims), default=None
        Frames, when `V` holds ambient vectors; their tangent part is diffused.

    Returns
    -------
    smooth : ndarray of the shape of `V`
        The diffused field.

    See Also
    --------
    connection_laplacian : The matrix.

    References
    ----------
    .. [1] N. Sharp, Y. Soliman, K. Crane, "The vector heat method", ACM Trans. Graph. 38, 2019.
       https://doi.org/10.1145/3243651

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import connection_laplacian, tangent_frames, vector_diffusion
    >>> angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> frames = tangent_frames(X, n_neighbors=6)
    >>> connection = connection_laplacian(X, frames, n_neighbors=4)
    >>> V = np.full_like(X, np.nan)
    >>> V[0] = [0, 2]  # known at one point, carried around the circle
    >>> smooth = vector_diffusion(V, connection, 200.0, frames=frames)
    >>> np.hypot(*smooth.T).round(3).max(), (X * smooth).sum(axis=1).round(3).max() + 0.0
    (np.float64(2.0), np.float64(0.0))
    """
    V = check_array(V, dtype=np.float64, ensure_all_finite="allow-nan", input_name="V")
    n = len(V)
    if not np.isfinite(t) or t <= 0:
        raise ValueError(f"t must be a finite number above 0, got {t!r}.")
    connection = sparse.csr_array(connection)
    if connection.shape[0] != connection.shape[1] or connection.shape[0] % n:
        raise ValueError(
            f"connection has shape {connection.shape}; for {n} vectors both sides must be the "
            f"same multiple of {n}."
        )
    m = connection.shape[0] // n
    known = ~np.isnan(V).any(axis=1)
    if not known.any():
        raise ValueError("V has no row without NaN: nothing to diffuse.")
    if frames is not None:
        frames = _check_frames(frames, n, V.shape[1])
        coordinates = np.einsum("ndm,nd->nm", frames, np.where(known[:, None], V, 0.0))
    else:
        coordinates = np.where(known[:, None], V, 0.0)
    if coordinates.shape[1] != m:
        raise ValueError(
            f"V holds vectors of {coordinates.shape[1]} coordinates, but connection has {m} for "
            "each point; pass frames with ambient vectors."
        )
    lengths = np.linalg.norm(coordinates, axis=1)
    flowed = heat_kernel(connection, t, coordinates.reshape(-1, 1)).reshape(n, m)
    scalars = np.column_stack([lengths, known.astype(np.float64)])
    scalars = heat_kernel(scalar_laplacian_of(connection, n), t, scalars)
    # Rounding leaves zeros where no heat has come; those points stay without a vector.
    reached = scalars[:, 1] > 1e-14
    wanted = np.where(reached, scalars[:, 0], 0.0) / np.where(reached, scalars[:, 1], 1.0)
    norm = np.linalg.norm(flowed, axis=1)
    scale = np.where(norm > 0, np.maximum(wanted, 0.0), 0.0) / np.where(norm > 0, norm, 1.0)
    smooth = flowed * scale[:, None]
    return smooth if frames is None else np.einsum("ndm,nm->nd", frames, smooth)


def farthest_point_sampling(X, n_points, *, start=None):
    """Choose points that cover a cloud evenly, each the farthest from those before it.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The points.
    n_points : int
        How many to choose, at most n_samples.
    start : int, default=None
        Index of the first. None begins with the point farthest from the mean.

    Returns
    -------
    indices : ndarray of shape (n_points,)
        Rows of `X`, in the order in which they were chosen: the first k of them are the answer
        for ``n_points=k``.

    See Also
    --------
    tangent_frames : Frames are best estimated before points are dropped.

    Notes
    -----
    O(n_samples * n_features * n_points). No point of `X` is farther from the chosen ones than
    twice the smallest radius with which any `n_points` centres could cover it.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theor.
       Comput. Sci. 38, 1985. https://doi.org/10.1016/0304-3975(85)90224-5

    Examples
    --------
    >>> from sklr.geometry import farthest_point_sampling
    >>> farthest_point_sampling([[0.0], [1.0], [2.0], [10.0]], 3)
    array([3, 0, 2])
    """
    X = check_array(X, dtype=np.float64, input_name="X")
    n_points = check_positive_int(n_points, "n_points")
    if n_points > len(X):
        raise ValueError(f"n_points={n_points} is above the number of samples, {len(X)}.")
    centred = X - X.mean(axis=0)
    if start is None:
        start = int(np.argmax((centred**2).sum(axis=1)))
    elif not isinstance(start, Integral) or not -len(X) <= start < len(X):
        raise ValueError(f"start must be the index of one of {len(X)} rows, got {start!r}.")
    columns = np.ascontiguousarray(centred.T)
    chosen = np.empty(n_points, dtype=np.intp)
    chosen[0] = start % len(X)
    distance = np.full(len(X), np.inf)
    for k in range(1, n_points):
        row = np.zeros(len(X))
        for column, value in zip(columns, columns[:, chosen[k - 1]], strict=True):
            row += (column - value) ** 2
        np.minimum(distance, row, out=distance)
        distance[chosen[:k]] = -1.0  # not chosen twice, also where points are equal
        chosen[k] = np.argmax(distance)
    return chosen

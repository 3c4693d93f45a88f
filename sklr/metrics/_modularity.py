"""Modularity of a partition of a graph."""

from numbers import Real

import numpy as np
from sklearn.utils import column_or_1d

from sklr.utils._graph import check_adjacency, is_graph_object, to_adjacency


def modularity_score(adjacency, labels, *, resolution=1.0):
    r"""Modularity of a partition: edges inside clusters above what degrees alone would give.

    .. math:: Q = \sum_c \Big[ \frac{m_c}{m} - \gamma \Big(\frac{d_c}{2m}\Big)^2 \Big]

    with :math:`m` the weight of all edges, :math:`m_c` of those inside cluster c, and
    :math:`d_c` the sum of its degrees.

    Parameters
    ----------
    adjacency : sparse or dense matrix of shape (n_nodes, n_nodes), or a graph
        Symmetric, non-negative weights; or a graph of networkx or igraph. A self-loop is on the
        diagonal once, and counts twice in the degree.
    labels : array-like of shape (n_nodes,)
        Cluster of each vertex.
    resolution : float, default=1.0
        The factor gamma: above 1 favours smaller clusters.

    Returns
    -------
    modularity : float
        Between -1/2 and 1 at resolution 1. 0.0 for a graph without edges.

    Raises
    ------
    ValueError
        An adjacency that is not symmetric or has negative weights, or a wrong number of labels.

    See Also
    --------
    sklr.cluster.BootstrapAMGClustering : Selects among its restarts by it.

    References
    ----------
    .. [1] M. E. J. Newman, "Modularity and community structure in networks", PNAS 103(23), 2006.
       https://doi.org/10.1073/pnas.0601602103

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import modularity_score
    >>> two_pairs = np.kron(np.eye(2), [[0, 1], [1, 0]])
    >>> modularity_score(two_pairs, [0, 0, 1, 1])
    0.5
    """
    if isinstance(resolution, bool) or not isinstance(resolution, Real) or not resolution >= 0:
        raise ValueError(f"resolution must be a number >= 0, got {resolution!r}.")
    if is_graph_object(adjacency):
        adjacency = to_adjacency(adjacency)
    adjacency = check_adjacency(adjacency, symmetric=True)
    labels = column_or_1d(labels)
    if len(labels) != adjacency.shape[0]:
        raise ValueError(
            f"labels has {len(labels)} entries, the graph has {adjacency.shape[0]} vertices."
        )
    _, codes = np.unique(labels, return_inverse=True)
    return modularity_of_codes(adjacency, codes, resolution)


def modularity_of_codes(adjacency, codes, resolution=1.0):
    """Return the modularity of checked input: canonical symmetric CSR, codes from 0."""
    n = adjacency.shape[0]
    rows = np.repeat(np.arange(n), np.diff(adjacency.indptr))
    loops = adjacency.diagonal()
    degree = adjacency.sum(axis=1) + loops
    total = degree.sum()  # twice the weight of all edges
    if total <= 0:
        return 0.0
    inside = adjacency.data[codes[rows] == codes[adjacency.indices]].sum() + loops.sum()
    per_cluster = np.bincount(codes, weights=degree)
    return float(inside / total - resolution * np.square(per_cluster / total).sum())

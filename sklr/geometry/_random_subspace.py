"""Random linear maps from few dimensions into many, with columns of norm 1."""

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

PROJECTIONS = ("auto", "dense", "sparse", "fastfood")
# Up to so many numbers a dense map is as fast as any, and so many entries a sparse one.
DENSE_UP_TO = 1e6
SPARSE_UP_TO = 2e8


class RandomSubspace:
    r"""Random linear map from d dimensions into D, whose columns have norm 1.

    The columns are orthogonal in expectation, so that a step of length 1 among the few dimensions
    is one of about that length among the many. It is what networks are trained in when their
    intrinsic dimension is measured [1]_.

    Parameters
    ----------
    n_features : int
        Dimensions D that the map is into.
    n_components : int
        Dimensions d that the map is from, at most D.
    projection : {"auto", "dense", "sparse", "fastfood"}, default="auto"
        "dense" has normal entries; "sparse" has signs, each there with probability
        :math:`1 / \sqrt D`; "fastfood" is no matrix but two Walsh-Hadamard transforms with random
        signs, places and scales between them, in O(D log D) time and O(D) memory, whatever d [2]_.
        Its columns have norm 1 up to a few percent. "auto" is "dense" while D d is at most 1e6,
        then "sparse" while :math:`d \sqrt D` is at most 2e8.
    orthonormal : bool, default=False
        Make the columns of a dense map exactly orthonormal.
    dtype : {"float32", "float64"}, default="float64"
        Precision.
    random_state : int, RandomState instance or None, default=None
        Decides the map.

    Attributes
    ----------
    shape : tuple of int
        (D, d).
    projection : str
        The kind of map that it is.
    dtype : dtype
        Its precision.

    See Also
    --------
    sklr.neural_network.SubspaceClassifier : A network that is trained in it.
    sklearn.random_projection.SparseRandomProjection : The other way, from many dimensions to few.

    References
    ----------
    .. [1] C. Li, H. Farkhoor, R. Liu and J. Yosinski, "Measuring the intrinsic dimension of
       objective landscapes", ICLR 2018, arXiv:1804.08838.
    .. [2] Q. Le, T. Sarlos and A. Smola, "Fastfood: approximating kernel expansions in loglinear
       time", ICML 2013, arXiv:1408.3060.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import RandomSubspace
    >>> subspace = RandomSubspace(1000, 5, random_state=0)
    >>> step = subspace.forward(np.array([1.0, 0, 0, 0, 0]))
    >>> step.shape, float(np.linalg.norm(step).round(6))
    ((1000,), 1.0)
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        projection: str = "auto",
        orthonormal: bool = False,
        dtype: Any = "float64",
        random_state: Any = None,
    ) -> None:
        D, d = n_features, n_components
        for name, value in (("n_features", D), ("n_components", d)):
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if d > D:
            raise ValueError(f"n_components={d} is more than n_features={D}")
        if projection not in PROJECTIONS:
            raise ValueError(f"projection must be one of {PROJECTIONS}, got {projection!r}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
        if projection == "auto":
            projection = "fastfood"
            if orthonormal or D * d <= DENSE_UP_TO:
                projection = "dense"
            elif d * D**0.5 <= SPARSE_UP_TO:
                projection = "sparse"
        if orthonormal and projection != "dense":
            raise ValueError(f"orthonormal=True is for projection='dense', not {projection!r}")
        self.shape = (int(D), int(d))
        self.projection = projection
        self.orthonormal = bool(orthonormal)
        rng = check_random_state(random_state)
        getattr(self, f"_draw_{projection}")(np.random.default_rng(rng.randint(2**31)))

    def _draw_dense(self, rng: np.random.Generator) -> None:
        D, d = self.shape
        # Rows are the map's columns: each is read from one place.
        P = rng.standard_normal((d, D), dtype=self.dtype)
        if self.orthonormal:
            P = np.ascontiguousarray(np.linalg.qr(P.T)[0].T)
        else:
            P /= np.linalg.norm(P, axis=1, keepdims=True)
        self._P = P

    def _draw_sparse(self, rng: np.random.Generator) -> None:
        D, d = self.shape
        counts = np.maximum(rng.binomial(D, D**-0.5, size=d), 1)  # no column is empty
        indptr = np.r_[0, np.cumsum(counts)]
        rows = np.empty(indptr[-1], dtype=np.int32)
        for j in range(d):
            at = slice(indptr[j], indptr[j + 1])
            rows[at] = np.sort(rng.choice(D, size=counts[j], replace=False))
        signs = rng.choice(np.array([-1, 1], dtype=self.dtype), size=len(rows))
        signs /= np.repeat(np.sqrt(counts), counts).astype(self.dtype)
        self._adjoint = sp.csr_array((signs, rows, indptr), shape=(d, D))
        self._forward = self._adjoint.T.tocsr()

    def _draw_fastfood(self, rng: np.random.Generator) -> None:
        D, d = self.shape
        L = 1 << (D - 1).bit_length()
        few = 1 << (d - 1).bit_length()
        self._signs = rng.choice(np.array([-1, 1], dtype=self.dtype), size=few)
        # A permuted entry of the first transform, which repeats itself.
        self._places = (rng.permutation(L) % few).astype(np.int32)
        scale = rng.standard_normal(L)
        scale /= np.sqrt(L * (scale**2).sum() * (D / L))
        self._scale = scale.astype(self.dtype)

    def _checked(self, x: Any, n: int) -> np.ndarray:
        x = np.ascontiguousarray(x, dtype=self.dtype)
        if x.shape != (n,):
            raise ValueError(f"a vector of {n} numbers is wanted, got shape {x.shape}")
        return x

    def forward(self, z: Any) -> np.ndarray:
        """Return the image of a vector.

        Parameters
        ----------
        z : array-like of shape (n_components,)
            The vector.

        Returns
        -------
        image : ndarray of shape (n_features,)
            P times the vector, or its transpose.
        """
        z = self._checked(z, self.shape[1])
        if self.projection == "dense":
            return z @ self._P
        if self.projection == "sparse":
            return self._forward @ z
        from sklr.geometry._random_subspace_kernels import fastfood_forward

        out = np.empty(self.shape[0], dtype=self.dtype)
        work = np.empty(len(self._scale), dtype=self.dtype)
        head = np.empty_like(self._signs)
        fastfood_forward(z, self._signs, self._places, self._scale, work, head, out)
        return out

    def adjoint(self, g: Any) -> np.ndarray:
        """Return the image of a vector under the transposed map.

        Parameters
        ----------
        g : array-like of shape (n_features,)
            The vector.

        Returns
        -------
        image : ndarray of shape (n_components,)
            P times the vector, or its transpose.
        """
        g = self._checked(g, self.shape[0])
        if self.projection == "dense":
            return self._P @ g
        if self.projection == "sparse":
            return self._adjoint @ g
        from sklr.geometry._random_subspace_kernels import fastfood_adjoint

        out = np.empty(self.shape[1], dtype=self.dtype)
        work = np.empty(len(self._scale), dtype=self.dtype)
        head = np.empty_like(self._signs)
        fastfood_adjoint(g, self._signs, self._places, self._scale, work, head, out)
        return out

    def to_dense(self) -> np.ndarray:
        """Return the map as a matrix.

        Returns
        -------
        matrix : ndarray of shape (n_features, n_components)
            All entries.
        """
        if self.projection == "dense":
            return self._P.T.copy()
        if self.projection == "sparse":
            return self._forward.toarray()
        eye = np.eye(self.shape[1], dtype=self.dtype)
        return np.stack([self.forward(row) for row in eye], axis=1)

    def __repr__(self) -> str:
        return (
            f"RandomSubspace({self.shape[0]}, {self.shape[1]}, projection={self.projection!r}, "
            f"orthonormal={self.orthonormal}, dtype='{self.dtype}')"
        )

"""The orthonormal cosine basis (DCT-II), and those of its columns that a matrix is made of."""

import functools
import math
from numbers import Integral

import torch

NORMS = ("l1", "l2")
TRANSFORMS = ("auto", "fft", "matmul")
# On a CPU the product with the basis is faster below, Makhoul's transform above; on a GPU the
# basis itself is what grows too large.
_FFT_FROM = {"cpu": 1024, "other": 8192}


def dct_select(G: torch.Tensor, rank: int, norm: str = "l2") -> tuple[torch.Tensor, torch.Tensor]:
    r"""Choose the cosines that rows of a matrix are made of.

    The columns of the orthonormal DCT-II basis
    :math:`Q_{jk} = \sqrt{2/n}\, c_k \cos(\pi (2j + 1) k / 2n)`, :math:`c_0 = \sqrt{1/2}`, else 1,
    are ranked by the norm of the columns of :math:`G Q`.

    Parameters
    ----------
    G : torch.Tensor of shape (n_rows, n)
        The matrix.
    rank : int
        Number of columns, from 1 to n.
    norm : {"l1", "l2"}, default="l2"
        What they are ranked by. With "l2" no other columns of the basis leave less of `G`.

    Returns
    -------
    g : torch.Tensor of shape (n_rows, rank)
        ``G @ Q[:, idx]``.
    idx : torch.Tensor of shape (rank,)
        The frequencies, ascending, int64.

    Raises
    ------
    TypeError, ValueError
        `G` is no real matrix, or has NaN or infinity; `rank` or `norm` is none that there is.

    See Also
    --------
    DCTAdamW : The optimiser that does so for every gradient.
    sklr.decomposition.DCTColumnSelection : The same as a transformer of tables.
    torch.linalg.svd : The basis that leaves least, at many times the cost.

    Notes
    -----
    What is left out is ``G - g @ Q[:, idx].T``; its squared Frobenius norm is at most
    ``(1 - rank / n)`` of that of `G`, and as small as with singular vectors only where rows are
    smooth. O(n_rows n^2) below n = 1024 on a CPU, O(n_rows n log n) above.

    References
    ----------
    .. [1] I.-V. Modoranu et al., "SVD-free low-rank adaptive gradient optimization for large
       language models", arXiv:2505.17967, 2025.
    .. [2] J. Makhoul, "A fast cosine transform in one and two dimensions", IEEE Trans. Acoust.
       Speech Signal Process. 28(1), 1980, doi:10.1109/TASSP.1980.1163351.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.optim import dct_select
    >>> wave = torch.cos(torch.pi * (2 * torch.arange(16) + 1) * 3 / 32)
    >>> g, idx = dct_select(torch.outer(torch.ones(4), wave), rank=1)
    >>> idx, g.shape
    (tensor([3]), torch.Size([4, 1]))
    """
    if not isinstance(G, torch.Tensor):
        raise TypeError(f"G must be a torch.Tensor, got {type(G).__name__}")
    if G.ndim != 2 or not G.is_floating_point():
        raise ValueError(
            f"G must be a matrix of real floating point numbers, got shape {tuple(G.shape)} of "
            f"{str(G.dtype).removeprefix('torch.')}"
        )
    n = G.shape[1]
    if isinstance(rank, bool) or not isinstance(rank, Integral):
        raise TypeError(f"rank must be an integer, got {rank!r}")
    if not 1 <= rank <= n:
        raise ValueError(f"rank must be from 1 to the {n} columns of G, got {rank}")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    S = transform(G, "auto")
    scores = column_norms(S.detach(), norm)
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("G has NaN or infinity, or values whose squares overflow")
    idx = largest(scores, int(rank))
    return S.index_select(1, idx), idx


@functools.lru_cache(maxsize=64)
def _table(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return sqrt(2/n) cos(pi m / 2n) for m = 0 .. 4n - 1."""
    with torch.inference_mode(False):
        angles = torch.arange(4 * n, dtype=torch.float64, device="cpu") * (math.pi / (2 * n))
        return (math.sqrt(2 / n) * angles.cos()).to(dtype=dtype, device=device)


def columns(idx: torch.Tensor, n: int, dtype: torch.dtype) -> torch.Tensor:
    """Return columns of the basis (n, len(idx)), from a table, without the others."""
    with torch.inference_mode(False):
        rows = 2 * torch.arange(n, device=idx.device) + 1
        # In integers: exact for every n.
        out = _table(n, dtype, idx.device)[(rows[:, None] * idx) % (4 * n)]
        return torch.where(idx == 0, math.sqrt(0.5) * out, out)


@functools.lru_cache(maxsize=64)
def basis(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the whole basis (n, n), column k the frequency k; layers of a width share it."""
    return columns(torch.arange(n, device=device), n, dtype)


@functools.lru_cache(maxsize=64)
def _twiddles(
    n: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the order of Makhoul's input, and the factors of its transform."""
    with torch.inference_mode(False):
        order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)])
        k = torch.arange(n // 2 + 1, dtype=torch.float64, device="cpu")
        factors = torch.polar(torch.full_like(k, math.sqrt(2 / n)), -math.pi / (2 * n) * k)
        factors[0] = math.sqrt(1 / n)
        return order.to(device), factors.to(dtype=dtype.to_complex(), device=device)


def has_matrix(n: int, how: str, device: torch.device) -> bool:
    """Return whether the transform is a product with the whole basis."""
    if how != "auto":
        return how == "matmul"
    return n < _FFT_FROM["cpu" if device.type == "cpu" else "other"]


def transform(A: torch.Tensor, how: str) -> torch.Tensor:
    """Return A Q, the cosine transform of each row of A (n_rows, n)."""
    n = A.shape[1]
    if has_matrix(n, how, A.device):
        return A @ basis(n, A.dtype, A.device)
    if A.dtype in (torch.float16, torch.bfloat16):  # no Fourier transform in them
        return transform(A.float(), "fft").to(A.dtype)
    order, factors = _twiddles(n, A.dtype, A.device)
    V = torch.fft.rfft(A[:, order], dim=1) * factors
    # The input is real: the upper frequencies are in the imaginary part of the lower ones.
    upper = -V.imag[:, 1 : (n + 1) // 2].flip(1)
    return torch.cat([V.real, upper], dim=1)


def column_norms(S: torch.Tensor, norm: str) -> torch.Tensor:
    """Return what columns are ranked by."""
    if S.dtype in (torch.float16, torch.bfloat16):
        S = S.float()
    return torch.linalg.vector_norm(S, 2 if norm == "l2" else 1, dim=0)


def largest(scores: torch.Tensor, rank: int, former: torch.Tensor | None = None) -> torch.Tensor:
    """Return the indices of the largest scores, ascending.

    Among equals those of `former` come first, then those of low frequency: a zero gradient leaves
    the choice as it was.
    """
    if former is None:
        best = torch.sort(scores, descending=True, stable=True).indices[:rank]
    else:
        first = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        first[former] = False
        order = torch.sort(first.to(torch.uint8), stable=True).indices
        best = order[torch.sort(scores[order], descending=True, stable=True).indices[:rank]]
    return torch.sort(best).values

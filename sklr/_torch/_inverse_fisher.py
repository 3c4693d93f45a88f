r"""The damped Fisher matrix of stored gradients, and its inverse, without a matrix of its size.

With gradients as rows of G (m, d), the matrix is ``F = damping I + G^T G / m``. By Woodbury's
identity all that is asked of its inverse stands on the Cholesky factor of one (m, m) matrix,
``K = G G^T + m damping I``. The recursions of the method's paper are the same factorisation,
written out by hand; tests keep them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Columns of a block: its float64 copy stays in the cache.
BLOCK = 4096


def gram(G: "Tensor") -> "Tensor":
    """Return G G^T in float64, whatever the precision of G."""
    import torch

    m, d = G.shape
    out = torch.zeros(m, m, dtype=_wide(G), device=G.device)
    for first in range(0, d, BLOCK):
        block = G[:, first : first + BLOCK].to(out.dtype)
        out.addmm_(block, block.T)
    return out


def _wide(G: "Tensor") -> "torch.dtype":
    import torch

    return torch.float32 if G.device.type == "mps" else torch.float64


def factor(K0: "Tensor", damping: float, n: int) -> "Tensor":
    """Return the Cholesky factor of ``K0 + n damping I``.

    Raises
    ------
    ValueError
        The damping is so small beside the gradients that rounding makes the matrix singular.
    """
    import torch

    K = K0.clone()
    K.diagonal().add_(n * damping)
    L, info = torch.linalg.cholesky_ex(K)
    if int(info):
        largest = float(K0.diagonal().max()) / n
        raise ValueError(
            f"damping={damping:g} is too small beside gradients whose squared norms reach "
            f"{largest:.3g}: the matrix is singular in double precision. Take at least "
            f"{1e-12 * largest:.1g}"
        )
    return L


class InverseFisher:
    """Inverse of ``F = damping I + G^T G / m`` from the rows of G, which stays as it is.

    Parameters
    ----------
    G : torch.Tensor of shape (m, d)
        Gradients. Sums over them are taken in float64 also where they are float32.
    damping : float
        Above 0.
    n : int, optional
        What stands for m in the formula; by default the number of rows.
    gram_matrix : torch.Tensor of shape (m, m), optional
        ``G G^T`` in float64, where it is known.

    Attributes
    ----------
    L : torch.Tensor of shape (m, m)
        Cholesky factor of ``G G^T + n damping I``, in float64.

    Examples
    --------
    >>> import torch
    >>> from sklr._torch._inverse_fisher import InverseFisher
    >>> inverse = InverseFisher(torch.tensor([[3.0, 4.0]]), damping=1.0)
    >>> inverse.solve(torch.tensor([26.0, 26.0]))
    tensor([ 5., -2.])
    """

    def __init__(
        self,
        G: "Tensor",
        damping: float,
        *,
        n: int | None = None,
        gram_matrix: "Tensor | None" = None,
    ) -> None:
        self.G, self.damping = G, float(damping)
        self.n = len(G) if n is None else n
        K0 = gram(G) if gram_matrix is None else gram_matrix
        self.L = factor(K0, self.damping, self.n)
        self._half: Any = None

    def matvec(self, x: "Tensor") -> "Tensor":
        """Return F x for x of shape (d,) or (d, k)."""
        Gx = self.G @ x.to(self.G.dtype)
        return self.damping * x + ((self.G.T @ Gx) / self.n).to(x.dtype)

    def solve(self, x: "Tensor") -> "Tensor":
        """Return F^-1 x for x of shape (d,) or (d, k): two products with G."""
        # The small vector is cast, not G: that would copy it.
        Gx = self.G @ x.to(self.G.dtype)
        return (x - self.pull(Gx).to(x.dtype)) / self.damping

    def pull(self, c: "Tensor") -> "Tensor":
        """Return G^T K^-1 c for c of shape (m,) or (m, k), in the precision of G.

        ``n * pull(e_i)`` is F^-1 times the gradient i itself, without the loss of digits that
        :meth:`solve` has on vectors within the gradients' span.
        """
        import torch

        wide = c.to(self.L.dtype)
        columns = wide if c.ndim > 1 else wide[:, None]
        found = torch.cholesky_solve(columns, self.L).to(self.G.dtype)
        return self.G.T @ (found if c.ndim > 1 else found[:, 0])

    def half(self, where: Any = slice(None)) -> "Tensor":
        """Return columns of V = L^-1 G in float64: F^-1 = (I - V^T V) / damping."""
        import torch

        columns = self.G[:, where].to(self.L.dtype)
        return torch.linalg.solve_triangular(self.L, columns, upper=False)

    def diagonal(self) -> "Tensor":
        """Return the diagonal of F^-1 in float64: O(d m^2) at the first call."""
        import torch

        d = self.G.shape[1]
        out = torch.empty(d, dtype=self.L.dtype, device=self.G.device)
        for first in range(0, d, BLOCK):
            at = slice(first, first + BLOCK)
            V = self.half(at)
            left = 1 - V.square_().sum(dim=0)
            # What rounding takes from it: an entry of the inverse is at least the inverse entry.
            mean = self.G[:, at].to(self.L.dtype).square().sum(dim=0) / self.n
            out[at] = torch.maximum(left, self.damping / (self.damping + mean)) / self.damping
        return out

    def block(self, rows: Any, columns: Any) -> "Tensor":
        """Return entries of F^-1 at some rows and columns, indices as tensors, in float64."""
        equal = (rows[:, None] == columns).to(self.L.dtype)
        return (equal - self.half(rows).T @ self.half(columns)) / self.damping

    def logdet(self) -> float:
        """Return log det F."""
        import math

        m, d = self.G.shape
        pivots = 2 * float(self.L.diagonal().log().sum())
        return d * math.log(self.damping) + pivots - m * math.log(self.n * self.damping)


class GradientWindow:
    """The last gradients, and products of the inverse of their damped Fisher matrix.

    A ring buffer with the products of its rows among each other in float64: one gradient more
    costs one product with the buffer, and the (m, m) factor is made anew, which does not drift.

    Parameters
    ----------
    n_gradients : int
        Rows of the buffer.
    n_parameters : int
        Their length.
    damping : float
        Above 0.
    warmup : {"exact", "official"}, default="exact"
        What the sum over gradients is divided by before the buffer is full: by their number, or by
        `n_gradients` all the same, as the code of the method's authors does.
    dtype : torch.dtype, optional
        Precision of the buffer, by default float32.
    device : torch.device, optional
        Its device, by default the CPU.
    """

    def __init__(
        self,
        n_gradients: int,
        n_parameters: int,
        *,
        damping: float,
        warmup: str = "exact",
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        import torch

        device = torch.device("cpu") if device is None else device
        dtype = torch.float32 if dtype is None else dtype
        self.damping, self.warmup = damping, warmup
        self.G = torch.zeros(n_gradients, n_parameters, dtype=dtype, device=device)
        self.K0 = torch.zeros(n_gradients, n_gradients, dtype=_wide(self.G), device=device)
        self.n_seen = 0
        self._inverse: InverseFisher | None = None

    @property
    def n_kept(self) -> int:
        """Number of gradients in the buffer."""
        return min(self.n_seen, len(self.G))

    def push(self, g: "Tensor") -> None:
        """Take one gradient (n_parameters,), in place of the oldest where the buffer is full."""
        at = self.n_seen % len(self.G)
        self.G[at] = g
        self.n_seen += 1
        n = self.n_kept
        # In float64, block by block: the buffer itself is never copied whole.
        row = self.K0.new_zeros(n)
        for first in range(0, self.G.shape[1], BLOCK):
            block = self.G[:n, first : first + BLOCK].to(row.dtype)
            row += block @ block[at]
        self.K0[at, :n] = row
        self.K0[:n, at] = row
        self._inverse = None

    def inverse(self) -> InverseFisher:
        """Return the inverse for what is in the buffer."""
        if not self.n_seen:
            raise ValueError("the window has no gradients yet")
        if self._inverse is None:
            n = self.n_kept
            divisor = n if self.warmup == "exact" else len(self.G)
            self._inverse = InverseFisher(
                self.G[:n], self.damping, n=divisor, gram_matrix=self.K0[:n, :n]
            )
        return self._inverse

    def solve(self, x: "Tensor") -> "Tensor":
        """Return F^-1 x."""
        return self.inverse().solve(x)

    def solve_last(self) -> "Tensor":
        """Return F^-1 times the gradient that came last: one product with the buffer."""
        inverse = self.inverse()
        unit = self.K0.new_zeros(len(inverse.G))
        unit[(self.n_seen - 1) % len(self.G)] = inverse.n
        return inverse.pull(unit)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next steps depend on; the tensors themselves, not copies."""
        return {"G": self.G, "K0": self.K0, "n_seen": self.n_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; shapes have to be those of this window."""
        for name in ("G", "K0"):
            own = getattr(self, name)
            if state[name].shape != own.shape:
                raise ValueError(
                    f"the state holds {tuple(state[name].shape)} for {name}, this window "
                    f"{tuple(own.shape)}"
                )
            own.copy_(state[name])
        self.n_seen = int(state["n_seen"])
        self._inverse = None

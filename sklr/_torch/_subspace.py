"""Random linear maps of geometry on the parameters of a network."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sklr.geometry import RandomSubspace

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TorchSubspace:
    """A :class:`~sklr.geometry.RandomSubspace` that takes and returns tensors of one device.

    Parameters
    ----------
    subspace : RandomSubspace
        The map.
    device : torch.device
        Where tensors are. On the CPU the map's own kernels do the work.
    """

    _P: Any
    _Pt: Any
    _signs: Any
    _places: Any
    _scale: Any

    def __init__(self, subspace: RandomSubspace, device: "torch.device") -> None:
        import torch

        self.subspace, self.device = subspace, device
        self._own = device.type == "cpu" and subspace.projection != "dense"
        if self._own:
            return
        if subspace.projection == "dense":
            self._P = torch.from_numpy(subspace._P).to(device)
        elif subspace.projection == "sparse":
            rows = subspace._adjoint
            self._P = torch.sparse_csr_tensor(
                torch.from_numpy(np.asarray(rows.indptr, dtype=np.int64)),
                torch.from_numpy(np.asarray(rows.indices, dtype=np.int64)),
                torch.from_numpy(rows.data),
                size=rows.shape,
            ).to(device)
            self._Pt = self._P.to_sparse_coo().t().to_sparse_csr()
        else:
            for name in ("_signs", "_places", "_scale"):
                value = torch.from_numpy(np.ascontiguousarray(getattr(subspace, name)))
                setattr(
                    self, name, value.long().to(device) if name == "_places" else value.to(device)
                )

    def forward(self, z: "Tensor") -> "Tensor":
        """Return the image (D,) of z (d,)."""
        import torch

        kind = self.subspace.projection
        if self._own:
            return torch.from_numpy(self.subspace.forward(z.detach().numpy()))
        if kind == "dense":
            return z.detach() @ self._P
        if kind == "sparse":
            return (self._Pt @ z.detach()[:, None])[:, 0]
        head = torch.zeros_like(self._signs)
        head[: len(z)] = self._signs[: len(z)] * z.detach()
        return _hadamard(self._scale * _hadamard(head)[self._places])[: self.subspace.shape[0]]

    def adjoint(self, g: "Tensor") -> "Tensor":
        """Return the image (d,) of g (D,) under the transposed map."""
        import torch

        kind = self.subspace.projection
        if self._own:
            return torch.from_numpy(self.subspace.adjoint(g.detach().numpy()))
        if kind == "dense":
            return self._P @ g.detach()
        if kind == "sparse":
            return (self._P @ g.detach()[:, None])[:, 0]
        work = torch.zeros_like(self._scale)
        work[: len(g)] = g.detach()
        head = torch.zeros_like(self._signs)
        head.index_add_(0, self._places, self._scale * _hadamard(work))
        return (self._signs * _hadamard(head))[: self.subspace.shape[1]]


def _hadamard(x: "Tensor") -> "Tensor":
    """Return the unnormalised Walsh-Hadamard transform, where there is no kernel for it."""
    import torch

    half, n = 1, len(x)
    while half < n:
        pairs = x.reshape(-1, 2, half)
        x = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), dim=1).reshape(-1)
        half *= 2
    return x


def flat(values: Any) -> "Tensor":
    """Return tensors one after the other as one vector."""
    import torch

    return torch.cat([value.detach().reshape(-1) for value in values])

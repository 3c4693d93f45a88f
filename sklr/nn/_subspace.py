"""A network whose trainable parameters move in a random subspace."""

from typing import Any

import torch
from torch import nn

from sklr._torch._subspace import TorchSubspace, flat


class Subspaced(nn.Module):
    """A network, and its place in a subspace of its parameters.

    Parameters
    ----------
    network : torch.nn.Module
        The network at its first weights.
    n_components : int
        Dimensions of the subspace.
    """

    def __init__(self, network: nn.Module, n_components: int) -> None:
        super().__init__()
        self.network = network
        first = next(p for p in network.parameters() if p.requires_grad)
        self.z = nn.Parameter(torch.zeros(n_components, dtype=first.dtype, device=first.device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network says."""
        return self.network(*args, **kwargs)

    def moved(self) -> list[nn.Parameter]:
        """Return the parameters that the subspace moves."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def set_from(self, origin: torch.Tensor, subspace: TorchSubspace) -> None:
        """Put the network's parameters where z says, from `origin`."""
        place = origin + subspace.forward(self.z)
        first = 0
        with torch.no_grad():
            for p in self.moved():
                p.copy_(place[first : first + p.numel()].reshape(p.shape))
                first += p.numel()

    def gradient(self) -> torch.Tensor:
        """Return the gradient of the network's parameters as one vector."""
        return flat(torch.zeros_like(p) if p.grad is None else p.grad for p in self.moved())

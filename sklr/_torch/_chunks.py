"""Data of a network that stay in memory: batches taken apart, and put together."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Chunk(NamedTuple):
    """Arguments of one call of a network, and its targets."""

    args: tuple
    kwargs: dict
    target: "Tensor"

    def rows(self, where: Any) -> "Chunk":
        """Return some of the samples."""
        return Chunk(
            tuple(_some(value, where) for value in self.args),
            {key: _some(value, where) for key, value in self.kwargs.items()},
            self.target[where],
        )


def _some(value: Any, where: Any) -> Any:
    import torch

    return value[where] if isinstance(value, torch.Tensor) and value.ndim else value


def merged(given: list[Chunk]) -> list[Chunk]:
    """Return batches as one, where their samples have one shape."""
    import torch

    if len(given) == 1:
        return given

    def make(chunk: Chunk) -> Any:
        parts = [*chunk.args, *chunk.kwargs.values(), chunk.target]
        if not all(isinstance(part, torch.Tensor) and part.ndim for part in parts):
            return None
        return tuple(chunk.kwargs), [(part.shape[1:], part.dtype) for part in parts]

    if make(given[0]) is None or any(make(chunk) != make(given[0]) for chunk in given):
        return given
    with torch.inference_mode(False):
        return [
            Chunk(
                tuple(torch.cat(parts) for parts in zip(*(chunk.args for chunk in given))),
                {key: torch.cat([c.kwargs[key] for c in given]) for key in given[0].kwargs},
                torch.cat([chunk.target for chunk in given]),
            )
        ]

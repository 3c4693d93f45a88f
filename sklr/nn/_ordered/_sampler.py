"""Draw the widths to which ordered layers are truncated while they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.utils import check_random_state
from torch import nn

from sklr.nn._ordered._layers import ordered_layers


class RankSampler:
    """Context in which ordered layers are truncated to a width that is drawn when it begins.

    A step of the training has two passes: one of the whole network, which learns the labels, and
    one inside the context, which learns to do what the whole network does. ``forward`` keeps its
    signature.

    Parameters
    ----------
    module : torch.nn.Module
        A network with ordered layers, such as :func:`decompose` makes.
    sampling : {"pairs", "all"} or list of dict, default="pairs"
        "pairs" truncates one layer to one width: all pairs of a layer and a width are gone through
        in random order before any comes again. "all" draws a width for every layer. A list of
        dicts, name of layer -> width, draws one of them; layers that it does not name stay whole.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.

    Attributes
    ----------
    widths_ : dict of str to int
        What was drawn last.

    See Also
    --------
    OrderedLinear : A layer that it truncates.
    hierarchical_group_lasso : The penalty that lets ranks die from the end.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import RankSampler, decompose
    >>> network = decompose(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)))
    >>> sampler = RankSampler(network, random_state=0)
    >>> x, y = torch.ones(2, 8), torch.tensor([0, 2])
    >>> whole = network(x)
    >>> with sampler:
    ...     small = network(x)
    >>> target = whole.detach().softmax(dim=1)
    >>> loss = nn.functional.cross_entropy(whole, y) + nn.functional.cross_entropy(small, target)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        sampling: str | Sequence[Mapping[str, int]] = "pairs",
        random_state: Any = None,
    ) -> None:
        self._layers = ordered_layers(module)
        if not self._layers:
            raise ValueError(
                "RankSampler: the network has no ordered layer; decompose(module) puts some in"
            )
        if isinstance(sampling, str):
            if sampling not in ("pairs", "all"):
                raise ValueError(
                    f'sampling must be "pairs", "all" or a list of dicts, got {sampling!r}'
                )
        else:
            sampling = [dict(sizes) for sizes in sampling]
            if not sampling:
                raise ValueError("sampling is an empty list: there is nothing to draw")
            for sizes in sampling:
                self._check(sizes)
        self.sampling = sampling
        self.widths_: dict[str, int] = {}
        self._rng = check_random_state(random_state)
        self._pairs: list[tuple[str, int]] = []

    def _check(self, sizes: Mapping[str, int]) -> None:
        for name, width in sizes.items():
            if name not in self._layers:
                raise ValueError(
                    f"sampling: {name!r} is no ordered layer; there are {list(self._layers)[:10]}"
                )
            if isinstance(width, bool) or int(width) != width or width < 0:
                raise ValueError(f"sampling: the width of {name!r} must be an integer of at least "
                                 f"0, got {width!r}")  # fmt: skip

    def __enter__(self) -> RankSampler:
        if any(layer._width is not None for layer in self._layers.values()):
            raise RuntimeError("a RankSampler is in use on this network: they cannot be nested")
        self.widths_ = self._draw()
        for name, width in self.widths_.items():
            self._layers[name]._width = width
        return self

    def __exit__(self, *exc: object) -> None:
        for layer in self._layers.values():
            layer._width = None

    def _draw(self) -> dict[str, int]:
        if not isinstance(self.sampling, str):
            return {k: int(v) for k, v in self.sampling[self._integer(len(self.sampling))].items()}
        if self.sampling == "all":
            return {
                name: 1 + self._integer(layer.rank)
                for name, layer in self._layers.items()
                if layer.rank
            }
        while True:
            if not self._pairs:
                self._pairs = [
                    (name, width)
                    for name, layer in self._layers.items()
                    for width in range(1, layer.rank + 1)
                ]
                if not self._pairs:  # every layer has shrunk to nothing
                    return {}
                self._rng.shuffle(self._pairs)
            name, width = self._pairs.pop()
            if width <= self._layers[name].rank:
                return {name: int(width)}

    def _integer(self, n: int) -> int:
        return int(self._rng.randint(n))

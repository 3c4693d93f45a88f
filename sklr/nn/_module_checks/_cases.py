"""Small networks of every make, with inputs: what the checks of model-first estimators run on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sklr.nn.compression._factorised import LowRankLinear


@dataclass(frozen=True)
class ModuleCase:
    """A network and inputs of it.

    Attributes
    ----------
    name : str
        What it is about.
    build : callable
        Returns the network.
    draw : callable
        Generator and number of samples -> X: an array, a tuple or a dict of arrays.
    left : dict
        Layers that a method has to leave as they are -> part of the reason.
    same_in_training : bool
        Whether the network answers in training mode what it answers in evaluation mode.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[np.random.Generator, int], Any]
    left: dict[str, str]
    same_in_training: bool = True

    def make(self, dtype: Any = torch.float32, seed: int = 0) -> nn.Module:
        """Return the network, with weights that a seed alone decides."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build()
        with torch.no_grad():
            for part in network.modules():
                if (
                    isinstance(part, nn.modules.batchnorm._BatchNorm)
                    and part.running_mean is not None
                ):
                    part.running_mean.normal_(generator=torch.Generator().manual_seed(1))
        return network.to(dtype)

    def data(self, n_samples: int = 40, seed: int = 0) -> Any:
        """Return inputs as arrays of float64 or int64."""
        return self.draw(np.random.default_rng(seed), n_samples)

    def labels(self, n_samples: int = 40) -> np.ndarray:
        """Return classes: the networks have three outputs."""
        return np.arange(n_samples) % 3


def call(network: nn.Module, X: Any) -> torch.Tensor:
    """Return what a network, in evaluation mode, says of X; its mode is put back."""
    modes = [(part, part.training) for part in network.modules()]
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    try:
        with torch.no_grad():
            return run(network.eval(), X, dtype)
    finally:
        for part, training in modes:
            part.training = training


def run(network: nn.Module, X: Any, dtype: Any) -> torch.Tensor:
    """Return what a network says of X, in the mode that it is in."""

    def tensor(values: np.ndarray) -> torch.Tensor:
        found = torch.from_numpy(values.copy())
        return found.to(dtype) if found.is_floating_point() else found

    if isinstance(X, dict):
        return network(**{key: tensor(value) for key, value in X.items()})
    return network(*[tensor(value) for value in (X if isinstance(X, tuple) else (X,))])


class Conv1D(nn.Module):
    """A linear layer as transformers' GPT-2 has it: the weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) * 0.3)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs."""
        return x @ self.weight + self.bias


class Mean(nn.Module):
    """Mean over all axes between the first and the last, or the second and the last."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means."""
        return x.mean(dim=self.axes)


class TiedLanguageModel(nn.Module):
    """Token ids to logits; the head has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.inner = nn.Linear(8, 16)
        self.outer = nn.Linear(16, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.classes = nn.Linear(11, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return three logits for each sample."""
        hidden = self.embedding(ids)
        hidden = hidden + self.outer(torch.relu(self.inner(hidden)))
        return self.classes(self.head(hidden).mean(dim=1))


class MaskedEncoder(nn.Module):
    """Named inputs: token ids and a mask, as networks of transformers take them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(13, 8, padding_idx=0)
        self.inner = nn.Linear(8, 12)
        self.outer = nn.Linear(12, 12)
        self.classes = nn.Linear(12, 3)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return three logits for each sample."""
        hidden = self.outer(torch.tanh(self.inner(self.embedding(input_ids))))
        if attention_mask is None:
            return self.classes(hidden.mean(dim=1))
        mask = attention_mask[..., None].to(hidden.dtype)
        return self.classes((hidden * mask).sum(dim=1) / mask.sum(dim=1))


class UsedTwice(nn.Module):
    """One layer under two names, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = self.first
        self.classes = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return three logits for each sample."""
        x = torch.tanh(self.first(x))
        return self.classes(torch.tanh(self.first(torch.tanh(self.again(x)))))


class TwoInputs(nn.Module):
    """Two positional inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 9)
        self.right = nn.Linear(4, 9)
        self.classes = nn.Linear(9, 3)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return three logits for each sample."""
        return self.classes(torch.relu(self.left(x) + self.right(z)))


class Attention(nn.Module):
    """Attention alone, beside a layer that can be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner = nn.Linear(8, 12)
        self.classes = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return three logits for each sample."""
        hidden, _ = self.attention(x, x, x)
        return self.classes(torch.relu(self.inner(hidden)).mean(dim=1))


def _table(n_columns: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        mixed = rng.standard_normal((n_columns, n_columns)) / n_columns**0.5
        return rng.standard_normal((n, n_columns)) @ mixed + 1.0

    return draw


def _array(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.standard_normal((n, *shape)) + 0.5


def _ids(n_tokens: int, length: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, n_tokens, (n, length))


def _masked(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    ids = rng.integers(1, 13, (n, 7))
    mask = (np.arange(7) < rng.integers(2, 8, n)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def _factorised() -> nn.Module:
    return nn.Sequential(LowRankLinear(6, 12, 2), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 3))


MODULE_CASES = (
    ModuleCase(
        "perceptron",
        lambda: nn.Sequential(
            *(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
        ),
        _table(6),
        {},
    ),
    ModuleCase(
        "convolution",
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, stride=2, dilation=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(Mean(-2, -1), nn.Linear(8, 10), nn.Linear(10, 3)),
        ),
        _array(2, 8, 7),
        {},
        same_in_training=False,
    ),
    ModuleCase(
        "dropout",
        lambda: nn.Sequential(
            *(nn.Linear(6, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 12), nn.Linear(12, 3))
        ),
        _table(6),
        {},
        same_in_training=False,
    ),
    ModuleCase(
        "tied weights",
        TiedLanguageModel,
        _ids(11, 5),
        {"embedding": "tied", "head": "tied"},
    ),
    ModuleCase(
        "transformer layer",
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            Mean(1),
            nn.Linear(8, 3),
        ),
        _array(5, 8),
        {"0.self_attn": "MultiheadAttention", "0.self_attn.out_proj": "MultiheadAttention"},
    ),
    ModuleCase(
        "Conv1D",
        lambda: nn.Sequential(Conv1D(16, 6), nn.GELU(), Conv1D(12, 16), nn.Linear(12, 3)),
        _table(6),
        {},
    ),
    ModuleCase("named inputs", MaskedEncoder, _masked, {}),
)

# Every kind of layer once more, and what has to be left as it is.
LAYER_ZOO = (
    ModuleCase(
        "Conv1d",
        lambda: nn.Sequential(
            *(nn.Conv1d(3, 8, 3, padding="same"), nn.ReLU(), nn.Conv1d(8, 8, 2, padding=1)),
            *(Mean(-1), nn.Linear(8, 9), nn.Linear(9, 3)),
        ),
        _array(3, 9),
        {},
    ),
    ModuleCase(
        "Conv3d",
        lambda: nn.Sequential(
            *(nn.Conv3d(2, 6, (2, 1, 3), padding=(1, 0, 1), padding_mode="replicate"), nn.ReLU()),
            *(Mean(-3, -2, -1), nn.Linear(6, 9), nn.Linear(9, 3)),
        ),
        _array(2, 3, 4, 4),
        {},
    ),
    ModuleCase(
        "grouped convolution",
        lambda: nn.Sequential(
            *(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 8, 1)),
            *(Mean(-2, -1), nn.Linear(8, 9), nn.Linear(9, 3)),
        ),
        _array(4, 5, 5),
        {"0": "groups"},
    ),
    ModuleCase(
        "embedding",
        lambda: nn.Sequential(
            nn.Embedding(15, 8, padding_idx=2), nn.Linear(8, 9), Mean(1), nn.Linear(9, 3)
        ),
        _ids(15, 4),
        {},
    ),
    ModuleCase("used twice", UsedTwice, _table(6), {}),
    ModuleCase(
        "attention",
        Attention,
        _array(5, 8),
        {"attention": "MultiheadAttention", "attention.out_proj": "MultiheadAttention"},
    ),
    ModuleCase(
        "parametrized",
        lambda: nn.Sequential(
            *(parametrizations.weight_norm(nn.Linear(6, 12)), nn.ReLU(), nn.Linear(12, 9)),
            nn.Linear(9, 3),
        ),
        _table(6),
        {"0": "computed from other tensors"},
    ),
    ModuleCase("factorised", _factorised, _table(6), {"0": "factorised already"}),
    ModuleCase(
        "two inputs",
        TwoInputs,
        lambda rng, n: (rng.standard_normal((n, 6)), rng.standard_normal((n, 4))),
        {},
    ),
)


def case_of(name: str) -> ModuleCase:
    """Return one case by its name."""
    return next(case for case in (*MODULE_CASES, *LAYER_ZOO) if case.name == name)

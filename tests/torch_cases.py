"""A case for each module, function and optimiser of ``sklr.nn``: how it is made and called."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sklr import nn as ours
from sklr.geometry import sample_group
from sklr.nn import optim
from sklr.nn._attention import AttentionGate, EmbeddingNetwork
from sklr.nn._lie._views import GroupViews
from sklr.nn._spd._layers import CovariancePooling, InputScale
from sklr.nn._standardize import Standardize
from sklr.nn._subspace import Subspaced


@dataclass(frozen=True)
class Case:
    """How a module is made, or a function called; and what of torch it does without."""

    make: Callable[[], Any]
    inputs: Callable[[], tuple[Any, ...]]
    # Why a transform does not apply, as docs/torch_packages.md says; empty where it does.
    no_vmap: str = ""
    no_forward_mode: str = ""


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spd(*batch, n=4):
    A = normal(*batch, n, 3 * n)
    return A @ A.mT / (3 * n)


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=-1)


def standardize():
    made = Standardize(4).double()
    made.set_from(normal(9, 4, seed=2))
    return made


QUARTERS = sample_group("gl2", 4, random_state=0)


class AtWidth(torch.nn.Module):
    """A field that runs at one width."""

    def __init__(self, field, width):
        super().__init__()
        self.field = field
        self.width = width

    def forward(self, x):
        return self.field(x, self.width)


def narrow_field():
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return AtWidth(ours.WeightField(network.double()), 0.6)


OWN_GRADIENT = "a gradient of its own, for backward passes only"
STATISTICS = "statistics of the whole batch"
DRAWS = "draws random numbers"

MODULES = {
    "AttentionGate": Case(lambda: AttentionGate(8).double(), lambda: (normal(3, 8, 5, 5),)),
    "BiMap": Case(lambda: ours.BiMap(4, 3, dtype=torch.float64), lambda: (spd(5),)),
    "CovariancePooling": Case(CovariancePooling, lambda: (normal(5, 3, 20),)),
    "EmbeddingNetwork": Case(
        lambda: EmbeddingNetwork(torch.nn.Conv2d(2, 8, 3), 8, 4, attention=True).double(),
        lambda: (normal(3, 2, 6, 6),),
    ),
    "FeatureDropout": Case(ours.FeatureDropout, lambda: (normal(5, 4),), no_vmap=DRAWS),
    "GaussianNoise": Case(ours.GaussianNoise, lambda: (normal(5, 4),), no_vmap=DRAWS),
    "GlobalGroupPool": Case(ours.GlobalGroupPool, lambda: (normal(5, 2, 3, 4, 4),)),
    "GrassmannLinear": Case(
        lambda: ours.GrassmannLinear(6, 3, 2).double(), lambda: (normal(5, 6),)
    ),
    "GroupConv2d": Case(
        lambda: ours.GroupConv2d(QUARTERS, 2, 3, 3, padding=1).double(),
        lambda: (normal(2, 2, 4, 5, 5),),
    ),
    "GroupPool2d": Case(ours.GroupPool2d, lambda: (normal(2, 2, 4, 5, 6),)),
    "InputScale": Case(lambda: InputScale(2.0), lambda: (normal(5, 4),)),
    "LatentSpectralModel": Case(
        lambda: ours.LatentSpectralModel(
            1, 2, 3, width=4, n_levels=1, n_heads=2, n_basis=2
        ).double(),
        lambda: (normal(4, 2, 11),),
    ),
    "LiftingConv2d": Case(
        lambda: ours.LiftingConv2d(QUARTERS, 2, 3, 3).double(), lambda: (normal(2, 2, 5, 5),)
    ),
    "LogEig": Case(ours.LogEig, lambda: (spd(5),), no_forward_mode=OWN_GRADIENT),
    "MMCRLoss": Case(lambda: ours.MMCRLoss(2, 0.1), lambda: (normal(8, 4),)),
    "ManifoldLinearizingLoss": Case(
        lambda: ours.ManifoldLinearizingLoss(max_column_samples=None),
        lambda: (unit(6, 3), unit(6, 3, seed=1)),
    ),
    "NeuralSpectralBlock": Case(
        lambda: ours.NeuralSpectralBlock(2, 4, (2, 3), n_basis=3, n_heads=2).double(),
        lambda: (normal(3, 4, 4, 6),),
    ),
    "MarginLoss": Case(
        lambda: ours.MarginLoss(mining="nearest"),
        lambda: (normal(8, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])),
    ),
    "OrderedConv2d": Case(
        lambda: ours.OrderedConv2d(2, 5, 3, padding=1).double(), lambda: (normal(4, 2, 5, 5),)
    ),
    "OrderedLinear": Case(lambda: ours.OrderedLinear(6, 4).double(), lambda: (normal(5, 6),)),
    "RandomAffine2d": Case(
        ours.RandomAffine2d,
        lambda: (normal(3, 1, 6, 6),),
        no_vmap=DRAWS,
        no_forward_mode="torch's own grid_sample has none",
    ),
    "GroupViews": Case(
        lambda: GroupViews("gl2", 0.2, 30, 0.1),
        lambda: (normal(3, 1, 6, 6),),
        no_vmap=DRAWS,
        no_forward_mode="torch's own grid_sample has none",
    ),
    "RandomViews": Case(
        lambda: ours.RandomViews(ours.GaussianNoise(), 2), lambda: (normal(5, 4),), no_vmap=DRAWS
    ),
    "ReEig": Case(lambda: ours.ReEig(0.5), lambda: (spd(5),), no_forward_mode=OWN_GRADIENT),
    "SPDBatchNormAI": Case(
        lambda: ours.SPDBatchNormAI(4),
        lambda: (spd(6),),
        no_vmap=STATISTICS,
        no_forward_mode=OWN_GRADIENT,
    ),
    "SPDBatchNormBW": Case(
        lambda: ours.SPDBatchNormBW(4),
        lambda: (spd(6),),
        no_vmap=STATISTICS,
        no_forward_mode=OWN_GRADIENT,
    ),
    "Standardize": Case(standardize, lambda: (normal(5, 4),)),
    "Subspaced": Case(
        lambda: Subspaced(torch.nn.Linear(4, 3, dtype=torch.float64), 2), lambda: (normal(5, 4),)
    ),
    "WeightField": Case(narrow_field, lambda: (normal(5, 4),)),
}

if importlib.util.find_spec("sklr.nn.compression") is not None:
    from sklr.nn import compression

    MODULES |= {
        "CompensatedConv": Case(
            lambda: compression.CompensatedConv(
                torch.nn.Conv1d(3, 4, 3),
                torch.nn.Conv1d(3, 2, 3, bias=False),
                torch.nn.Conv1d(2, 4, 1, bias=False),
            ).double(),
            lambda: (normal(5, 3, 8),),
        ),
        "CompensatedLinear": Case(
            lambda: compression.CompensatedLinear(6, 4, 2).double(), lambda: (normal(5, 6),)
        ),
        "LowRankConv": Case(
            lambda: compression.LowRankConv(
                torch.nn.Conv1d(3, 2, 3, bias=False), torch.nn.Conv1d(2, 4, 1)
            ).double(),
            lambda: (normal(5, 3, 8),),
        ),
        "LowRankEmbedding": Case(
            lambda: compression.LowRankEmbedding(7, 4, 2).double(),
            lambda: (torch.tensor([[0, 3], [6, 1]]),),
        ),
        "LowRankLinear": Case(
            lambda: compression.LowRankLinear(6, 4, 2).double(), lambda: (normal(5, 6),)
        ),
    }

if importlib.util.find_spec("sklr.nn.adapters") is not None:
    from sklr.nn import adapters

    MODULES |= {
        name: Case(lambda make=make: make(normal(6, 4)), lambda: (normal(6, 4, seed=1),))
        for name, make in {
            "BlockLoRA": lambda W: adapters.BlockLoRA(W, 2),
            "FLoRA": lambda W: adapters.FLoRA(W, 2),
            "LoLDU": lambda W: adapters.LoLDU(W),
            "LoRA": lambda W: adapters.LoRA(W, 2),
            "SVFit": lambda W: adapters.SVFit(W),
        }.items()
    }

FUNCTIONS = {
    "coding_rate": Case(lambda: ours.coding_rate, lambda: (unit(6, 3),)),
    "compressed_coding_rate": Case(
        lambda: ours.compressed_coding_rate, lambda: (unit(6, 3), torch.full((6, 2), 0.5).double())
    ),
    "doubly_stochastic": Case(lambda: ours.doubly_stochastic, lambda: (unit(6, 3),)),
    "effective_dimension": Case(lambda: ours.effective_dimension, lambda: (normal(9, 3),)),
    "gaussian_latent_mutual_information": Case(
        lambda: ours.gaussian_latent_mutual_information,
        lambda: (0.5 * normal(4, 4), spd(n=4), spd(n=4)),
    ),
    "mmcr_loss": Case(lambda: lambda z: ours.mmcr_loss(z, 2), lambda: (normal(8, 4),)),
    # These take a network.
    "decompose": None,
    "fuse_batchnorm": None,
    "hierarchical_group_lasso": None,
    "permutation_groups": None,
    "shrink_": None,
    "smooth_permutation": None,
    "split_manifold_parameters": None,
    "total_variation": None,
    "temporal_infonce": Case(lambda: ours.temporal_infonce, lambda: (normal(2, 9, 3),)),
    "von_neumann_entropy": Case(lambda: ours.von_neumann_entropy, lambda: (normal(9, 3),)),
}

OPTIMIZERS = {
    "DCTAdamW": lambda params: optim.DCTAdamW(params, lr=0.01, rank=2),
    "MFAC": lambda params: optim.MFAC(params, lr=0.01, damping=0.1, n_gradients=4),
    "RiemannianSGD": lambda params: ours.RiemannianSGD(params, lr=0.1),
    "Trion": lambda params: optim.Trion(params, rank=2),
}

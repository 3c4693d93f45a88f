"""PyTorch building blocks: modules, losses, optimisers and functions (needs the extra ``torch``).

A name is imported on first use, so that ``import sklr.nn`` itself loads no torch.
"""

from sklr.utils._imports import lazy_names

# Public name -> the file that holds it.
_HOMES = {
    "BiMap": "_spd._layers",
    "FeatureDropout": "_augment",
    "GaussianNoise": "_augment",
    "GlobalGroupPool": "_lie._pooling",
    "GrassmannLinear": "_grassmann._linear",
    "LatentSpectralModel": "_spectral._model",
    "GroupConv2d": "_lie._layers",
    "GroupPool2d": "_lie._pooling",
    "LiftingConv2d": "_lie._layers",
    "LogEig": "_spd._layers",
    "MMCRLoss": "_losses._mmcr",
    "ManifoldLinearizingLoss": "_losses._coding_rate",
    "NeuralSpectralBlock": "_spectral._block",
    "MarginLoss": "_losses._margin",
    "OrderedConv2d": "_ordered._layers",
    "OrderedLinear": "_ordered._layers",
    "RandomAffine2d": "_augment",
    "RandomViews": "_augment",
    "RankSampler": "_ordered._sampler",
    "ReEig": "_spd._layers",
    "RiemannianSGD": "_grassmann._riemannian",
    "SPDBatchNormAI": "_spd._batchnorm",
    "SPDBatchNormBW": "_spd._batchnorm",
    "WeightField": "_morph._field",
    "coding_rate": "_losses._coding_rate",
    "compressed_coding_rate": "_losses._coding_rate",
    "decompose": "_ordered._layers",
    "doubly_stochastic": "_losses._coding_rate",
    "effective_dimension": "_losses._information",
    "fuse_batchnorm": "_morph._groups",
    "gaussian_latent_mutual_information": "_losses._information",
    "hierarchical_group_lasso": "_ordered._lasso",
    "mmcr_loss": "_losses._mmcr",
    "permutation_groups": "_morph._groups",
    "shrink_": "_ordered._lasso",
    "smooth_permutation": "_morph._smooth",
    "split_manifold_parameters": "_grassmann._riemannian",
    "temporal_infonce": "_losses._information",
    "total_variation": "_morph._smooth",
    "von_neumann_entropy": "_losses._information",
}

__all__, __getattr__, __dir__ = lazy_names(
    __name__, _HOMES, subpackages=("adapters", "compression", "optim")
)

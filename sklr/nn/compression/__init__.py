"""Compress trained networks, by matrices of low rank or by zeros (needs the extra ``torch``).

Estimators here are fitted on a network, and on inputs of it where their method needs some; what
``transform`` returns is a smaller network of the same make. A name is imported on first use.
"""

from sklr.utils._imports import lazy_names

# Public name -> the file that holds it.
_HOMES = {
    "AtomicFeatureMimicking": "_feature_mimicking",
    "CompensatedConv": "_compensated",
    "CompensatedLinear": "_compensated",
    "EigenspaceCompensation": "_compensation",
    "FisherWeightedSVD": "_fisher",
    "LowRankConv": "_factorised",
    "LowRankDecomposition": "_decomposition",
    "LowRankEmbedding": "_factorised",
    "LowRankLinear": "_factorised",
    "MFACPruner": "_mfac",
    "WeightSVD": "_weight_svd",
    "apply_structure": "_structure",
    "eora_factors": "_compensation",
    "from_sklearn": "_from_sklearn",
    "load_compressed": "_structure",
    "recompose": "_recompose",
    "save_compressed": "_structure",
    "weighted_low_rank": "_low_rank",
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)

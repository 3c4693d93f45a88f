"""The loss of a network around its parameters: curvature, spectra, paths, dimensions.

Everything here takes a trained network, a torch Module or one of scikit-learn's own models, and
needs the extra ``torch``. A name is imported on first use.
"""

from sklr.utils._imports import lazy_names

# Public name -> the file that holds it.
_HOMES = {
    "DimensionCurveDisplay": "_displays",
    "EmpiricalFisher": "_empirical_fisher",
    "HessianOperator": "_operator",
    "HessianSpectrum": "_spectrum",
    "HessianSpectrumDisplay": "_displays",
    "IntrinsicDimension": "_dimension",
    "LossPathDisplay": "_path",
    "lanczos": "_lanczos",
    "loss_path": "_path",
    "stochastic_lanczos_quadrature": "_lanczos",
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)

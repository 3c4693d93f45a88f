"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

from sklr.neural_network._perceptron import PerceptronClassifier

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "CompressedClassifier": {
        "estimator": PerceptronClassifier(
            hidden_layer_sizes=(8,), learning_rate=0.01, max_iter=20, random_state=0
        ),
    },
    # In float64, where weights of samples agree with repeated samples to the check's 1e-7; another
    # test runs the suite with the default. Few epochs.
    "EEGSPDNetClassifier": {
        "n_spatial_filters": 4,
        "n_filters": 3,
        "kernel_size": 5,
        "max_iter": 3,
        "batch_size": 512,
    },
    # The network, of a few units; its closed forms have the suite in a test of their own.
    "InformationKoopman": {
        "encoder": "network",
        "n_components": 3,
        "hidden_layer_sizes": (4,),
        "window": 3,
        "n_neighbors": 1,
        "max_iter": 3,
        "horizon": 3,
    },
    "PerturbedGenerativeModel": {
        "n_components": 1,
        "noise_scale": 0.1,
        "n_quadrature": 20,
        "hidden_layer_sizes": (8,),
        "max_iter": 20,
    },
    "SPDNetClassifier": {"max_iter": 3, "batch_size": 512},
    "AdapterClassifier": {"max_iter": 20, "hidden_layer_sizes": (32,), "dtype": "float64"},
    "SubspaceClassifier": {
        "n_components": 40,
        "hidden_layer_sizes": (16,),
        "max_iter": 40,
        "dtype": "float64",
        "batch_size": 512,
    },
    "GrassmannClassifier": {"max_iter": 15, "dtype": "float64"},
    "MaestroClassifier": {
        "hidden_layer_sizes": (16,),
        "max_iter": 25,
        "learning_rate": 0.01,
        "batch_size": 512,
        "dtype": "float64",
    },
    # In float64, where samples stand for themselves to the checks' 1e-7.
    "LatentSpectralRegressor": {
        "width": 4,
        "n_basis": 3,
        "n_tokens": 2,
        "learning_rate": 0.02,
        "max_iter": 12,
        "dtype": "float64",
    },
    "MorphableClassifier": {
        "hidden_layer_sizes": (16,),
        "max_iter": 25,
        "learning_rate": 0.01,
        "batch_size": 512,
        "dtype": "float64",
    },
    "DynamicSubspaceEmbedding": {
        "n_components": 12,
        "hidden_layer_sizes": (16,),
        "max_iter": 6,
        "growth_patience": 1,
    },
    "LatentQuantizationFilter": {"n_bits": 8, "hidden_layer_sizes": (16,), "max_iter": 5},
    "LieGroupConvClassifier": {
        "n_channels": 2,
        "n_blocks": 1,
        "max_angle": 180.0,
        "augment": None,
        "max_iter": 5,
        "batch_size": 512,
    },
    # Small networks, few epochs, batches that the suite's few samples fill.
    "MMCR": {"n_components": 4, "projector": (8, 4), "batch_size": 8, "n_views": 2, "max_iter": 3},
    "ManifoldLinearizingClustering": {
        "n_clusters": 3,
        "n_components": 8,
        "hidden_dim": 32,
        "augment": "gaussian",
        "warmup_iter": 20,
        "max_iter": 5,
    },
}

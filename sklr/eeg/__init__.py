"""EEG benchmarks through MOABB: pipelines, a simulated dataset, and the main job.

``python -m sklr.eeg`` runs the main job. Everything here needs the extra ``eeg``; it is imported
at first use, so that ``import sklr.eeg`` needs nothing.
"""

import importlib
from typing import Any

_HOMES = {
    "BenchmarkResult": "sklr.eeg._result",
    "SimulatedMotorImagery": "sklr.eeg._simulated",
    "SimulatedSSVEP": "sklr.eeg._simulated",
    "make_pipelines": "sklr.eeg._pipelines",
    "moabb_configs": "sklr.eeg._pipelines",
    "pipelines_folder": "sklr.eeg._pipelines",
    "run_benchmark": "sklr.eeg._benchmark",
}

__all__ = [
    "BenchmarkResult",
    "SimulatedMotorImagery",
    "SimulatedSSVEP",
    "make_pipelines",
    "moabb_configs",
    "pipelines_folder",
    "run_benchmark",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sklr.eeg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

"""Doctests of the torch wing are collected where torch is installed."""

import importlib.util

collect_ignore_glob = []
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob += ["sklr/nn/_*.py", "sklr/neural_network/_*.py"]

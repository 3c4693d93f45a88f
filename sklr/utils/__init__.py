"""Helpers that every subpackage shares."""

from sklr.utils._discovery import all_estimators
from sklr.utils._warm_up import warm_up

__all__ = ["all_estimators", "warm_up"]

"""Discovery finds what is public, once, and nothing else."""

import inspect

import pytest
from sklearn.base import BaseEstimator

from sklr.utils import all_estimators
from sklr.utils._discovery import public_modules, public_objects


def test_public_modules_are_importable_and_not_private():
    names = [module.__name__ for module in public_modules()]
    assert names == sorted(set(names))
    assert {"sklr", "sklr.covariance", "sklr.geometry", "sklr.utils"} <= set(names)
    assert "sklr.utils.estimator_checks" in names
    assert not [name for name in names if "._" in name]


def test_public_objects_are_what_all_says():
    objects = public_objects()
    assert "sklr.covariance.AugmentedCovariance" in objects
    assert "sklr.utils.warm_up" in objects
    for name, item in objects.items():
        assert inspect.isclass(item) or inspect.isfunction(item)
        assert item.__module__.startswith("sklr."), f"{name} is of {item.__module__}"
    # One object has one public name.
    assert len({id(item) for item in objects.values()}) == len(objects)


def test_a_name_that_needs_a_missing_extra_is_passed_over(monkeypatch):
    """And one that is broken otherwise is not."""
    from types import ModuleType

    from sklr.utils import _discovery

    module = ModuleType("sklr.made_up")
    module.__all__ = ["Thing"]
    message = "Thing needs moabb. Install it with: pip install 'sklr[eeg]'"

    def missing(name):
        raise ImportError(message)

    module.__getattr__ = missing
    monkeypatch.setattr(_discovery, "public_modules", lambda: [module])
    assert public_objects() == {}
    message = "a module that is there cannot be imported"
    with pytest.raises(ImportError, match="that is there"):
        public_objects()


def test_every_name_in_all_exists_and_is_sorted():
    for module in public_modules():
        names = list(getattr(module, "__all__", ()))
        assert len(names) == len(set(names)), module.__name__
        assert all(hasattr(module, name) for name in names), module.__name__


def test_all_estimators_like_scikit_learn():
    estimators = all_estimators()
    names = [name for name, _ in estimators]
    assert names == sorted(names) and len(names) == len(set(names))
    assert "AugmentedCovariance" in names
    for name, cls in estimators:
        assert name == cls.__name__
        assert issubclass(cls, BaseEstimator)

"""Everything that is fitted on a network, found by itself: MODULE_CHECKS on each.

A class that a subpackage names in ``__all__`` and that derives from ``ModuleEstimator`` is covered
with that alone. Further settings that deserve the checks go into ``VARIANTS``.
"""

import re
import types
import warnings

import pytest
from sklearn.base import BaseEstimator

from sklr.utils import _discovery, all_estimators, all_module_estimators

# Class name -> further parameters under which the class is checked, beside its defaults.
VARIANTS = {
    "AtomicFeatureMimicking": [{"rank": "global"}],
    "EigenspaceCompensation": [
        {"compressor": "n:m", "scaling": "activation"},
        {"compressor": "magnitude", "center": True},
        {"scaling": None},
    ],
    "EmpiricalFisher": [{"labels": "model"}],
    "FisherWeightedSVD": [{"side": "both"}],
    "LowRankDecomposition": [{"bias": False, "targets": None}],
    "MFACPruner": [{"joint": False, "sparsity": 0.5, "n_recomputations": 2}],
    "WeightSVD": [{"scaling": "activation"}, {"scaling": "whitening"}],
}


def test_a_public_class_is_in_one_of_the_lists():
    """What is in neither would be checked by nothing; the message says what to do."""
    assert not _discovery.unplaced_estimators(), "\n".join(
        _discovery.unplaced_estimators().values()
    )


def test_a_class_that_takes_a_network_first_without_saying_so_is_named(monkeypatch):
    """It is not among the estimators, whose tests would die when they are read."""

    class Pruner(BaseEstimator):
        def fit(self, module, X):
            return self

    package = types.ModuleType("sklr.made_up")
    package.__all__ = ["Pruner"]
    package.Pruner = Pruner
    modules = [*_discovery.public_modules(), package]
    monkeypatch.setattr(_discovery, "public_modules", lambda: modules)
    assert "Pruner" not in dict(all_estimators())
    assert "Pruner" not in dict(all_module_estimators())
    message = _discovery.unplaced_estimators()["Pruner"]
    for word in ("fit takes 'module' first", "ModuleEstimator", "MODULE_CHECKS", "X"):
        assert word in message
    Pruner._fits_modules = True
    assert "Pruner" in dict(all_module_estimators())
    assert not _discovery.unplaced_estimators()


torch = pytest.importorskip("torch", reason="needs the extra 'torch': pip install 'sklr[torch]'")

from sklr._torch._module_first import ModuleEstimator  # noqa: E402
from sklr.nn._module_checks import _checks  # noqa: E402
from sklr.nn._module_checks._cases import MODULE_CASES, case_of  # noqa: E402
from sklr.nn._module_checks._checks import MODULE_CHECKS  # noqa: E402
from sklr.nn.compression import WeightSVD  # noqa: E402
from sklr.nn.compression._base import BaseCompressor  # noqa: E402
from sklr.utils.estimator_checks import instance_for_checks  # noqa: E402


def instances():
    for name, cls in all_module_estimators():
        default = instance_for_checks(cls)
        yield default
        for params in VARIANTS.get(name, []):
            yield instance_for_checks(cls).set_params(**params)


def name_of(item):
    if isinstance(item, str):
        return item
    return item.__name__ if hasattr(item, "__name__") else re.sub(r"\s+", " ", repr(item))


@pytest.mark.parametrize("estimator", list(instances()), ids=name_of)
@pytest.mark.parametrize("check", MODULE_CHECKS, ids=name_of)
def test_module_checks(estimator, check):
    check(estimator)


def test_members_are_found():
    names = dict(all_module_estimators())
    assert names["WeightSVD"] is WeightSVD
    assert set(VARIANTS) <= set(names)
    assert not set(names) & set(dict(all_estimators()))


def test_cases_are_of_every_make():
    names = [case.name for case in MODULE_CASES]
    assert len(names) == len(set(names)) >= 7
    for case in MODULE_CASES:
        one, other = case.make(), case.make()
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))


# Each mistake that the checks are there for, and the check that must find it.


class Good(WeightSVD):
    """Sound; what follows breaks one thing each."""

    def __init__(
        self,
        rank=0.5,
        *,
        scaling="whitening",
        targets=None,
        energy=0.99,
        batch_size=256,
        mask_key="attention_mask",
        verbose=0,
    ):
        super().__init__(
            rank,
            scaling=scaling,
            targets=targets,
            energy=energy,
            batch_size=batch_size,
            mask_key=mask_key,
            verbose=verbose,
        )


class StoresOther(WeightSVD):
    def __init__(self, rank=0.5):
        super().__init__(float(rank) if isinstance(rank, int) else str(rank))


class NotDerived(BaseEstimator):
    def fit(self, module, X=None, y=None):
        return self


class WantsX(Good):
    def fit(self, module, X, y=None):
        return super().fit(module, X)


class ChangesParameter(Good):
    def fit(self, module, X=None, y=None):
        super().fit(module, X)
        self.rank = 2
        return self


class NoRepr(Good):
    def __repr__(self, *args):
        return "?"


class LosesState(Good):
    def __getstate__(self):
        return super().__getstate__() | {"_found": {}}


class SilentVersion(Good):
    def __setstate__(self, state):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__setstate__(state)


class WorksUnfitted(Good):
    def transform(self, module):
        return module


class InPlace(Good):
    def transform(self, module):
        return super().transform(module).train(module.train().training)


class LeavesEvaluation(Good):
    def fit(self, module, X=None, y=None):
        module.eval()
        return super().fit(module, X)


class LeavesGradients(Good):
    def fit(self, module, X=None, y=None):
        module.zero_grad()
        return super().fit(module, X)


class SharesMemory(Good):
    def transform(self, module):
        made = super().transform(module)
        name, last = list(module.named_parameters())[-1]
        made.get_submodule(name.rpartition(".")[0])._parameters[name.rpartition(".")[2]] = last
        return made


class HooksStay(Good):
    def fit(self, module, X=None, y=None):
        handle = next(module.modules()).register_forward_hook(lambda *_: None)
        super().fit(module, X)
        handle.remove()
        return self


class HalfAFit(Good):
    # Without the decorator nothing undoes it.
    def fit(self, module, X=None, y=None):
        self.report_ = []
        return super().fit(module, X)


class Swallows(Good):
    def fit(self, module, X=None, y=None):
        try:
            return super().fit(module, X)
        except BaseException:
            self.report_ = []
            return self


class HookedResult(Good):
    def transform(self, module):
        made = super().transform(module)
        made.register_forward_hook(lambda *_: None)
        return made


class FrozenResult(Good):
    def transform(self, module):
        made = super().transform(module)
        for name, value in made.named_parameters():
            value.requires_grad_(True)
            if "down" in name:
                value.register_hook(lambda g: None)
        for part in made.modules():
            if type(part).__name__ == "LowRankLinear":
                part.forward = lambda x, p=part: p.up(p.down(x).detach())
        return made


class NeverTheSame(Good):
    def _rank_of(self, layer, solution):
        return super()._rank_of(layer, solution) or 1


class LosesTheLastBatch(Good):
    def fit(self, module, X=None, y=None):
        return super().fit(module, X[:-1] if isinstance(X, list) and torch.is_tensor(X[0]) else X)


class CountsPadding(Good):
    def _look(self, run, chosen, X, y):
        self.mask_key = "no_such_mask"
        try:
            return super()._look(run, chosen, X, y)
        finally:
            self.mask_key = "attention_mask"


class VagueRefusal(Good):
    def fit(self, module, X=None, y=None):
        try:
            return super().fit(module, X)
        except ValueError:
            raise ValueError("bad input") from None


class AcceptsNan(Good):
    def fit(self, module, X=None, y=None):
        return super().fit(module, X if X is None else torch.as_tensor(X).nan_to_num())


class Widens(Good):
    def transform(self, module):
        return super().transform(module).double()


class NanFarOut(Good):
    def _look(self, run, chosen, X, y):
        seen = super()._look(run, chosen, X, y)
        for sums in seen.values():
            if hasattr(sums.sums, "mean") and float(sums.sums.mean.abs().max()) > 1e4:
                sums.sums._products = sums.sums._products * float("nan")
        return seen


class InferenceTensors(Good):
    def transform(self, module):
        made = super().transform(module)
        if torch.is_inference_mode_enabled():
            for part in made.modules():
                for name, value in list(part._parameters.items()):
                    if value is not None:
                        part._parameters[name] = torch.nn.Parameter(value.clone())
        return made


class SeedsGlobally(Good):
    def fit(self, module, X=None, y=None):
        torch.manual_seed(0)
        return super().fit(module, X)


class Random(Good):
    def transform(self, module):
        made = super().transform(module)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.seed()
            next(made.parameters()).mul_(1 + 0.01 * torch.rand(1).double().to(torch.float64).item())
        return made


class Miscounts(Good):
    def fit(self, module, X=None, y=None):
        super().fit(module, X)
        self.n_params_after_ += 1
        return self


class NoReasons(Good):
    def fit(self, module, X=None, y=None):
        super().fit(module, X)
        for row in self.report_:
            row["reason"] = ""
        return self


class LosesPadding(Good):
    def transform(self, module):
        made = super().transform(module)
        for part in made.modules():
            if getattr(part, "padding_row", None) is not None:
                part.padding_row = part.padding_row + 1
        return made


@pytest.mark.parametrize(
    "broken, check, message",
    [
        (StoresOther, "init_only_stores", "does more than store"),
        (NotDerived, "model_first", "does not derive"),
        (WantsX, "model_first", "not (module, X=None, y=None)"),
        (ChangesParameter, "parameters", "fit changes a parameter"),
        (NoRepr, "representations", ""),
        (LosesState, "pickles", ""),
        (SilentVersion, "pickles", "without a warning"),
        (WorksUnfitted, "not_fitted", "works before fit"),
        (InPlace, "module_untouched", "is changed"),
        (LeavesEvaluation, "module_untouched", "is changed"),
        (LeavesGradients, "module_untouched", "is changed"),
        (SharesMemory, "module_untouched", "is changed"),
        (HooksStay, "module_untouched_on_failure", "is changed"),
        (HalfAFit, "module_untouched_on_failure", "report_"),
        (Swallows, "module_untouched_on_failure", "is swallowed"),
        (HookedResult, "result_is_plain", ""),
        (FrozenResult, "result_is_plain", ""),
        (NeverTheSame, "nothing_to_do", ""),
        (LosesTheLastBatch, "batch_forms", "tensors"),
        (CountsPadding, "padding", "differs by"),
        (VagueRefusal, "refusals", "bad input"),
        (AcceptsNan, "refusals", ""),
        (Widens, "dtypes", "becomes one of"),
        (NanFarOut, "sums_in_float64", ""),
        (InferenceTensors, "callers_settings", "inference_mode"),
        (SeedsGlobally, "global_state", "torch's generator"),
        (Random, "repeatable", "differs by"),
        (Miscounts, "report_counts", "parameters are there"),
        (NoReasons, "report_counts", ""),
        (LosesPadding, "layer_zoo", "padding"),
    ],
    ids=name_of,
)
def test_module_checks_find_mistakes(broken, check, message):
    with pytest.raises(
        (AssertionError, AttributeError, TypeError, ValueError, RuntimeError),
        match=re.escape(message) or None,
    ):
        getattr(_checks, f"check_{check}")(broken())


def test_every_check_is_known_to_fail_on_something():
    marks = test_module_checks_find_mistakes.pytestmark[0].args[1]
    assert {f"check_{check}" for _, check, _ in marks} == {c.__name__ for c in MODULE_CHECKS}


@pytest.mark.parametrize("check", MODULE_CHECKS[1:], ids=name_of)
def test_module_checks_pass_on_a_good_estimator(check):
    check(Good())


def test_a_method_that_can_replace_no_layer_of_the_networks_is_not_green():
    class Nothing(Good):
        _kinds = ("NoSuchKind",)

    with pytest.raises(AssertionError, match="on none of the networks"):
        _checks.check_layer_zoo(Nothing())


def test_failures_name_the_network():
    with pytest.raises(AssertionError) as caught:
        _checks.check_report_counts(Miscounts())
    assert caught.value.__notes__ == ["network: perceptron"]


def test_base_is_what_routers_leave_alone():
    assert issubclass(BaseCompressor, ModuleEstimator)
    estimator = WeightSVD()
    assert not hasattr(estimator, "set_fit_request")
    assert not hasattr(estimator, "set_transform_request")
    network = case_of("perceptron").make()
    made = estimator.fit_transform(network)
    wanted = estimator.fit(network).transform(network)
    assert all(torch.equal(p, q) for p, q in zip(made.parameters(), wanted.parameters()))

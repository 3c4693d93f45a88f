"""What the caller may have set before, and what may be given by mistake."""

import threading

import numpy as np
import pytest
from sklearn.datasets import make_classification

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, TensorDataset  # noqa: E402

from sklr._torch._device import plain_defaults  # noqa: E402
from sklr.neural_network import (  # noqa: E402
    MMCR,
    GrassmannClassifier,
    ManifoldLinearizingClustering,
    ProgressPrinter,
)
from sklr.nn import (  # noqa: E402
    GaussianNoise,
    GrassmannLinear,
    RandomViews,
    coding_rate,
    compressed_coding_rate,
)

X, Y = make_classification(90, 6, n_informative=4, n_classes=3, random_state=0)


def fitted(case, **options):
    estimator, samples, labels = case
    return type(estimator)(**estimator.get_params() | options).fit(samples, labels)


def scores(fit, samples):
    methods = ("predict_proba", "transform", "predict")
    return getattr(fit, next(name for name in methods if hasattr(fit, name)))(samples)


GRASSMANN = GrassmannClassifier(2, max_iter=3, random_state=0), X, Y
SMALL_MMCR = MMCR(8, max_iter=3, batch_size=32, random_state=0), X, None
CLUSTERING = (
    ManifoldLinearizingClustering(
        3, 8, hidden_dim=16, warmup_iter=3, max_iter=2, batch_size=32, random_state=0
    ),
    X,
    None,
)


def test_the_device_meta_is_no_device(torch_case):
    with pytest.raises(ValueError, match="device='meta' does not exist here, or computes nothing"):
        fitted(torch_case, device="meta")


def test_a_default_device_of_the_caller_is_left_out(torch_case):
    wanted = fitted(torch_case)
    with torch.device("meta"):
        found = fitted(torch_case)
        shown = scores(found, torch_case[1])
    assert found.loss_curve_ == wanted.loss_curve_
    np.testing.assert_array_equal(shown, scores(wanted, torch_case[1]))


def test_a_default_dtype_of_the_caller_is_left_out(torch_case):
    """First weights are drawn in it: one seed would mean several networks."""
    wanted = fitted(torch_case)
    torch.set_default_dtype(torch.float64)
    try:
        found = fitted(torch_case)
        shown = scores(found, torch_case[1])
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.loss_curve_ == wanted.loss_curve_
    np.testing.assert_array_equal(shown, scores(wanted, torch_case[1]))


def test_the_default_dtype_is_put_back_when_fits_overlap_in_threads():
    inside, leave = threading.Event(), threading.Event()

    def first():
        with plain_defaults():
            inside.set()
            leave.wait(10)

    torch.set_default_dtype(torch.float64)
    try:
        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(10)
        with plain_defaults():
            leave.set()
            thread.join(10)
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_mixed_precision_of_the_caller_learns_as_well(torch_case):
    """autocast keeps copies of the weights until its block ends: they must not be used."""
    whole = fitted(torch_case).loss_curve_
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fitted(torch_case).loss_curve_
    np.testing.assert_allclose(mixed[:3], whole[:3], rtol=0.03, atol=0.03)
    # Roundings add up, on each processor to something else; with old weights nothing is learned.
    learned = abs(whole[0] - whole[-1])
    np.testing.assert_allclose(mixed, whole, rtol=0.03, atol=max(0.03, learned / 10))
    if torch_case[0]._dtypes()[0] == "float32":
        assert mixed != whole


def test_mixed_precision_inside_one_block_sees_new_weights():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = MMCR(8, module=nn.Linear(6, 8), max_iter=1, batch_size=32, random_state=0)
        model.partial_fit(X)
        before = model.score(X), model.transform(X)
        model.partial_fit(X)
        after = model.score(X), model.transform(X)
    assert before[0] != after[0] and np.abs(before[1] - after[1]).max() > 1e-4


def test_subspaces_of_the_data_learn_the_same_in_mixed_precision():
    wanted = fitted(GRASSMANN, hidden_layer_sizes=()).loss_curve_
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fitted(GRASSMANN, hidden_layer_sizes=()).loss_curve_
    np.testing.assert_allclose(found, wanted, rtol=2e-3)  # gradients are in half precision


def test_losses_and_head_stay_exact_in_mixed_precision():
    z = nn.functional.normalize(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    share = torch.full((20, 20), 1 / 20)
    head = GrassmannLinear(4, 3, 2)
    wanted = coding_rate(z), compressed_coding_rate(z, share), head(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = coding_rate(z), compressed_coding_rate(z, share), head(z)
        half = head(z.bfloat16())
    for a, b in zip(found, wanted):
        assert torch.equal(a, b)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted[2], rtol=0, atol=0.05)


class Endless(Dataset):
    """NumPy would read samples without end: it says how many it has, and never stops."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.zeros(6), 0


def test_datasets_and_loaders_are_refused_with_advice(torch_case):
    estimator, samples, labels = torch_case
    pairs = TensorDataset(torch.as_tensor(samples), torch.arange(len(samples)))
    for given in (Endless(), pairs, DataLoader(pairs, batch_size=4), (row for row in samples)):
        with pytest.raises(TypeError, match="X must be an array, got .*stack its samples"):
            estimator.fit(given, labels)


@pytest.mark.parametrize("wrong", ["x", ProgressPrinter])
def test_callbacks_that_nothing_would_call_are_refused(torch_case, wrong):
    with pytest.raises(TypeError, match="callbacks must be objects with one of on_fit_begin"):
        fitted(torch_case, callbacks=[wrong])


@pytest.mark.parametrize("value", [-1, np.nan, np.inf, None, "a"])
def test_weights_of_classes_are_checked(value):
    with pytest.raises(ValueError, match="class_weight must have finite weights of at least 0"):
        fitted(GRASSMANN, class_weight={0: value})


def test_early_stopping_without_room_for_it_is_refused():
    model = GrassmannClassifier(2, early_stopping=True)
    with pytest.raises(ValueError, match=r"early_stopping cannot set .* give X_val"):
        model.fit(X, np.r_[np.zeros(89), 1])
    with pytest.raises(ValueError, match=r"validation_fraction=0.001 of n_samples=90"):
        model.set_params(validation_fraction=0.001).fit(X, Y)


def test_a_batch_of_one_has_nothing_to_cluster():
    with pytest.raises(ValueError, match="batch_size=1 has no other sample"):
        fitted(CLUSTERING, batch_size=1)


def test_weights_of_another_kind_are_refused(tmp_path):
    fit = fitted(GRASSMANN)
    wanted = fit.predict_proba(X)
    state = {name: value.clone() for name, value in fit.module_.state_dict().items()}
    kinds = {
        "complex": lambda v: v.to(torch.complex64),
        "whole": lambda v: v.long(),
        "bool": lambda v: v > 0,
        "sparse": lambda v: v.to_sparse(),
        "meta": lambda v: v.to("meta"),
    }
    path = tmp_path / "weights.pt"
    for change in kinds.values():
        torch.save({name: change(value) for name, value in state.items()}, path)
        with pytest.raises(ValueError, match="in the weights is of torch.* cannot become"):
            fit.load_weights(path)
    torch.save(state | {"head.weight": 3 * state["head.weight"]}, path)
    with pytest.raises(ValueError, match="head.weight in the weights has no orthonormal columns"):
        fit.load_weights(path)
    np.testing.assert_array_equal(fit.predict_proba(X), wanted)
    torch.save({name: value.half() for name, value in state.items()}, path)
    np.testing.assert_allclose(fit.load_weights(path).predict_proba(X), wanted, atol=0.01)


def test_a_missing_safetensors_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    fit = fitted(GRASSMANN)
    with pytest.raises(ImportError, match="need the package safetensors"):
        fit.save_weights(tmp_path / "w.safetensors")
    with pytest.raises(ImportError, match="need the package safetensors"):
        fit.load_weights(tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_score_of_mmcr_has_the_same_scale_with_any_weight_of_the_views():
    """1 where views coincide and samples are orthogonal, also with the second term."""
    eye = np.eye(6).repeat(4, axis=0)
    options = {"module": nn.Identity(), "projector": (6,), "augment": None, "batch_size": 6}
    for lmbda in (0.0, 1.0, 20.0):
        model = MMCR(lmbda=lmbda, max_iter=1, random_state=0, **options)
        model.fit(eye, groups=np.arange(24) // 4)
        with torch.no_grad():
            model.projector_[-1].weight.copy_(torch.eye(6))
        assert model.score(eye, groups=np.arange(24) // 4) == pytest.approx(1.0, abs=1e-5)
        assert model.score(X[:24], groups=np.arange(24) // 4) < 1.0


def test_views_are_taken_from_random_views_and_wrong_ones_refused():
    noise = GaussianNoise(0.1)
    wanted = fitted(SMALL_MMCR, augment=noise)
    for n_views in (1, 4):
        found = fitted(SMALL_MMCR, augment=RandomViews(noise, n_views))
        assert found.loss_curve_ == wanted.loss_curve_
    with pytest.raises(ValueError, match="augment makes n_views=3 .* n_views is 4"):
        fitted(SMALL_MMCR, augment=RandomViews(noise, 3))
    with pytest.raises(ValueError, match=r"augment must keep the shape of samples, \(6,\)"):
        fitted(SMALL_MMCR, augment=lambda x, generator: x[:, :3])
    with pytest.raises(TypeError, match="must return a tensor, got ndarray"):
        fitted(SMALL_MMCR, augment=lambda x, generator: x.numpy())
    with pytest.raises(ValueError, match="groups contains NaN"):
        MMCR().fit(X, groups=np.full(90, np.nan))

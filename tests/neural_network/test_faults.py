"""Faults that were silent, or said the wrong thing: files, units, learning rates, short trials."""

import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")


from sklr._torch._errors import DivergedError  # noqa: E402
from sklr.neural_network import (  # noqa: E402
    MMCR,
    EEGSPDNetClassifier,
    GrassmannClassifier,
    SPDNetClassifier,
)
from sklr.nn import BiMap, GrassmannLinear, LogEig, SPDBatchNormBW, mmcr_loss  # noqa: E402
from sklr.utils.estimator_checks import make_check_data  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
Y = (X[:, 0] > 0).astype(int)
TRIALS = RNG.standard_normal((60, 3, 30))
EEG = {"n_spatial_filters": 3, "n_filters": 2, "kernel_size": 3, "max_iter": 2, "random_state": 0}


def test_weights_that_the_networks_type_cannot_hold_are_refused(tmp_path):
    """Converted first, then looked at: 1e300 is finite in a file and not in the network."""
    fit = GrassmannClassifier(2, max_iter=1, random_state=0).fit(X, Y)
    wanted, path = fit.predict_proba(X), tmp_path / "w.pt"
    state = fit.module_.state_dict()
    name = "features.network.0.weight"
    torch.save(state | {name: torch.full_like(state[name], 1e300, dtype=torch.float64)}, path)
    with pytest.raises(ValueError, match=f"{name} .* not finite in torch.float32"):
        fit.load_weights(path)
    torch.save(state | {name: state[name].to(torch.float8_e4m3fn)}, path)
    fit.load_weights(path)  # little precision, and numbers all the same
    bad = state[name].clone()
    bad[0, 0] = torch.nan
    torch.save(state | {name: bad.to(torch.float8_e4m3fn)}, path)
    with pytest.raises(ValueError, match="not finite"):
        fit.load_weights(path)
    fit = GrassmannClassifier(2, max_iter=1, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(fit.predict_proba(X), wanted)


def test_a_file_that_unpacks_to_more_than_the_network_is_refused_unread(tmp_path):
    fit = GrassmannClassifier(2, max_iter=1, random_state=0).fit(X, Y)
    path = tmp_path / "zeros.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**26))
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match=r"zeros.pt is refused: it unpacks to 67108864 bytes"):
        fit.load_weights(path)


def test_files_of_former_versions_have_a_variance_without_axes(tmp_path):
    matrices, labels = make_check_data(SPDNetClassifier())
    fit = SPDNetClassifier(max_iter=1, random_state=0).fit(matrices, labels)
    state = fit.module_.state_dict()
    former = {k: v.reshape(()) if k.endswith("running_var") else v for k, v in state.items()}
    torch.save(former, tmp_path / "former.pt")
    wanted = fit.predict_proba(matrices)
    np.testing.assert_array_equal(
        fit.load_weights(tmp_path / "former.pt").predict_proba(matrices), wanted
    )
    layer = SPDBatchNormBW(3)
    layer.load_state_dict(layer.state_dict() | {"running_var": torch.tensor(2.0)})
    assert layer.running_var.tolist() == [2.0]


def test_trials_too_short_for_a_covariance_are_refused():
    fit = EEGSPDNetClassifier(**EEG).fit(TRIALS, Y)
    with pytest.raises(ValueError, match="a covariance needs at least 2 time samples, got 1"):
        fit.predict_proba(TRIALS[:1, :, :1])
    with pytest.raises(ValueError, match="at least 2 time samples"):
        EEGSPDNetClassifier(**EEG).fit(TRIALS[:, :, :1], Y)


@pytest.mark.parametrize("rate", [30.0, 1e6, 1e300])
@pytest.mark.parametrize("kind", [SPDNetClassifier, EEGSPDNetClassifier, GrassmannClassifier, MMCR])
def test_a_learning_rate_that_is_too_large_is_named(kind, rate):
    """Or the fit goes through; what is never said is that the matrices are at fault."""
    options = {EEGSPDNetClassifier: EEG, SPDNetClassifier: {"norm": "gbw"}}.get(kind, {})
    if kind is MMCR:
        options = {"n_components": 4, "projector": (4,), "batch_size": 16}
    model = kind(**options | {"max_iter": 4, "random_state": 0, "learning_rate": rate})
    samples, labels = make_check_data(model, 60)
    try:
        model.fit(samples, labels)
    except ValueError as exc:
        assert "learning_rate" in str(exc) and f"{rate:g}" in str(exc), str(exc)
        assert "identity to the matrices" not in str(exc)
    else:
        assert rate < 1e300


def test_matrices_that_are_singular_before_any_step_are_named():
    layer = SPDBatchNormBW(3)
    with pytest.raises(DivergedError, match="singular or not finite .*add a small multiple"):
        layer(torch.zeros(4, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150])
def test_units_out_of_reach_are_said(scale):
    with pytest.raises(ValueError, match="standard deviation of X is .*another unit"):
        EEGSPDNetClassifier(**EEG).fit(scale * TRIALS, Y)
    message = "which is zero in float32" if scale < 1 else "infinity or a value too large"
    for model in (GrassmannClassifier(2, max_iter=1), MMCR(4, batch_size=8, max_iter=1)):
        with pytest.raises(ValueError, match=message):
            model.fit(scale * X, Y)


def test_units_far_from_one_are_warned_of_at_the_callers_line():
    for scale in (1e-6, 1e6):
        with pytest.warns(UserWarning, match=r"scale them first \(StandardScaler\)") as caught:
            MMCR(4, batch_size=8, max_iter=1, random_state=0).fit(scale * X)
        assert {warning.filename for warning in caught} == {__file__}


def test_half_precision_tensors_are_samples():
    wanted = GrassmannClassifier(2, max_iter=2, random_state=0)
    given = torch.tensor(X).bfloat16()
    found = GrassmannClassifier(2, max_iter=2, random_state=0).fit(given, Y)
    wanted.fit(given.float().numpy(), Y)
    np.testing.assert_array_equal(found.predict_proba(given), wanted.predict_proba(given.float()))


@pytest.mark.parametrize("exponent", [-37, -30, -13, 0, 18, 19, 30, 38])
def test_the_loss_of_mmcr_does_not_depend_on_the_length_of_embeddings(exponent):
    """In single precision squares overflow from 2e19 on."""
    z = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    wanted = mmcr_loss(z, 2)
    given = (z.double() * 10.0**exponent).clamp(-3e38, 3e38).float().requires_grad_()
    found = mmcr_loss(given, 2)
    tolerance = 1e-2 if exponent in (-37, 38) else 1e-5  # subnormal numbers; clipped ones
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=0)
    found.backward()
    assert bool(given.grad.isfinite().all()) and bool((given.grad != 0).any())


def test_bilinear_maps_have_orthonormal_rows_also_of_dependent_parameters():
    layer = BiMap(4, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.rows.copy_(torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
    torch.testing.assert_close(layer.weight @ layer.weight.mT, torch.eye(2).double())


def test_the_logarithm_of_an_indefinite_matrix_is_refused_without_a_floor():
    indefinite = torch.stack([torch.eye(2), torch.diag(torch.tensor([-1.0, 1.0]))])
    with pytest.raises(ValueError, match="matrix 1 is indefinite .*from -1 to 1.*floor"):
        LogEig()(indefinite)
    assert bool(LogEig(floor=1e-3)(indefinite).isfinite().all())
    rounded = torch.diag(torch.tensor([-1e-9, 1.0]))
    assert bool(LogEig()(rounded).isfinite().all())


def test_targets_that_are_left_out_are_so_in_training_too():
    head = GrassmannLinear(4, 3, 2)
    features, target = torch.randn(6, 4), torch.tensor([0, 1, -100, 2, -100, 0])
    with torch.no_grad():
        wanted = head.cross_entropy(features, target)
    found = head.cross_entropy(features.requires_grad_(), target)
    torch.testing.assert_close(found, wanted)
    found.backward()
    assert not bool(features.grad[target == -100].any())
    with pytest.raises(ValueError, match="target must have numbers from 0 to 2, or -100"):
        head.cross_entropy(features, torch.tensor([0, 1, 3, 2, -100, 0]))

"""Convolutions over the plane and a group: symmetries to rounding, sums by hand, the measure."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.geometry import polar_exp, sample_group  # noqa: E402
from sklr.nn import GlobalGroupPool, GroupConv2d, GroupPool2d, LiftingConv2d  # noqa: E402
from sklr.nn._lie._filters import element_basis, place_basis, places, window  # noqa: E402
from sklr.nn._lie._network import _LieNetwork  # noqa: E402

QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
SHEAR = np.array([[1.1, 0.4], [-0.1, 0.9]])
ORBIT = np.array([np.linalg.matrix_power(QUARTER, j) @ SHEAR for j in range(4)])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(layer, *args, **options):
    torch.manual_seed(0)
    built = layer(*args, **options).double()
    if getattr(built, "elements", None) is not None:
        built.set_elements(args[0])  # in double precision
        torch.nn.init.normal_(built.bias)
    return built


def turned(F):
    """A quarter turn of images, which permutes the elements of an orbit."""
    return torch.rot90(F, 1, (-2, -1)).roll(-1, dims=2)


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("mask", ["disc", "smooth"])
@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("kernel_size", [4, 5])
def test_quarter_turns_are_exact_through_all_layers(size, mask, separable, kernel_size):
    lift = made(LiftingConv2d, ORBIT, 2, 3, kernel_size, mask=mask)
    conv = made(GroupConv2d, ORBIT, 3, 4, 3, mask=mask, separable=separable, padding=1)
    f = normal(2, 2, size, size)
    with torch.no_grad():
        first, second = lift(f), lift(torch.rot90(f, 1, (-2, -1)))
        assert_allclose(second, turned(first), atol=1e-12)
        first, second = conv(first), conv(second)
        assert_allclose(second, turned(first), atol=1e-12)
        assert float((first - turned(first)).abs().max()) > 0.1
        first, second = GroupPool2d()(first), GroupPool2d()(second)
        assert_allclose(second, turned(first), atol=1e-12)
        for kind in ("max", "mean"):
            assert_allclose(GlobalGroupPool(kind)(second), GlobalGroupPool(kind)(first), atol=1e-12)


@pytest.mark.parametrize("side", [6, 9, 15, 16, 28, 29])
def test_the_network_is_invariant_to_quarter_turns_at_any_side(side):
    H = sample_group("gl2", 8, random_state=0)
    torch.manual_seed(0)
    options = {"n_channels": 2, "kernel_size": 7, "n_blocks": 2, "pool": "max", "dropout": 0.0}
    network = _LieNetwork((1, side, side), 3, H, **options).double().eval()
    network.set_elements(H)
    f = normal(2, 1, side, side)
    with torch.no_grad():
        logits = network(f)
        assert_allclose(network(torch.rot90(f, 1, (-2, -1))), logits, atol=1e-12)
        assert float((network(f.flip(-1)) - logits).abs().max()) > 1e-3


@pytest.mark.parametrize("separable", [True, False])
def test_whole_pixels_of_translation_are_exact(separable):
    lift = made(LiftingConv2d, ORBIT, 1, 3, 5)
    conv = made(GroupConv2d, ORBIT, 3, 2, 3, separable=separable)
    f = torch.zeros(1, 1, 20, 20, dtype=torch.float64)
    f[:, :, 6:12, 6:12] = normal(1, 1, 6, 6)
    with torch.no_grad():
        first, second = conv(lift(f)), conv(lift(f.roll((2, -1), dims=(2, 3))))
    inner = first.roll((2, -1), dims=(3, 4))[..., 3:-3, 3:-3]
    assert_allclose(second[..., 3:-3, 3:-3], inner, atol=1e-12)


@pytest.mark.parametrize("separable", [True, False])
def test_sums_are_those_of_the_formula(separable):
    """Loops over elements and pixels, with the kernel evaluated at each pair."""
    outputs = sample_group("gl2", 3, random_state=0)
    inputs = sample_group("gl2", 2, random_state=1)
    conv = made(GroupConv2d, outputs, 2, 3, 3, in_elements=inputs, separable=separable, order=2)
    conv.set_elements(outputs, inputs)
    f = normal(1, 2, 2, 3, 3)
    wanted = np.zeros((3, 3))
    for n, g in enumerate(outputs):
        for m, h in enumerate(inputs):
            by_element = element_basis(g[None], h[None], 2)[0, 0]
            for i in range(3):
                for j in range(3):
                    at = np.linalg.solve(g, [2 * j / 3 - 2 / 3, 2 * i / 3 - 2 / 3])
                    by_place = place_basis(at, "smooth")
                    if separable:
                        K = np.einsum("b,bo->o", by_place, conv.spatial.detach())[:, None]
                        K = K * np.einsum("d,doc->oc", by_element, conv.mixing.detach())
                    else:
                        K = np.einsum("b,d,bdoc->oc", by_place, by_element, conv.weight.detach())
                    wanted[:, n] += K @ f[0, :, m, i, j].numpy() / np.linalg.det(h) / 2
    with torch.no_grad():
        found = conv(f)[0, :, :, 0, 0] - conv.bias[:, None]
        assert_allclose(found, wanted, atol=1e-12)
        lift = made(LiftingConv2d, outputs, 2, 3, 3)
        image = f[:, :, 0]
        found = lift(image)[0, :, :, 0, 0] - lift.bias[:, None]
    for n, g in enumerate(outputs):
        ticks = np.array([-2, 0, 2]) / 3
        at = np.stack(np.meshgrid(ticks, ticks), axis=-1) @ np.linalg.inv(g).T
        K = np.einsum("ijb,boc->ocij", place_basis(at, "smooth"), lift.weight.detach())
        sums = np.einsum("ocij,cij->o", K, image[0].numpy()) / np.linalg.det(g)
        assert_allclose(found[:, n], sums, atol=1e-12)


def test_the_kernel_is_the_plain_convolution_that_the_layer_is():
    for separable in (True, False):
        conv = made(GroupConv2d, ORBIT, 2, 3, 3, separable=separable, padding=1)
        f = normal(2, 2, 4, 5, 6)
        with torch.no_grad():
            plain = torch.nn.functional.conv2d(f.flatten(1, 2), conv.kernel(), padding=1)
            assert_allclose(conv(f) - conv.bias[:, None, None, None], plain.unflatten(1, (3, 4)))


def test_a_constant_kernel_sees_the_invariant_measure():
    """Each input element is weighed by its own determinant, not by that of the output."""
    H = sample_group("gl2", 8, spread=0.4, random_state=3)
    conv = made(GroupConv2d, H, 1, 1, 5, mask="disc")
    inside = window(places(H, 5), "disc")
    measure = conv.by_element[..., :1] / torch.tensor(element_basis(H, H, 3)[..., :1])
    conv.by_place, conv.by_element = torch.tensor(inside[..., None]), measure
    conv.spatial = torch.nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    conv.mixing = torch.nn.Parameter(torch.ones(1, 1, 1, dtype=torch.float64))
    f = torch.tensor(np.linalg.det(H))[None, None, :, None, None].expand(1, 1, 8, 5, 5)
    with torch.no_grad():
        found = conv(f)[0, 0, :, 0, 0] - conv.bias
    assert_allclose(found, inside.sum(axis=(1, 2)), atol=1e-12)
    assert len(np.unique(inside.sum(axis=(1, 2)))) > 1


def test_errors_of_general_maps_fall_with_the_resolution():
    """A smooth image under a map, seen by mapped elements: the same up to pixels."""
    H = polar_exp([[0.1, 0.15], [0.15, -0.2]], 0.5)
    g = sample_group("gl2", 6, random_state=0) * 0.6

    def image(x, y):
        return np.exp(-((x - 0.2) ** 2) / 0.1) * np.cos(3 * y) + 0.3 * x * y

    errors = []
    for size in (8, 16, 32):
        ticks = (2 * np.arange(size) + 1) / size - 1
        at = np.stack(np.meshgrid(ticks, ticks), axis=-1)
        back = at @ np.linalg.inv(H).T
        lift = made(LiftingConv2d, g, 1, 2, size)
        pixels = [torch.tensor(image(p[..., 0], p[..., 1]))[None, None] for p in (at, back)]
        with torch.no_grad():
            first = lift(pixels[0]) / size**2
            lift.set_elements(H @ g)
            second = lift(pixels[1]) / size**2
        errors.append(float((first - second).norm() / first.norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 1e-3


def test_the_number_of_parameters_does_not_depend_on_the_number_of_elements():
    few, many = sample_group("gl2", 4, random_state=0), sample_group("gl2", 12, random_state=1)
    for layer, args in ((LiftingConv2d, (1, 3)), (GroupConv2d, (2, 3))):
        first, second = made(layer, few, *args), made(layer, many, *args)
        shapes = [[p.shape for p in built.parameters()] for built in (first, second)]
        assert shapes[0] == shapes[1]
    first.set_elements(many)
    assert first(normal(1, 2, 12, 9, 9)).shape == (1, 3, 12, 3, 3)


def test_outputs_have_about_the_variance_of_inputs():
    H = sample_group("gl2", 8, random_state=0)
    with torch.no_grad():
        out = made(LiftingConv2d, H, 3, 40, 7, bias=True)(normal(4, 3, 20, 20))
        assert 0.3 < float(out.std()) < 3
        for separable in (True, False):
            conv = made(GroupConv2d, H, 8, 40, 7, separable=separable)
            out = conv(normal(2, 8, 8, 12, 12, seed=1)) - conv.bias[:, None, None, None]
            assert 0.2 < float(out.std()) < 5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: LiftingConv2d(np.eye(2), 1, 2), r"elements must have shape \(n_elements, 2, 2\)"),
        (
            lambda: LiftingConv2d([np.diag([1.0, -1.0])], 1, 2),
            "positive determinants, the least is -1",
        ),
        (lambda: LiftingConv2d([np.full((2, 2), np.nan)], 1, 2), "finite"),
        (lambda: LiftingConv2d(ORBIT, 0, 2), "in_channels"),
        (lambda: LiftingConv2d(ORBIT, 1, 2, 2.5), "kernel_size"),
        (lambda: LiftingConv2d(ORBIT, 1, 2, mask="square"), "mask"),
        (lambda: GroupConv2d(ORBIT, 1, 2, in_elements=np.zeros((1, 2, 2))), "in_elements"),
        (lambda: GroupConv2d(ORBIT, 1, 2, order=-1), "order"),
        (lambda: GlobalGroupPool("min"), "kind"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

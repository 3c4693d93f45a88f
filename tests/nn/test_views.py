"""Random views: order, seeds, and what each augmentation does at its limits."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import FeatureDropout, GaussianNoise, RandomAffine2d, RandomViews  # noqa: E402

STILL = {"degrees": 0, "scale": (1, 1), "shear": 0, "translate": 0, "intensity": (1, 1)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=3, channels=2, height=9, width=12):
    return torch.rand(n, channels, height, width, generator=seeded(1))


def test_views_of_a_sample_are_adjacent_and_differ():
    x = 100.0 * torch.arange(4.0)[:, None].expand(4, 3)
    views = RandomViews([GaussianNoise(0.1), FeatureDropout(0.0)], n_views=5)(x, seeded())
    stack = views.reshape(4, 5, 3)
    assert (stack - x[:, None]).abs().max() < 1
    assert torch.unique(stack[2], dim=0).shape[0] == 5


@pytest.mark.parametrize(
    "augmentation, x",
    [
        (GaussianNoise(), torch.zeros(4, 3)),
        (FeatureDropout(), torch.ones(4, 3)),
        (RandomAffine2d(), images()),
    ],
)
def test_seeds_and_global_generator_and_input(augmentation, x):
    before, state = x.clone(), torch.random.get_rng_state()
    one, same, other = (augmentation(x, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert augmentation(x.double(), seeded()).dtype == torch.float64
    torch.testing.assert_close(augmentation(x.double(), seeded()).float(), one)
    assert augmentation(x).shape == x.shape  # torch's own generator
    assert isinstance(repr(augmentation), str)


def test_affine_map_at_rest_is_the_identity():
    x = images()
    torch.testing.assert_close(RandomAffine2d(**STILL)(x, seeded()), x, rtol=1e-5, atol=1e-5)


def test_intensity_is_one_gain_an_image():
    x = images() + 0.5
    ratio = RandomAffine2d(**STILL | {"intensity": (0.5, 2.0)})(x, seeded()) / x
    gains = ratio.flatten(1)
    assert (gains.std(dim=1) < 1e-5).all()
    assert gains.min() >= 0.5 and gains.max() <= 2.0 and gains[:, 0].std() > 0.01


def centre(x):
    """Centre of mass of each image in pixels (down, across)."""
    mass = x.sum(dim=(1, 2, 3))
    rows, columns = torch.arange(x.shape[2]), torch.arange(x.shape[3])
    down = (x.sum(dim=(1, 3)) * rows).sum(1) / mass
    across = (x.sum(dim=(1, 2)) * columns).sum(1) / mass
    return torch.stack([down, across], dim=1)


def blob(n, height=41, width=61, sigma=2.0, at=(0.0, 0.0)):
    down = torch.arange(height)[:, None] - (height - 1) / 2 - at[0]
    across = torch.arange(width) - (width - 1) / 2 - at[1]
    return torch.exp(-(down**2 + across**2) / (2 * sigma**2)).expand(n, 1, height, width)


def test_translation_is_a_part_of_the_image():
    moved = RandomAffine2d(**STILL | {"translate": 0.2})(blob(400), seeded())
    shift = (centre(moved) - centre(blob(1))).abs()
    assert shift[:, 0].max() <= 0.2 * 41 + 0.05 and shift[:, 0].max() > 0.18 * 41
    assert shift[:, 1].max() <= 0.2 * 61 + 0.05 and shift[:, 1].max() > 0.18 * 61


def test_rotation_keeps_lengths_also_in_oblong_images():
    x = blob(200, at=(0.0, 14.0))
    turned = RandomAffine2d(**STILL | {"degrees": 45})(x, seeded())
    place = centre(turned) - torch.tensor([20.0, 30.0])
    torch.testing.assert_close(place.norm(dim=1), torch.full((200,), 14.0), rtol=0, atol=0.05)
    angle = torch.rad2deg(torch.atan2(place[:, 0], place[:, 1]))
    assert angle.abs().max() <= 45.2 and angle.max() > 40 and angle.min() < -40


def test_scale_magnifies():
    x = blob(200, sigma=4.0)
    grown = RandomAffine2d(**STILL | {"scale": (1.5, 1.5)})(x, seeded())
    # The mass of an image grows by the factors of both axes.
    ratio = grown.sum(dim=(1, 2, 3)) / x.sum(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, torch.full((200,), 2.25), rtol=0.01, atol=0)


def test_flat_rows_are_images_too():
    x = images(channels=1, height=8, width=8)
    flat = RandomAffine2d(image_shape=(1, 8, 8))(x.flatten(1), seeded())
    torch.testing.assert_close(flat.reshape(x.shape), RandomAffine2d()(x, seeded()))


def test_dropout_and_noise_do_what_they_say():
    fill = torch.tensor([5.0, 6.0])
    x = FeatureDropout(0.3, fill)(torch.zeros(5000, 2), seeded())
    hidden = x != 0
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(x[hidden], fill.expand(5000, 2)[hidden])
    noise = GaussianNoise(torch.tensor([0.0, 2.0]))(torch.zeros(5000, 2), seeded())
    assert noise[:, 0].abs().max() == 0
    assert noise[:, 1].std().item() == pytest.approx(2.0, rel=0.05)


def test_callables_and_modules_mix():
    def negative(batch, generator):
        return -batch

    views = RandomViews([GaussianNoise(0.0), negative], n_views=2)
    assert torch.equal(views(torch.ones(2, 2)), -torch.ones(4, 2))
    assert len(list(views.buffers())) == 1  # .to(device) reaches the modules


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: RandomViews(GaussianNoise(), 0), "n_views must be at least 1"),
        (lambda: GaussianNoise(-1.0), "scale must be finite and not negative"),
        (lambda: FeatureDropout(1.0), r"p must be in \[0, 1\), got 1.0"),
        (lambda: RandomAffine2d(scale=(0, 1)), "scale must be two numbers"),
        (lambda: RandomAffine2d(degrees=-1), "degrees must not be negative"),
        (lambda: RandomAffine2d()(torch.ones(2, 64)), "give image_shape"),
        (lambda: RandomAffine2d(image_shape=(1, 8, 8))(torch.ones(2, 63)), "have 63"),
        (lambda: RandomViews(lambda x, g: x[:1])(torch.ones(2, 2)), "keep the number"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import LatentSpectralModel, NeuralSpectralBlock  # noqa: E402
from sklr.nn._spectral._block import from_patches, to_patches  # noqa: E402

FIELDS = {1: (12,), 2: (8, 12), 3: (4, 2, 6)}
PATCHES = {1: 4, 2: (4, 3), 3: (2, 1, 3)}


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def block_of(dim, channels=6, heads=3):
    torch.manual_seed(0)
    return NeuralSpectralBlock(dim, channels, PATCHES[dim], 5, 2, heads).double()


def naive(block, field):
    """The block as the paper says it: patch by patch, head by head, channel by channel."""
    out = np.zeros_like(field)
    keys, values, queries = np.split(block.projection.detach().numpy(), 3)
    value_bias, query_bias = np.split(block.bias.detach().numpy(), 2)
    tokens, series = block.tokens.detach().numpy(), block.series.detach().numpy()
    n_heads, n_tokens, width = tokens.shape
    counts = [n // p for n, p in zip(field.shape[1:], block.patch_size)]
    for place in np.ndindex(*counts):
        at = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, block.patch_size))
        patch = field[(slice(None), *at)]
        cells = patch.reshape(len(field), -1)
        K, V, Q = keys @ cells, values @ cells + value_bias[:, None], queries @ cells
        Q = Q + query_bias[:, None]
        read = np.zeros_like(cells)
        for h in range(n_heads):
            rows = slice(h * width, (h + 1) * width)
            weight = np.exp(tokens[h] @ K[rows])
            weight /= weight.sum(axis=1, keepdims=True)
            T = weight @ V[rows].T + tokens[h]  # (tokens, width)
            for m in range(n_tokens):
                for d in range(width):
                    t, a = T[m, d], series[h * width + d]
                    for k in range(block.n_basis):
                        angle = math.pi * k * t / block.n_basis
                        T[m, d] += a[k] * math.sin(angle) + a[block.n_basis + k] * math.cos(angle)
            back = np.exp(Q[rows].T @ T.T)
            back /= back.sum(axis=1, keepdims=True)
            read[rows] = (back @ T).T
        out[(slice(None), *at)] = patch + read.reshape(patch.shape)
    return out


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_block_is_the_formula(dim):
    block, x = block_of(dim), normal(2, 6, *FIELDS[dim])
    found = block(x).detach().numpy()
    wanted = np.stack([naive(block, field) for field in x.numpy()])
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_patches_are_put_together_again(dim):
    x = normal(2, 6, *FIELDS[dim])
    patch = block_of(dim).patch_size
    apart = to_patches(x, patch)
    assert apart.shape[:2] == (6, math.prod(patch))
    assert torch.equal(from_patches(apart, x.shape, patch), x)


def test_nothing_to_read_is_the_identity():
    block, x = block_of(2), normal(2, 6, *FIELDS[2])
    for weight in block.parameters():
        torch.nn.init.zeros_(weight)
    assert torch.equal(block(x), x)


def test_without_series_and_tokens_a_patch_reads_its_mean_value():
    block, x = block_of(1), normal(2, 6, 12)
    with torch.no_grad():
        block.series.zero_()
        block.tokens.zero_()
    value = x.unfold(2, 4, 4).mean(-1).repeat_interleave(4, dim=2)
    weight, bias = block.projection[6:12], block.bias[:6]
    torch.testing.assert_close(
        block(x), x + torch.einsum("oc,ncl->nol", weight, value) + bias[:, None]
    )


def test_patches_do_not_see_each_other():
    block, x = block_of(1), normal(1, 6, 12)
    other = x.clone()
    other[..., 8:] = 5.0
    assert torch.equal(block(other)[..., :8], block(x)[..., :8])


@pytest.mark.parametrize(
    "width, levels, wanted", [(16, 2, 79_249), (64, 4, 19_185_985), (16, 3, 306_961)]
)
def test_number_of_parameters(width, levels, wanted):
    """The paper's network at width 64 has 19.2 million."""
    with torch.device("meta"):
        model = LatentSpectralModel(2, width=width, n_levels=levels)
    assert sum(p.numel() for p in model.parameters()) == wanted


@pytest.mark.parametrize("grid", [(7,), (16,), (33,), (5, 9), (4, 21), (8, 8), (4, 5, 9)])
def test_any_grid_comes_back(grid):
    model = LatentSpectralModel(len(grid), 2, 3, width=4, n_levels=1, n_heads=2).eval()
    assert model(torch.zeros(2, 2, *grid)).shape == (2, 3, *grid)


def test_samples_do_not_see_each_other():
    model = LatentSpectralModel(2, width=4, n_heads=2, n_levels=1).double().eval()
    x = normal(5, 1, 9, 10)
    order = torch.tensor([3, 0, 4])
    torch.testing.assert_close(model(x[order]), model(x)[order])


@pytest.mark.parametrize("grid", [(7,), (5, 9), (4, 5, 9), (3, 17)])
def test_any_grid_of_circles_comes_back(grid):
    model = LatentSpectralModel(
        len(grid), 2, 3, width=4, n_levels=2, patch_size=2, n_heads=2, periodic=True
    ).eval()
    assert model(torch.zeros(2, 2, *grid)).shape == (2, 3, *grid)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_on_circles_nothing_depends_on_where_they_were_cut(dim):
    torch.manual_seed(0)
    model = LatentSpectralModel(dim, width=4, n_heads=2, n_levels=1, patch_size=2, periodic=True)
    model = model.double().eval()
    with torch.no_grad():
        model.lift.weight[:, 1:] = 0  # what tells where a cell is
    x = normal(2, 1, *(8,) * dim)
    turned = x.roll([4] * dim, dims=[*range(2, 2 + dim)])  # whole patches of the coarsest grid
    found = model(turned).roll([-4] * dim, dims=[*range(2, 2 + dim)])
    torch.testing.assert_close(found, model(x), rtol=1e-12, atol=1e-12)


def test_a_wave_on_a_circle_is_doubled_around_its_seam():
    model = LatentSpectralModel(1, width=4, n_heads=2, periodic=True)
    angle = 2 * math.pi * (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    finer = 2 * math.pi * (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    found = model._doubled(angle.sin()[None, None])[0, 0]
    torch.testing.assert_close(found, finer.sin(), rtol=0, atol=0.005)


def test_a_plain_unet_has_no_blocks():
    model = LatentSpectralModel(1, width=4, n_heads=3, spectral=False)
    assert not [m for m in model.modules() if isinstance(m, NeuralSpectralBlock)]
    assert model(torch.zeros(2, 1, 8)).shape == (2, 1, 8)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: NeuralSpectralBlock(4, 8), "dim must be 1, 2 or 3, got 4"),
        (lambda: NeuralSpectralBlock(2, 6), "n_heads=8 and 6 channels"),
        (lambda: NeuralSpectralBlock(2, 8, (4, 4, 4)), "one for each of 2 axes"),
        (lambda: NeuralSpectralBlock(2, 8, n_basis=0), "n_basis must be an integer of at least 1"),
        (lambda: NeuralSpectralBlock(1, 8)(torch.zeros(2, 8, 6)), "must be multiples of the patch"),
        (lambda: NeuralSpectralBlock(1, 8)(torch.zeros(2, 4, 8)), r"got \(2, 4, 8\)"),
        (lambda: LatentSpectralModel(1, width=12), "n_heads=8 and 12 channels"),
        (lambda: LatentSpectralModel(1, n_levels=0), "n_levels must be an integer of at least 1"),
        (lambda: LatentSpectralModel(1)(torch.zeros(2, 1, 3)), "smaller than a patch"),
        (lambda: LatentSpectralModel(1)(torch.zeros(2, 2, 8)), r"shape \(n, 1, 1 axes\)"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call()

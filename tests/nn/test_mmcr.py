import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import mmcr_loss  # noqa: E402


def test_views_that_coincide_on_an_orthonormal_basis_reach_the_bound():
    views = torch.eye(5, dtype=torch.float64).repeat_interleave(3, dim=0)
    assert float(mmcr_loss(views, 3)) == pytest.approx(-5.0, abs=1e-12)


def test_collapse_is_far_from_the_bound():
    z = torch.ones(8, 4, dtype=torch.float64)
    assert float(mmcr_loss(z, 2)) == pytest.approx(-math.sqrt(4), abs=1e-12)


def test_views_of_one_sample_are_adjacent():
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(z, dim=1)
    wanted = -torch.linalg.matrix_norm(unit.reshape(3, 2, 4).mean(1), ord="nuc")
    wrong = -torch.linalg.matrix_norm(unit.reshape(2, 3, 4).mean(0), ord="nuc")
    torch.testing.assert_close(mmcr_loss(z, 2), wanted, rtol=1e-12, atol=1e-12)
    assert abs(float(wrong - wanted)) > 1e-3


def test_wrong_number_of_views_is_told():
    with pytest.raises(ValueError, match="n_views=3"):
        mmcr_loss(torch.ones(8, 4), 3)

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr._torch._device import resolve_device  # noqa: E402


def test_auto_is_a_device_that_exists():
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == wanted
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:77", "tpu", "cpu:x", "hpu"])
def test_a_device_that_does_not_exist_is_named(name):
    with pytest.raises(ValueError, match=f"device='{name}' does not exist"):
        resolve_device(name)

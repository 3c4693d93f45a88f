"""Optional modules: imported at use, and what is missing is said with the extra's name."""

import re

import pytest

from sklr.utils._imports import import_optional


def test_returns_the_module():
    import json.decoder

    assert import_optional("json.decoder", extra="eeg", feature="x") is json.decoder


@pytest.mark.parametrize("name", ["sklr_no_such_module", "sklr_no_such_module.inner"])
def test_names_the_extra_and_what_needs_it(name):
    message = (
        "AugmentedThing needs sklr_no_such_module, which is not installed. "
        "Install it with: pip install 'sklr[eeg]'"
    )
    with pytest.raises(ImportError, match=re.escape(message)) as caught:
        import_optional(name, extra="eeg", feature="AugmentedThing")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_is_there_and_broken_is_not_called_missing(tmp_path, monkeypatch):
    """Else a user would install again what is installed, and not see what is wrong."""
    (tmp_path / "sklr_broken_module.py").write_text("import sklr_no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="sklr_no_such_dependency") as caught:
        import_optional("sklr_broken_module", extra="eeg", feature="x")
    assert "sklr[eeg]" not in str(caught.value)

"""The code on the pages runs as it stands, and the licences are those of what is installed."""

import importlib.metadata
import pathlib
import re
import warnings

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="the pages are not beside the tests"
)


PAGES = [
    ("README.md", 1),
    ("docs/index.md", 1),
    ("docs/tour.md", 6),
    ("docs/user_guide/koopman.md", 3),
]
# Pages of what needs torch.
TORCH_PAGES = [("docs/user_guide/compression.md", 3)]


@pytest.mark.parametrize("name, fewest", PAGES)
def test_code_of_a_page_runs(name, fewest, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= fewest
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"{name}, block {number}", "exec"), namespace)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name, fewest", TORCH_PAGES)
def test_code_of_a_torch_page_runs(name, fewest, capsys):
    pytest.importorskip("torch", reason="needs the extra torch")
    test_code_of_a_page_runs(name, fewest, capsys)


def brought_by(extra=""):
    """Return the distributions that are installed with the core or an extra: name -> licence."""
    found, wanted = {}, [("sklr", {extra})]
    while wanted:
        name, extras = wanted.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name != "sklr":
            if name in found:
                continue
            about = distribution.metadata
            classified = [c for c in about.get_all("Classifier", []) if c.startswith("License")]
            text = str(about.get("License") or "unknown").strip().splitlines()[0]
            found[name] = str(about.get("License-Expression") or classified or text)
        for line in distribution.requires or ():
            needs = Requirement(line)
            ours = (
                [needs.marker.evaluate({"extra": e}) for e in extras | {""}]
                if needs.marker
                else [1]
            )
            if any(ours):
                wanted.append((needs.name, needs.extras))
    return found


def test_copyleft_licences_are_named():
    """Nothing of that kind comes with the core; what comes with an extra is in the table."""
    try:
        extras = importlib.metadata.metadata("sklr").get_all("Provides-Extra")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sklr is not installed: its requirements are not known")
    copyleft = re.compile(r"GPL|GNU|\bMPL|Mozilla")
    core = brought_by()
    assert "numpy" in core
    assert not [name for name, licence in core.items() if copyleft.search(licence)]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    section = page.split("### Licences")[1].split("\n## ")[0]
    for extra in extras:
        rows = [row for row in section.splitlines() if row.startswith("|") and f"`{extra}`" in row]
        for name, licence in brought_by(extra).items():
            if copyleft.search(licence):
                assert any(name.lower() in row.lower() for row in rows), (extra, name, licence)

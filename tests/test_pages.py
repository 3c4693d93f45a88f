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


_FOR_DEVELOPERS = ("contributing", "house", "torch_packages")
# Pages with code: those of the guide, and whatever else has blocks of Python.
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "generated" not in path.parts and "_build" not in path.parts
    if "```python" in path.read_text(encoding="utf-8") and path.stem not in _FOR_DEVELOPERS
)
GUIDE = sorted((ROOT / "docs" / "user_guide").glob("[!i]*.md"))
# What a block needs beside the core, and the extra that brings it.
_EXTRAS = {
    "torch": r"torch|sklr\.nn|sklr\.neural_network|sklr\.landscape",
    "mne": r"mne|sklr\.eeg",
    "moabb": r"moabb|sklr\.eeg",
    "pandas": "pandas",
    "networkx": "networkx",
    "matplotlib": "matplotlib",
    "anndata": "anndata",
}


def blocks_of(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.mark.parametrize("name", PAGES)
def test_code_of_a_page_runs(name, capsys, tmp_path, monkeypatch):
    """Block after block, as a reader pastes them, and warnings are errors."""
    blocks = blocks_of(name)
    for module, words in _EXTRAS.items():
        if any(re.search(rf"^\s*(import|from) ({words})\b", block, re.M) for block in blocks):
            pytest.importorskip(module, reason=f"this page needs {module}")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Creating a dataset")  # MOABB's, through h5py
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"{name}, block {number}", "exec"), namespace)
    assert capsys.readouterr().out.strip()


def test_the_block_of_the_readme_needs_no_more_than_the_demo_installs():
    """``make demo`` installs the extra eeg; the block is what a reader tries next."""
    (block,) = blocks_of("README.md")
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", block, re.M))
    assert "sklr" in imported
    assert imported <= {"sklr", "numpy", "scipy", "sklearn", "pandas", "matplotlib"}


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
def test_a_page_of_the_guide_begins_with_code_and_says_when_not(path):
    text = path.read_text(encoding="utf-8")
    first = text.find("```python")
    assert 0 < first < text.find("$$") % (len(text) + 1), "code comes before formulas"
    assert re.search(r"^#+ .*\b([Ww]hen|not)\b", text, re.M), "a section says when, and when not"


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

"""What is public is on the API page and is used somewhere; versions and commands agree."""

import importlib.util
import pathlib
import re
import tomllib

import pytest

import sklr
from sklr.utils._discovery import public_objects

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(sklr.__file__).parent
OBJECTS = public_objects()

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the repository is not beside the tests"
)


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def words_of(*folders):
    """Return every identifier in the Python files of some folders, without this file's."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path != pathlib.Path(__file__):
                found |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return found


def names_on_api_page(text):
    """Return the dotted names that the API page lists: autosummary entries by their module."""
    found, module = [], None
    for line in text.splitlines():
        if given := re.match(r"\s*\.\. (?:currentmodule|automodule|py:module):: (\S+)", line):
            module = given[1]
        elif entry := re.match(r"   ([A-Za-z_]\w*)\s*$", line):
            found.append(f"{module}.{entry[1]}")
    return found


def test_api_pages_list_what_is_public(make_tables):
    pages = make_tables.api_pages()
    listed = [name for text in pages.values() for name in names_on_api_page(text)]
    assert len(OBJECTS) >= 4
    assert sorted(listed) == sorted(OBJECTS)
    there = {f"docs/api/{path.name}" for path in (ROOT / "docs" / "api").glob("*.md")}
    assert there | {"docs/api.md"} == set(pages), "run python docs/make_tables.py"
    for file, text in pages.items():
        assert text_of(file) == text, f"{file}: run python docs/make_tables.py"


def test_every_public_name_is_used_in_a_test_or_an_example():
    used = words_of("tests", "examples")
    unused = {name for name in OBJECTS if name.rpartition(".")[2] not in used}
    assert not unused, (
        f"neither a test nor an example uses {sorted(unused)}: write tests/<subpackage>/test_x.py "
        "and examples/<task>/plot_x.py"
    )


def test_every_estimator_has_its_paper_or_its_guide():
    from sklr.utils import all_estimators, all_module_estimators

    page = text_of("docs/papers.md")
    # A helper of several methods has no paper of its own; the user guide describes it.
    page += " ".join(path.read_text() for path in (ROOT / "docs" / "user_guide").glob("*.md"))
    names = [name for name, _ in all_estimators() + all_module_estimators()]
    missing = [name for name in names if not re.search(rf"\b{name}\b", page)]
    assert not missing, (
        f"{missing}: add a file to docs/methods (its neighbours show how) and run python "
        "docs/make_tables.py, or describe it on a page of docs/user_guide where it has no paper of "
        "its own"
    )


@pytest.fixture(scope="module")
def make_tables():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_what_their_sources_say(make_tables):
    for file in make_tables.TABLES:
        assert text_of(file) == make_tables.page(file), f"{file}: run python docs/make_tables.py"


def test_every_paper_can_be_cited(make_tables):
    page = make_tables.cite_page()
    assert text_of("docs/howto/cite.md") == page, "run python docs/make_tables.py"
    keys = re.findall(r"^@misc\{(\w+),", page, re.M)
    assert len(keys) == len(set(keys)) >= 17


def test_methods_have_their_home_and_their_test(make_tables):
    """What is in can be imported, and the named tests of the claim exist."""
    methods = make_tables.methods()
    assert len(methods) >= 37
    public = {name.removeprefix("sklr.") for name in OBJECTS}
    for method in methods:
        name = method["method"]
        if method["status"] == "planned":
            assert not {"tests", "claim", "readme"} & set(method), f"{name} is only planned"
            continue
        for home in method["homes"]:
            pattern = re.compile(re.escape(home).replace(r"\*", r"\w+"))
            assert any(map(pattern.fullmatch, public)), (
                f"{name}: there is no public sklr.{home}; homes are written without 'sklr.'"
            )
        assert method["homes"] and method["tests"], f"{name}: no home, or no test of the claim"
        for test in method["tests"]:
            file, _, function = test.partition("::")
            assert (ROOT / file).is_file(), f"{name}: there is no file {file}"
            assert not function or f"def {function}(" in text_of(file), f"{name}: no {test}"


@pytest.mark.parametrize(
    "text, message",
    [
        ('method = "x"', 'status = "in" or "planned"'),
        ('status = "planned"\nnumber = 1\nhomes = []', "the file lacks ['method']"),
        (
            'status = "in"\nnumber = 1\nmethod = "x"\nhomes = []\ntests = []\npaper = ""\n'
            '[claim]\nname = "x"',
            "[claim] lacks ['holds', 'does_not']",
        ),
        (
            'status = "planned"\nnumber = 3\nmethod = "x"\nhomes = []',
            "number = 3, which is taken or leaves a gap; the numbers go from 1 to 1",
        ),
    ],
)
def test_what_a_file_of_methods_lacks_is_said(make_tables, monkeypatch, tmp_path, text, message):
    (tmp_path / "x.toml").write_text(text)
    monkeypatch.setattr(make_tables, "METHODS", tmp_path)
    with pytest.raises(ValueError, match="docs/methods/x.toml: .*" + re.escape(message)):
        make_tables.methods()


def test_version_is_the_same_everywhere():
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert sklr.__version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", text_of("CITATION.cff"), re.M)
    first = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.M)[1]
    assert first == version


def test_commands_of_the_readme_are_in_the_makefile():
    readme, makefile = text_of("README.md"), text_of("Makefile")
    first_screen = "\n".join(readme.splitlines()[:50])
    for command in ("make demo", "make test"):
        assert command in first_screen
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", readme, re.M):
        target = "".join(target)
        assert target in targets, f"README names make {target}"


def test_extras_that_are_named_exist():
    extras = set(tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"])
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = set()
    for path in [*pages, *PACKAGE.rglob("*.py")]:
        for group in re.findall(r"(?:sklr|\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            named |= set(group.split(","))
    assert "eeg" in named
    assert named <= extras


def test_every_pin_is_in_the_constraints():
    """Everything that an extra asks for by name is pinned, so that the tested set is one set."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    asked = [*project["dependencies"]]
    for requirements in project["optional-dependencies"].values():
        asked += requirements

    def plain(requirement):
        return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")

    lines = text_of("constraints.txt").splitlines()
    pinned = {plain(line) for line in lines if "==" in line and not line.startswith("#")}
    missing = {plain(requirement) for requirement in asked} - pinned
    assert not missing, f"constraints.txt does not pin {sorted(missing)}"


def test_data_files_are_packaged():
    """Each file of the package that is not Python is in a pattern of package-data.

    The continuous integration builds the wheel and looks inside; this finds it earlier.
    """
    patterns = tomllib.loads(text_of("pyproject.toml"))["tool"]["setuptools"]["package-data"]
    packaged = {path for pattern in patterns["sklr"] for path in (ROOT / "sklr").glob(pattern)}
    written = {
        path
        for path in (ROOT / "sklr").rglob("*")
        if path.is_file()
        # Python, what Numba keeps, and the locks that MOABB leaves beside pipelines it has read.
        and path.suffix not in (".py", ".pyc", ".nbi", ".nbc", ".lock")
        and "__pycache__" not in path.parts
    }
    assert ROOT / "sklr" / "py.typed" in written
    assert written <= packaged, sorted(written - packaged)


def test_links_between_pages_resolve():
    """Relative links of README and docs point at files that exist."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    checked = 0
    for page in pages:
        if "_build" in page.parts or "generated" in page.parts or "gallery" in page.parts:
            continue
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "gallery/" in target:  # written by the build, from examples/
                source = (ROOT / "examples" / target.partition("gallery/")[2]).with_suffix(".py")
                assert source.is_file(), f"{page.name}: {target}"
            else:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
            checked += 1
    assert checked > 5


def test_no_path_of_one_machine_is_written_anywhere():
    """Pages and sources name no home folder and no drive."""
    for folder in ("sklr", "tests", "docs", "examples", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in (".py", ".md", ".yml", ".json", ".csv") or not path.is_file():
                continue
            if {"_build", "generated", "gallery"} & set(path.parts):
                continue
            found = re.search(r"/(?:home|root|Users|tmp)/\w+", path.read_text("utf-8"))
            assert not found, f"{path}: {found[0]}"

"""Docstrings of everything public: numpydoc's rules, examples that run, references."""

import doctest
import inspect
import os
import pathlib
import subprocess
import sys

import pytest
from sklearn.base import BaseEstimator

import sklr
from sklr.utils._discovery import public_modules, public_objects

pytest.importorskip("numpydoc", reason="needs the extra test")

from numpydoc.docscrape import ClassDoc, FunctionDoc  # noqa: E402
from numpydoc.validate import validate  # noqa: E402

OBJECTS = public_objects()
PACKAGE = pathlib.Path(sklr.__file__).parent

# scikit-learn's own selection of numpydoc's rules, with its reasons.
IGNORED = {
    "RT02": "a return value has a name, which the rule forbids",
    "GL01": "the summary starts beside the quotes",
    "GL02": "the closing quotes stand on their own line or not, as ruff format leaves them",
}
IGNORED_IN_METHODS = {
    "EX01": "the example of a class shows its methods",
    "SA01": "the class has the See Also section",
    "ES01": "one line says what a method does",
}
IGNORED_IN_PROPERTIES = {
    "PR02": "a property has no signature to compare with",
    "GL08": "the class docstring describes attributes",
}
IGNORED_IN_FUNCTIONS = {
    "SA01": "a function without a relative has nothing to refer to",
    "ES01": "a summary may be all there is to say; what is above one line is above one line",
}


def public_methods():
    """Yield (class, method name) of methods that sklr defines; inherited ones are documented."""
    for item in OBJECTS.values():
        if not inspect.isclass(item):
            continue
        for name in dir(item):
            if name.startswith("_"):
                continue
            owner = next(cls for cls in item.__mro__ if name in vars(cls))
            member = inspect.getattr_static(item, name)
            described = callable(getattr(item, name, None)) or isinstance(member, property)
            if owner.__module__.startswith("sklr.") and described:
                yield pytest.param(item, name, id=f"{item.__name__}.{name}")


def errors_of(path, ignored):
    found = validate(path)["errors"]
    return [f"{code}: {message}" for code, message in found if code not in ignored]


def source(item):
    """Return the file of a class or function, for messages."""
    return item.__module__.replace(".", "/") + ".py"


def dotted(item):
    return f"{item.__module__}.{item.__qualname__}"


@pytest.mark.parametrize("name", OBJECTS)
def test_numpydoc_of_classes_and_functions(name):
    item = OBJECTS[name]
    ignored = set(IGNORED)
    if not (inspect.isclass(item) and issubclass(item, BaseEstimator)):
        ignored |= set(IGNORED_IN_FUNCTIONS)
    errors = errors_of(dotted(item), ignored)
    assert not errors, "\n".join([f"{name} ({source(item)})", *errors])


@pytest.mark.parametrize("cls, name", list(public_methods()))
def test_numpydoc_of_methods(cls, name):
    ignored = set(IGNORED) | set(IGNORED_IN_METHODS)
    if isinstance(inspect.getattr_static(cls, name), property):
        ignored |= set(IGNORED_IN_PROPERTIES)
    errors = errors_of(f"{dotted(cls)}.{name}", ignored)
    assert not errors, "\n".join([f"{cls.__name__}.{name} ({source(cls)})", *errors])


def sections(item):
    return ClassDoc(item) if inspect.isclass(item) else FunctionDoc(item)


@pytest.mark.parametrize("name", OBJECTS)
def test_example_runs(name):
    """Everything public has an example; it is run here, so also against an installed copy."""
    item = OBJECTS[name]
    assert sections(item)["Examples"], f"{name} has no Examples section: add one to {source(item)}"
    module = inspect.getmodule(item)
    tests = doctest.DocTestFinder(recurse=False).find(item, name, module=module, globs={})
    examples = [example for test in tests for example in test.examples]
    assert examples, f"{name} has an Examples section without >>>"
    imports = [example for example in examples if "sklr" in example.source]
    assert imports, f"the example of {name} does not import it: a reader cannot copy it"
    runner = doctest.DocTestRunner(
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False
    )
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize(
    "name",
    [n for n, item in OBJECTS.items() if inspect.isclass(item) and issubclass(item, BaseEstimator)],
)
def test_estimators_give_references(name):
    """Each estimator comes from a paper: DOI or arXiv number, and See Also with its peers."""
    text = "\n".join(sections(OBJECTS[name])["References"]).lower()
    assert text, (
        f"{name} has no References section: add one with the paper and its DOI or arXiv number to "
        f"{source(OBJECTS[name])}"
    )
    assert "doi" in text or "arxiv" in text, (
        f"{name}: neither a DOI nor an arXiv number in References"
    )
    parameters = [p.name for p in sections(OBJECTS[name])["Parameters"]]
    wanted = list(inspect.signature(OBJECTS[name]).parameters)
    assert parameters == wanted, (
        f"{name} documents {parameters}; __init__ has {wanted}: the same names in the same order, "
        "one an entry"
    )


@pytest.mark.parametrize(
    "name",
    [n for n, item in OBJECTS.items() if inspect.isclass(item) and issubclass(item, BaseEstimator)],
)
def test_fitted_attributes_are_documented(name):
    """What fit leaves behind under a public name is in the Attributes section, and the reverse."""
    from sklr.utils.estimator_checks import instance_for_checks, make_check_data, missing_extra

    estimator = instance_for_checks(OBJECTS[name])
    fits_modules = getattr(OBJECTS[name], "_fits_modules", False)
    extra = None if fits_modules else missing_extra(estimator)
    if extra is not None:
        pytest.skip(f"{name} needs the extra {extra!r}: pip install 'sklr[{extra}]'")
    documented = {
        part.strip()
        for attribute in sections(OBJECTS[name])["Attributes"]
        for part in attribute.name.split(",")
    }
    if fits_modules:
        from sklr.nn._module_checks._cases import case_of

        case = case_of("perceptron")
        estimator.fit(case.make(), case.data(), case.labels())
    else:
        X, y = make_check_data(estimator)
        estimator.fit(X, y) if y is not None else estimator.fit(X)
    fitted = {a for a in vars(estimator) if a.endswith("_") and not a.startswith("_")}
    undocumented = fitted - documented
    assert not undocumented, (
        f"{name} does not document {sorted(undocumented)}: name them under Attributes in "
        f"{source(OBJECTS[name])}, or let names of what is private begin with an underscore"
    )
    # An attribute may be there for some parameters only, or for input with column names.
    of_some_input = {a for a in documented if not hasattr(estimator, a)} - {"feature_names_in_"}
    text = {
        attribute.name: " ".join(attribute.desc).lower()
        for attribute in sections(OBJECTS[name])["Attributes"]
    }
    for attribute in of_some_input:
        condition = text.get(attribute, "")
        assert "only" in condition or "when" in condition or "with" in condition, (
            f"{name} documents {attribute}, which fit does not set; say when it does"
        )


def test_public_modules_have_docstrings():
    for module in public_modules():
        assert module.__doc__ and module.__doc__.strip().endswith("."), module.__name__


def test_ignored_rules_exist_and_have_reasons():
    from numpydoc.validate import ERROR_MSGS

    for table in (IGNORED, IGNORED_IN_METHODS, IGNORED_IN_PROPERTIES, IGNORED_IN_FUNCTIONS):
        assert set(table) <= set(ERROR_MSGS)
        assert all(len(reason.split()) >= 4 for reason in table.values())


def test_pytest_collects_the_doctests_of_every_public_object():
    """``--doctest-modules`` under ``--import-mode=importlib`` finds the package's own modules."""
    root = pathlib.Path(__file__).parents[1]
    if not (root / "sklr").is_dir() or PACKAGE != root / "sklr":
        pytest.skip("an installed copy is tested: its files are not below the test folder")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "sklr"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line}
    missing = {dotted(item) for item in OBJECTS.values()} - collected
    assert not missing, f"no example with >>> in the docstrings of {sorted(missing)}"

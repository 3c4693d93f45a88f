"""What an import may load, what a missing extra says, and which way dependencies point."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import sklr
from sklr.utils._discovery import public_modules
from sklr.utils._imports import TORCH_PACKAGES

PACKAGE = pathlib.Path(sklr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Imported by `import sklr` under no circumstances.
HEAVY = ("torch", "numba", "mne", "moabb", "pyriemann", "matplotlib", "pandas", "sklearn", "scipy")
# Imported by a public subpackage under no circumstances (scikit-learn imports pandas itself,
# where it is installed).
OPTIONAL = (
    *("torch", "numba", "mne", "moabb", "pyriemann", "matplotlib", "pandas", "dask", "pyamg"),
    *("transformers", "peft", "safetensors", "tensorly"),
)
# Module -> the extra that installs it.
EXTRAS = {"mne": "eeg", "moabb": "eeg", "torch": "torch"}

# Dependencies point down only: a subpackage may import those of lower layers, and those of its
# own as long as no circle comes of it.
LAYERS = (
    {"utils"},
    {"geometry", "transport", "metrics", "datasets"},
    {"cluster", "covariance", "decomposition", "gaussian_process", "manifold"},
    {"_torch"},
    {"nn"},
    {"neural_network"},
    {"landscape"},
)
WITH_TORCH = set(TORCH_PACKAGES)
# Applications stand on the classical subpackages; nothing stands on them.
APPLICATIONS = {"eeg"}

BLOCKER = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def python(code, *, cwd, **environment):
    """Run code in a fresh interpreter that finds this copy of sklr, from another folder."""
    path = [environment.pop("first", ""), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def poisoned(tmp_path):
    """Return a folder of modules that cannot be imported, first on the path.

    Without it the tests would pass on a machine where the modules are not installed, whatever
    sklr imports.
    """
    folder = tmp_path / "poisoned"
    folder.mkdir()
    for name in sorted({*HEAVY, *OPTIONAL}):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('sklr imports {name}')\n")
    return folder


def test_the_poison_works(poisoned, tmp_path):
    done = python("import torch", cwd=tmp_path, first=str(poisoned))
    assert done.returncode != 0
    assert "sklr imports torch" in done.stderr


def test_import_sklr_loads_nothing_heavy(poisoned, tmp_path):
    code = """
        import sys
        before = set(sys.modules)
        import sklr
        print(sklr.__version__)
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """
    done = python(code, cwd=tmp_path, first=str(poisoned))
    assert done.returncode == 0, done.stderr
    version, loaded = done.stdout.splitlines()
    assert version == sklr.__version__
    assert not set(HEAVY) & set(loaded.split())
    assert "numpy" not in loaded.split()


def test_import_of_public_subpackages_loads_nothing_optional(poisoned, tmp_path):
    for name in ("sklearn", "scipy", "pandas"):
        (poisoned / f"{name}.py").unlink()
    names = [
        module.__name__
        for module in public_modules()
        if not WITH_TORCH.intersection(module.__name__.split("."))
    ]
    assert {"sklr.covariance", "sklr.datasets", "sklr.geometry", "sklr.utils"} <= set(names)
    code = "\n".join(f"import {name}" for name in names)
    done = python(code, cwd=tmp_path, first=str(poisoned))
    assert done.returncode == 0, done.stderr


def test_public_names_are_reached_without_importing_a_subpackage(tmp_path):
    code = """
        import sklr
        for name in sklr.__all__:
            assert getattr(sklr, name) is not None, name
            assert name in dir(sklr), name
        try:
            sklr.no_such_subpackage
        except AttributeError as exc:
            assert "no_such_subpackage" in str(exc)
        else:
            raise SystemExit("no AttributeError")
    """
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_subpackages_are_all_named():
    """A subpackage on disk is a public name of sklr, and the reverse."""
    folders = {
        path.parent.name
        for path in PACKAGE.glob("*/__init__.py")
        if not path.parent.name.startswith("_")
    }
    assert folders == set(sklr.__all__) - {"__version__"}
    assert all(len(list((PACKAGE / name).glob("*.py"))) > 1 for name in folders), "an empty shell"


def use_of_eeg_extra():
    """Return code that uses the EEG main job in a way that needs MOABB."""
    return """
        import sys
        sys.argv = ["sklr.eeg", "--dataset", "PhysionetMI", "--out", sys.argv[1]]
        import runpy
        runpy.run_module("sklr.eeg", run_name="__main__")
    """


@pytest.mark.skipif(
    importlib.util.find_spec("sklr.eeg") is None, reason="sklr.eeg is not in this copy"
)
def test_missing_eeg_extra_is_named_at_use(tmp_path):
    blocker = BLOCKER.format(names={"mne", "moabb"})
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            blocker + textwrap.dedent(use_of_eeg_extra()),
            str(tmp_path / "results"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode != 0
    assert "sklr[eeg]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name, extra", EXTRAS.items())
def test_import_optional_names_the_extra(name, extra, tmp_path):
    code = BLOCKER.format(names={name}) + textwrap.dedent(
        f"""
        from sklr.utils._imports import import_optional
        try:
            import_optional({name!r}, extra={extra!r}, feature="Something")
        except ImportError as exc:
            print(exc)
        """
    )
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        f"Something needs {name}, which is not installed. "
        f"Install it with: pip install 'sklr[{extra}]'"
    )


def test_estimators_work_without_any_extra(tmp_path):
    """Every estimator that needs no extra is fitted where none of the extras can be imported."""
    code = BLOCKER.format(names={"mne", "moabb", "torch", "dask"}) + textwrap.dedent(
        """
        from sklr.utils import all_estimators
        from sklr.utils.estimator_checks import instance_for_checks, missing_extra
        for name, cls in all_estimators():
            print(name, missing_extra(instance_for_checks(cls)), cls.__module__.split(".")[1])
        """
    )
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert "AugmentedCovariance" in [name for name, _, _ in rows]
    for name, extra, subpackage in rows:
        wanted = "torch" if subpackage in WITH_TORCH else "None"
        assert extra in (wanted, "None"), name


# Source files, parsed.


def subpackage_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(tree):
    """Yield (node, module name, whether it runs when the file is imported)."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        at_import = id(node) not in inside and id(node) not in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, at_import
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node, node.module, at_import
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "import_optional")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node, node.args[0].value, at_import


def allowed_below(subpackage):
    """Return the subpackages that one may import."""
    if subpackage in APPLICATIONS:
        return set().union(*LAYERS[:3]) | {subpackage}
    for level, layer in enumerate(LAYERS):
        if subpackage in layer:
            return set().union(*LAYERS[: level + 1])
    raise AssertionError(f"sklr.{subpackage} has no place in LAYERS or APPLICATIONS")


def check_source(path, text):
    """Return what is wrong with the imports of one file of the package."""
    wrong = []
    subpackage = subpackage_of(path)
    try:
        for node, name, at_import in imports_of(ast.parse(text)):
            where = f"{path.relative_to(PACKAGE)}:{node.lineno} imports {name}"
            parts = name.split(".")
            if parts[0] == "sklr":
                if subpackage and len(parts) > 1 and parts[1] not in allowed_below(subpackage):
                    wrong.append(f"{where}: dependencies point down only")
            elif parts[0] == "torch" and subpackage not in WITH_TORCH:
                wrong.append(f"{where}: torch belongs to {sorted(WITH_TORCH)}")
            elif parts[0] in OPTIONAL and at_import:
                kernels = parts[0] == "numba" and path.name.endswith("_kernels.py")
                torch_wing = parts[0] == "torch" and subpackage == "nn"
                # A class of MOABB's kind must derive from MOABB's class when it is made; the
                # file is only imported when the class is asked for.
                derived = path.relative_to(PACKAGE).as_posix() == "eeg/_simulated.py"
                if not kernels and not torch_wing and not derived:
                    wrong.append(f"{where} when it is imported itself: import it where it is used")
    except AssertionError as exc:
        wrong.append(f"{path.relative_to(PACKAGE)}: {exc}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_of_source_file(path):
    assert not check_source(path, path.read_text())


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("utils/_x.py", "from sklr.covariance import AugmentedCovariance", "point down"),
        ("geometry/_x.py", "def f():\n    import sklr.covariance._augmented", "point down"),
        ("datasets/_x.py", "from sklr.covariance import AugmentedCovariance", "point down"),
        ("covariance/_x.py", "from sklr.eeg import run", "point down"),
        ("covariance/_x.py", "from . import _augmented", "relative import"),
        ("covariance/_x.py", "import numba", "where it is used"),
        ("covariance/_x.py", "if True:\n    import pyriemann.utils", "where it is used"),
        ("eeg/_x.py", "class A:\n    import mne", "where it is used"),
        ("covariance/_x.py", "def f():\n    import torch", "torch belongs"),
        ("covariance/_x.py", "import_optional('torch', extra='torch')", "torch belongs"),
        ("nosuch/_x.py", "from sklr.utils import warm_up", "no place"),
    ],
)
def test_wrong_imports_are_found(file, text, message):
    found = check_source(PACKAGE / file, text)
    assert len(found) == 1 and message in found[0]


@pytest.mark.parametrize(
    "file, text",
    [
        ("covariance/_x_kernels.py", "import numba as nb"),
        ("covariance/_x.py", "from sklr.geometry import mean_riemann"),
        ("covariance/_x.py", "def f():\n    import pyriemann"),
        ("eeg/_x.py", "from sklr.covariance import AugmentedCovariance"),
        ("neural_network/_x.py", "def f():\n    import torch"),
        ("covariance/_x.py", "if TYPE_CHECKING:\n    import mne"),
    ],
)
def test_right_imports_are_left_alone(file, text):
    assert not check_source(PACKAGE / file, text)


def circles(graph):
    """Return the names that lie on a circle of imports."""
    reached = {}
    for name in graph:
        found, waiting = set(), list(graph[name])
        while waiting:
            target = waiting.pop()
            if target not in found:
                found.add(target)
                waiting += graph.get(target, ())
        reached[name] = found
    return sorted(name for name, targets in reached.items() if name in targets)


def imports_between_files():
    """Return {module: the modules of sklr that it imports}, imports in functions too."""
    modules = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        targets = graph.setdefault(module, set())
        tree = ast.parse(path.read_text())
        # Types are not there when a program runs; a warm-up calls kernels as their user does.
        apart = {
            id(node)
            for block in ast.walk(tree)
            if (isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test))
            or (isinstance(block, ast.FunctionDef) and block.name == "_warm_up")
            for node in ast.walk(block)
        }
        for node, name, _ in imports_of(tree):
            if id(node) in apart:
                continue
            names = {name}
            if isinstance(node, ast.ImportFrom):  # the name may be that of a file
                names = {f"{name}.{alias.name}" for alias in node.names}
                names = {full if full in modules else name for full in names}
            targets |= names & set(modules)
    return graph


def test_subpackages_import_each_other_without_circles():
    graph = {}
    for path in FILES:
        own = subpackage_of(path)
        for _, name, _ in imports_of(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] == "sklr" and len(parts) > 1 and own and parts[1] != own:
                graph.setdefault(own, set()).add(parts[1])
    assert "utils" in graph["covariance"]
    assert circles(graph) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_files_import_each_other_without_circles():
    graph = imports_between_files()
    assert "sklr.manifold._fastrp_kernels" in graph["sklr.manifold._fastrp_core"]  # in a function
    assert "sklr.utils._graph" in graph["sklr.manifold._fastrp_graph"]
    assert circles(graph) == []


def test_kernel_files_use_the_common_compiler_without_signatures_and_fastmath():
    """Numba's own needs a folder for its cache; full fastmath removes tests for NaN."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                text = ast.unparse(decorator)
                if "njit" not in text and "vectorize" not in text:
                    continue
                where = f"{path.name}: {node.name}"
                assert path.name.endswith("_kernels.py"), where
                assert text.partition("(")[0] == "njit", f"{where}: njit of sklr.utils._compile"
                arguments = decorator.args if isinstance(decorator, ast.Call) else []
                assert not arguments, f"{where} has a signature"
                assert "fastmath=True" not in text, where

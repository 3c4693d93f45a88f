"""The main that benchmark scripts share, and that the scripts name what is there."""

import ast
import importlib
import importlib.util
import json
import pathlib
from functools import partial

import pytest
from scipy import sparse

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("bench_*.py"))


@pytest.fixture
def common():
    """`benchmarks/_common.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("_common_of_benchmarks", FOLDER / "_common.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.machine = lambda: {"cores": 2}  # the real one needs the peers installed
    return module


def test_parts_get_their_options_and_the_file_keeps_the_others(common, tmp_path, capsys):
    """Named parts are replaced, the rest stays, and what is skipped leaves no mark."""
    file = tmp_path / "found.json"

    def sizes(repeats, ranks=(1, 2)):
        """Seconds by size.

        The rest of the text is not printed.
        """
        return {"repeats": repeats, "ranks": list(ranks)}

    def runs(out):
        out["number"] = out.get("number", 0) + 1

    def options(parser):
        parser.add_argument("--repeats", type=int, default=7)
        parser.add_argument("--ranks", type=int, nargs="+")

    parts = {
        "sizes": sizes,
        "runs": runs,
        "several": lambda: common.Several(x=1, y=[2]),
        "skipped": lambda: None,
        "given": partial(sizes, 5),
    }

    def run(*argv):
        common.run_parts(
            "Head.\n\nRest.", parts, ["--json", str(file), *argv], options, lambda _: {"first": 1.5}
        )
        return json.loads(file.read_text())

    given = {"repeats": 5, "ranks": [1, 2]}
    found = {"machine": {"cores": 2}, "first": 1.5, "x": 1, "y": [2], "given": given}
    assert run() == {**found, "sizes": {"repeats": 7, "ranks": [1, 2]}, "runs": {"number": 1}}
    assert "-- sizes: Seconds by size.\n-- runs\n" in capsys.readouterr().out
    run("--parts", "runs")
    assert run("--parts", "sizes", "--ranks", "9", "--repeats", "3") == {
        **found, "sizes": {"repeats": 3, "ranks": [9]}, "runs": {"number": 2},
    }  # fmt: skip
    with pytest.raises(SystemExit):
        run("--parts", "unknown")


def test_each_part_is_saved_before_the_next_runs(common, tmp_path):
    """A failure costs the part that failed."""
    file = tmp_path / "found.json"
    with pytest.raises(ZeroDivisionError):
        common.run_parts("Head.", {"a": lambda: [1], "b": lambda: 1 / 0}, ["--json", str(file)])
    assert common.saved(file) == {"a": [1]}
    assert common.saved(tmp_path / "absent.json") == common.saved(None) == {}


def test_timer_is_the_median_of_the_given_clock(common):
    """Of 5, 1 and 3 seconds it is 3, with the last result."""
    ticks, results = iter([0, 5, 10, 11, 20, 23]), iter("abc")
    assert common.timed(lambda: next(results), 3, lambda: next(ticks)) == (3, "c")


def test_limits_of_the_machine_are_measured_once(common):
    """Positive numbers, the same ones again; a gather takes time."""
    limits = common.machine_limits()
    assert all(value > 0 for value in limits.values()) and common.machine_limits() is limits
    assert common.gather_seconds(sparse.random_array((500, 400), density=0.1, format="csr"), 16) > 0


@pytest.fixture
def quick(monkeypatch):
    """`benchmarks/quick.py`."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # put back what the script sets
    spec = importlib.util.spec_from_file_location("_quick_of_benchmarks", FOLDER / "quick.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_fall_is_what_is_lower_and_not_by_chance(quick):
    """Below three quarters of the committed ratio, and most repeats below it."""
    before = {"ratio": 4.0}
    assert quick.has_fallen({"ratio": 2.9, "ratios": (2.8, 3.0)}, before)
    assert not quick.has_fallen({"ratio": 3.1, "ratios": (3.0, 3.2)}, before)
    assert not quick.has_fallen({"ratio": 2.9, "ratios": (2.0, 4.5)}, before)
    assert not quick.has_fallen({"share": 0.5}, before)  # no peer
    assert not quick.has_fallen({"ratio": 2.9, "ratios": (2.8, 3.0)}, {})  # a new row


def test_a_quick_row_has_its_ratio_and_its_limit(quick, monkeypatch, capsys):
    """Paired, with the words; what fell is returned, what cannot be imported is skipped."""
    clock = iter(range(10**6))
    took = {"ours": 2.0, "peer": 6.0, "limit": 0.5}
    calls = {name: lambda name=name: name for name in took}
    monkeypatch.setattr(quick, "seconds", lambda call: took[call()])
    monkeypatch.setattr(quick.time, "process_time", lambda: float(next(clock)))

    def absent():
        raise ImportError("no such peer")

    rows = {"a": lambda: (*calls.values(), "a limit"), "b": absent}
    monkeypatch.setattr(quick, "ROWS", rows)
    out = {}
    assert quick.compare(rows, out, {"a": {"ratio": 5.0}}) == ["a"]
    assert out["a"]["ratio"] == 3.0 and out["a"]["share"] == 0.25 and out["a"]["limit"] == "a limit"
    assert "FALL: 5.00 -> 3.00" in capsys.readouterr().out and "b" not in out


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(path):
    """Scripts are run by hand and seldom; they import private modules that move."""
    pytest.importorskip("torch")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sklr":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_run_can_hand_every_script_a_file(path):
    """`run.py` passes ``--json`` to all."""
    text = path.read_text("utf-8")
    assert "run_parts(" in text or '"--json"' in text

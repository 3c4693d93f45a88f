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


def test_share_of_a_limit_is_the_work_at_the_rates_of_the_machine(common, monkeypatch):
    """Seconds of each kind of work add up; what there is none of is not in the words."""
    rates = {
        "copy, GB/s": 4.0, "gather from 64 MB, ns": 10.0, "exponential, ns": 5.0,
        "product, Gflop/s": 2.0, "product in float32, Gflop/s": 8.0,
    }  # fmt: skip
    monkeypatch.setattr(common, "machine_limits", lambda: rates)
    monkeypatch.setattr(common, "eigen_seconds", lambda n_rows: 1e-3 * n_rows)
    row = common.share_of_limit(10.0, flops=2e9, flops32=8e9, moved=8e9, eigen=[(2, 500), (0, 9)])
    assert row["share"] == pytest.approx(0.5)  # 1 + 1 + 2 + 1 seconds
    assert row["limit"] == (
        "2e+09 flops of products, 8e+09 flops of products in float32, 8e+09 bytes moved, "
        "2 eigendecompositions of 500 rows"
    )
    row = common.share_of_limit(4.0, gathers=1e8, exponentials=1e8, more=(0.5, "a pass"))
    assert row["share"] == pytest.approx(0.5)
    assert row["limit"] == "1e+08 numbers gathered, 1e+08 exponentials, a pass"
    assert common.share_of_limit(1.0) == {"share": 0, "limit": ""}


def test_eigendecompositions_and_operations_are_measured(common):
    """A larger matrix takes longer; a product of n by n is 2 n^3, and thrice that with gradient."""
    torch = pytest.importorskip("torch")
    assert 0 < common.eigen_seconds(5) < common.eigen_seconds(60)
    x, w = torch.ones(10, 10, requires_grad=True), torch.ones(10, 10, requires_grad=True)
    assert common.flops_of(lambda: x @ w) == 2000
    assert common.flops_of(lambda: (x @ w).sum().backward()) == 6000


def test_the_page_shows_shares_as_percentages(tmp_path, monkeypatch):
    """In tables of rows, and where one result stands alone."""
    monkeypatch.syspath_prepend(FOLDER)
    report = importlib.import_module("report")
    row = {"n": 5, "share": 0.125, "limit": "a product"}
    (tmp_path / "a.json").write_text(json.dumps({"rows": [row], "alone": row | {"share": 1.5}}))
    text = report.page(tmp_path, tmp_path / "out").read_text("utf-8")
    assert "| 5 | 12 % | a product |" in text and "| share | 150 % |" in text
    assert report.ABOUT in text


def test_the_page_draws_one_picture_of_a_family(tmp_path, monkeypatch):
    """Samples, dimension and threads beside each other; the tables have no picture of their own."""
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.syspath_prepend(FOLDER)
    report = importlib.import_module("report")
    family = {
        f"by {key}": [{key: size, "ours": 0.1 * size} for size in (1, 2, 4)]
        for key in ("n", "dimension")
    }
    threads = {"one": 2.0, "two": 1.25, "gain": 1.6, "gain by clocks": 2.0}
    content = {"with": family | {"threads": [threads]}, "without": family}
    (tmp_path / "growth.json").write_text(json.dumps(content))
    text = report.page(tmp_path, tmp_path / "out").read_text("utf-8")
    assert text.count("growth with samples, dimension and threads](growth_") == 2
    assert len(list((tmp_path / "out").glob("*.png"))) == text.count("![") == 2


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

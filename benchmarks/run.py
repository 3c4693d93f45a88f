"""Run every benchmark, or those named, and keep the results as JSON.

    python benchmarks/run.py [NAME ...] [--results FOLDER]
    python benchmarks/run.py --quick [NAME ...] [--keep]

The second form takes some minutes: rows of `quick.py`, compared with the committed ones.

NAME is a file name without ``bench_`` and ``.py``. Real recordings are used where MNE_DATA
(PhysionetMI) and SKLR_TEST_DATA (the test data folder) are set, simulated ones otherwise.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def main(argv=None):
    """Run the scripts one after the other, so that they do not disturb each other."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "--quick" in arguments:
        arguments.remove("--quick")
        sys.exit(subprocess.run([sys.executable, str(HERE / "quick.py"), *arguments]).returncode)
    known = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(known)}; default all")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    args = parser.parse_args(arguments)
    unknown = set(args.names) - set(known)
    if unknown:
        parser.error(f"unknown benchmark {sorted(unknown)}, known are {list(known)}")
    args.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.names or known:
        print(f"== {name}", flush=True)
        target = args.results / f"{name}.json"
        code = subprocess.run([sys.executable, str(known[name]), "--json", str(target)]).returncode
        if code:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Command line of the main job: ``python -m sklr.eeg --help``."""

import argparse
import sys
import time

AREAS = ("auto", "motor", "all")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sklr.eeg",
        description="Compare EEG pipelines by cross-validation, through MOABB.",
        epilog="Exit codes: 0 at least one score, 1 none, 2 wrong options, 130 interrupted.",
    )
    parser.add_argument(
        "--dataset",
        default="auto",
        help="'simulated', or a MOABB dataset such as PhysionetMI or BNCI2014_001; 'auto' "
        "(default) is PhysionetMI where MNE_DATA holds it, else simulated",
    )
    parser.add_argument(
        "--paradigm",
        default="auto",
        help="left-right, imagery (all classes), ssvep or p300; default: the dataset's own",
    )
    parser.add_argument(
        "--subjects", type=_subjects, nargs="+", help="such as 1 2 5-8; default: all there are"
    )
    parser.add_argument(
        "--evaluation",
        default="within-session",
        help="within-session (default), cross-session or cross-subject",
    )
    parser.add_argument("--pipelines", nargs="+", help="default: all; see --list")
    parser.add_argument(
        "--channels",
        nargs="+",
        default=["auto"],
        help="names, 'motor' (nine channels over the motor cortex), 'all', or 'auto' (default: "
        "those over the area that answers)",
    )
    parser.add_argument("--fmin", type=float, help="Hz (default: 8 imagery, 5 ssvep, 1 p300)")
    parser.add_argument("--fmax", type=float, help="Hz (default: 35 imagery, 45 ssvep, 24 p300)")
    parser.add_argument("--orders", type=int, nargs="+", help="orders of the nested search")
    parser.add_argument("--lags", type=int, nargs="+", help="lags of the nested search")
    parser.add_argument(
        "--paper-grid", action="store_true", help="nested search over orders and lags 1..10"
    )
    parser.add_argument("--n-jobs", type=int, default=1, help="processes over folds (default 1)")
    parser.add_argument("--out", default="results", help="folder of results (default results)")
    parser.add_argument("--seed", type=int, default=42, help="seed of the folds (default 42)")
    parser.add_argument("--download", action="store_true", help="fetch missing files")
    parser.add_argument("--list", action="store_true", help="list the pipelines and stop")
    return parser


def _subjects(text):
    """Turn "3" or "5-8" into subject numbers."""
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers such as 3 or 5-8, got {text!r}"
        ) from None
    if high < low:
        raise argparse.ArgumentTypeError(f"the range {text} runs backwards: write {high}-{low}")
    return list(range(low, high + 1))


def main(argv=None) -> int:
    """Run the main job.

    Parameters
    ----------
    argv : list of str, default=None
        Options; None takes those of the command line.

    Returns
    -------
    code : int
        0 when at least one score came out (failures are in the table), 1 when none did, 2 for
        wrong options, 130 when Ctrl-C ended it early (what was finished is kept and shown).
    """
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (ValueError, OSError, ImportError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted before the first result.", file=sys.stderr)
        return 130


def _run(args) -> int:
    from sklr.eeg._pipelines import BASELINE, CITATIONS, MEANINGS

    if args.list:
        for name, citation in CITATIONS.items():
            print(f"{name:<22}{MEANINGS[name]}\n{'':<22}{citation}")
        return 0
    from sklr.eeg import _benchmark, _report
    from sklr.eeg._options import check_writable
    from sklr.eeg._resolve import physionet_on_disk

    out = check_writable(args.out)
    orders = args.orders or (range(1, 11) if args.paper_grid else _benchmark.DEMO_ORDERS)
    lags = args.lags or (range(1, 11) if args.paper_grid else _benchmark.DEMO_LAGS)
    if args.dataset == "auto" and args.paradigm in ("auto", "left-right"):
        if physionet_on_disk():
            print("Data: PhysionetMI, real recordings found below MNE_DATA.")
        else:
            print(
                "Data: SIMULATED motor imagery, because MNE_DATA holds no PhysionetMI "
                "(--dataset PhysionetMI --subjects 1 2 --download fetches real recordings)."
            )
    print(f"Nested search: orders {list(orders)}, lags {list(lags)}. Results: {out}")
    began = time.monotonic()
    result = _benchmark.run_benchmark(
        args.dataset,
        paradigm=args.paradigm,
        subjects=args.subjects and sum(args.subjects, []),
        evaluation=args.evaluation,
        pipelines=args.pipelines,
        channels=args.channels[0] if args.channels[0] in AREAS else args.channels,
        fmin=args.fmin,
        fmax=args.fmax,
        orders=orders,
        lags=lags,
        n_jobs=args.n_jobs,
        out=out,
        seed=args.seed,
        download=args.download,
        verbose=1,
    )
    print()
    print(_report.format_report(result, BASELINE))
    written = _report.write_report(result, out, BASELINE)
    if not result.scores.empty:
        print("\nWhat the names mean:")
        for name in dict.fromkeys(result.scores["pipeline"]):
            print(f"  {name:<22}{MEANINGS.get(name, 'yours')}")
    print(
        f"{time.monotonic() - began:.0f} s; {result.n_cached} of {result.n_units} results came "
        f"from the cache. Written: {', '.join(written) or 'nothing'}"
    )
    if result.interrupted:
        return 130
    return 0 if len(result.scores) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the main job prints, writes and draws."""

import itertools

import numpy as np

METRICS = {"roc_auc": "ROC-AUC", "accuracy": "accuracy"}


def subject_table(scores):
    """Mean over sessions of each pipeline (rows, in order of appearance) and subject."""
    table = scores.pivot_table(
        index="pipeline", columns="subject", values="score", aggfunc="mean", sort=False
    )
    order = sorted(table.columns, key=lambda name: (len(str(name)), str(name)))
    return table[order]


def paired_comparisons(table, baseline, simulated=False):
    """Compare each pipeline with the baseline over the subjects that both have.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are pipelines, columns are subjects.
    baseline : str
        Row to compare with.
    simulated : bool, default=False
        Written beside each comparison.

    Returns
    -------
    comparisons : pandas.DataFrame
        Per pipeline: number of subjects, mean difference, its standard error, the 95 % t
        interval, and the two-sided sign-flip permutation p-value (exact up to 15 subjects).
        Error, interval and p-value are NaN where there are too few subjects: 2 for the first
        two, 5 for the p-value, whose smallest possible value with n subjects is ``2 / 2**n``.
    """
    import pandas as pd
    from scipy.stats import t

    rows = []
    for name in table.index:
        if name == baseline:
            continue
        difference = (table.loc[name] - table.loc[baseline]).dropna().to_numpy()
        n = len(difference)
        mean = difference.mean() if n else np.nan
        error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        reach = t.ppf(0.975, n - 1) * error if n > 1 else np.nan
        rows.append(
            {
                "pipeline": name,
                "baseline": baseline,
                "n_subjects": n,
                "simulated": simulated,
                "difference": mean,
                "standard_error": error,
                "low": mean - reach,
                "high": mean + reach,
                "p": sign_flip_p(difference) if n >= 5 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def sign_flip_p(difference) -> float:
    """Two-sided p-value of the mean under random signs: exact up to 15 values."""
    difference = np.asarray(difference, dtype=float)
    n = len(difference)
    if n <= 15:
        signs = np.array(list(itertools.product((1, -1), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), size=(20000, n))
        signs[0] = 1
    means = np.abs(signs @ difference)
    return float(np.mean(means >= abs(difference.sum()) - 1e-12))


def format_report(result, baseline) -> str:
    """The table of scores, the comparisons and what failed, as text."""
    lines = []
    label = "SIMULATED data: nothing here is a claim about brains" if result.simulated else ""
    metric = METRICS.get(result.scoring, result.scoring)
    lines.append(f"{result.dataset}, {result.evaluation}, {metric}. {label}".rstrip())
    if result.scores.empty:
        lines.append("No result.")
    else:
        table = subject_table(result.scores)
        seconds = result.scores.groupby("pipeline", sort=False)["time"].mean()
        width = max(len(name) for name in table.index) + 2
        shown = list(table.columns)[:12]
        head = f"{'pipeline':<{width}}{'mean':>7}{'sd':>7}{'s/fit':>8}  "
        lines.append(head + "".join(f"{'S' + str(s):>6}" for s in shown))
        for name, row in table.iterrows():
            sd = f"{row.std(ddof=1):7.3f}" if row.count() > 1 else f"{'-':>7}"
            cells = "".join(f"{row[s]:6.2f}" if np.isfinite(row[s]) else f"{'-':>6}" for s in shown)
            lines.append(f"{name:<{width}}{row.mean():7.3f}{sd}{seconds[name]:8.2f}  {cells}")
        if len(shown) < table.shape[1]:
            lines.append(f"({table.shape[1] - len(shown)} more subjects are in results.csv)")
        if baseline in table.index and len(table) > 1:
            lines += _format_comparisons(paired_comparisons(table, baseline), width, baseline)
    for failure in result.failures:
        where = f", {failure['pipeline']}" if failure["pipeline"] else ""
        lines.append(f"FAILED subject {failure['subject']}{where}: {failure['reason']}")
    if result.interrupted:
        lines.append("Interrupted: the table holds what was finished; run again to go on.")
    return "\n".join(lines)


def _format_comparisons(comparisons, width, baseline):
    lines = [f"paired differences to {baseline} over subjects (p not adjusted for their number):"]
    for row in comparisons.itertuples():
        text = f"{row.pipeline:<{width}}{row.difference:+7.3f}"
        if np.isfinite(row.standard_error):
            text += f"  se {row.standard_error:.3f}, 95 % [{row.low:+.3f}, {row.high:+.3f}]"
        if np.isfinite(row.p):
            text += f", p = {row.p:.3f}"
        lines.append(text)
    n = int(comparisons["n_subjects"].max())
    if n < 5:
        lines.append(f"With {n} subject(s) no difference here can be told from chance.")
    elif n < 10:
        lines.append(f"With {n} subjects only large, consistent differences can show.")
    return lines


def paired_figure(result, baseline):
    """Draw each subject's scores over the pipelines, and the mean of each pipeline.

    Parameters
    ----------
    result : BenchmarkResult
        With at least one score.
    baseline : str
        Drawn first.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Not tied to a window; ``figure.savefig`` writes it.
    """
    from matplotlib.figure import Figure

    table = subject_table(result.scores)
    names = sorted(table.index, key=lambda name: name != baseline)
    table = table.loc[names]
    figure = Figure(figsize=(1.5 * len(names) + 2.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    colours = [f"C{i % 10}" for i in range(table.shape[1])]
    for colour, (subject, column) in zip(colours, table.items()):
        axes.plot(
            places, column, "o-", color=colour, lw=1, ms=5, alpha=0.7, label=f"subject {subject}"
        )
    axes.plot(places, table.mean(axis=1), "k_", ms=34, mew=3, label="mean")
    if result.scoring == "roc_auc":
        axes.axhline(0.5, color="0.6", lw=1, ls=":")
    axes.set_xticks(places, [name.replace("+", "+\n", 1) for name in names], fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylabel(METRICS.get(result.scoring, result.scoring))
    title = f"{result.dataset.partition('-')[0]}, {result.evaluation}"
    axes.set_title("SIMULATED data: " + title if result.simulated else title)
    if table.shape[1] <= 12:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False, markerscale=0.5)
    return figure


def write_report(result, out, baseline) -> list[str]:
    """Write results.csv, comparisons.csv, failures.csv and figure.png; return their names."""
    import pandas as pd

    written = []

    def keep(frame, name):
        frame.to_csv(out / name, index=False)
        written.append(name)

    if not result.scores.empty:
        keep(result.scores.assign(evaluation=result.evaluation), "results.csv")
        table = subject_table(result.scores)
        if baseline in table.index and len(table) > 1:
            keep(paired_comparisons(table, baseline, result.simulated), "comparisons.csv")
        paired_figure(result, baseline).savefig(out / "figure.png", dpi=130)
        written.append("figure.png")
    if result.failures:
        keep(pd.DataFrame(result.failures), "failures.csv")
    return written

"""Make one page of all results: a table for each part, and how time grows with size.

    python benchmarks/report.py [--results FOLDER] [--out FOLDER]

Writes ``benchmarks.md`` and the figures that it shows. The pages call it when they are built.
"""

import argparse
import json
import math
import pathlib
import statistics
from numbers import Real

HERE = pathlib.Path(__file__).parent
SIZES = ("n", "n_samples", "samples", "entries", "edges", "points", "channels", "dimension")
TIMES = ("seconds", "cpu", "wall", "ours")
SHOWN = 24  # rows of a table before the rest is folded away


ABOUT = (
    "Each `share` is the time that this machine needs for nothing but the work named under "
    "`limit` (products, exponentials, eigendecompositions, memory passed through, measured in the "
    "same run), over the time of the row: near 100 % nothing is left to gain but less work; far "
    "below it, the work named is not what takes the time; above it, less than that work is done."
)


def is_plain(value):
    return value is None or isinstance(value, str | Real)


def as_text(value):
    """Return a number, or a few of them, as the cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        if len(value) > 3 and all(isinstance(item, Real) for item in value):
            return (
                f"{as_text(statistics.median(value))} "
                f"({as_text(min(value))} to {as_text(max(value))}, {len(value)} values)"
            )
        return ", ".join(as_text(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def as_cell(name, value):
    """Return the cell of a column: shares of a limit as percentages."""
    if name == "share" and isinstance(value, float):
        return f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"
    return as_text(value)


def as_number(key):
    """Return a key such as "10,000" or "0.5" as a number, others as None."""
    try:
        return float(str(key).replace(",", "").replace("_", ""))
    except ValueError:
        return None


def table(rows):
    """Return a Markdown table of dictionaries, the long rest of it folded."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = [
        "| " + " | ".join(str(name).replace("_", " ") for name in columns) + " |",
        "|" + "---|" * len(columns),
    ]
    body = [
        "| "
        + " | ".join(as_cell(name, row[name]) if name in row else "" for name in columns)
        + " |"
        for row in rows
    ]
    lines = [*head, *body[:SHOWN], ""]
    if len(body) > SHOWN:
        lines += [f"<details><summary>{len(body) - SHOWN} more rows</summary>", ""]
        lines += [*head, *body[SHOWN:], "", "</details>", ""]
    return lines


def as_rows(value):
    """Return a container as the rows of one table, or None where it is more than a table."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        rows = value
    elif isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        rows = [{f"{i + 1}": cell for i, cell in enumerate(item)} for item in value]
    elif isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        rows = [{"": key, **item} for key, item in value.items()]
    elif isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        if not all(is_plain(cell) for cells in value.values() for cell in cells):
            return None
        rows = [{"": key, "values": cells} for key, cells in value.items()]
    else:
        return None
    deep = any(
        not is_plain(part)
        for row in rows
        for cell in row.values()
        if isinstance(cell, dict | list)
        for part in (cell.values() if isinstance(cell, dict) else cell)
    )
    return None if deep else rows


def growth_of(rows):
    """Return {method: [(size, seconds), ...]} of a table that has sizes and times, else {}."""
    size = next((name for name in SIZES if any(isinstance(r.get(name), Real) for r in rows)), None)
    if size is None and all(as_number(row.get("")) is not None for row in rows):
        size = ""
    time = next((name for name in TIMES if any(isinstance(r.get(name), Real) for r in rows)), None)
    if size is None or time is None:
        return {}
    curves = {}
    for row in rows:
        label = ", ".join(str(v) for k, v in row.items() if isinstance(v, str) and k != size)
        if isinstance(row.get(time), Real) and row[time] > 0 and row.get(size) is not None:
            point = (as_number(row[size]), row[time])
            curves.setdefault(label, []).append(point)
    curves = {label: sorted(points) for label, points in curves.items()}
    return {k: v for k, v in curves.items() if len({size for size, _ in v}) >= 3 and v[0][0] > 0}


def slope(points):
    """Return the exponent of a least-squares line through the logarithms."""
    x, y = zip(*((math.log(size), math.log(seconds)) for size, seconds in points), strict=True)
    return statistics.linear_regression(x, y).slope


def draw(curves, path):
    """Draw time against size in logarithms, with the exponent of each curve."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for label, points in list(curves.items())[:8]:
        exponent = slope(points)
        axes.loglog(*zip(*points, strict=True), "o-", label=f"{label} (exponent {exponent:.2f})")
    axes.set(xlabel="size", ylabel="seconds")
    axes.legend(fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def is_family(value):
    """Whether a part is the growth of a family, as `bench_growth.py` leaves it."""
    return isinstance(value, dict) and {"by n", "by dimension"} <= set(value)


def draw_family(value, path):
    """Draw the growth of a family: against samples, against dimension, and on two threads."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, panels = plt.subplots(
        1, 3, figsize=(8.5, 2.7), layout="constrained", gridspec_kw={"width_ratios": (3, 3, 2)}
    )
    for axes, key in zip(panels, ("n", "dimension"), strict=False):
        points = [(row[key], row["ours"]) for row in value[f"by {key}"]]
        exponent = slope(points)
        axes.loglog(*zip(*points, strict=True), "o-", label=f"exponent {exponent:.2f}")
        (first, _), (x, y) = points[0], points[-1]
        if exponent > 0.3:
            axes.loglog([first, x], [y * first / x, y], ":", color="gray", label="exponent 1")
        low, high = (edge(seconds for _, seconds in points) for edge in (min, max))
        middle, half = math.sqrt(low * high), max(math.sqrt(high / low), 3.2)  # a decade at least
        axes.set_ylim(middle / half / 1.2, middle * half * 1.2)
        axes.set_xticks([size for size, _ in points], [f"{size:,}" for size, _ in points])
        axes.xaxis.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set(xlabel="samples" if key == "n" else key, ylabel="CPU seconds")
        axes.legend(fontsize="small", frameon=False, loc="upper left")
        axes.grid(alpha=0.3)
    if value.get("threads"):
        row = value["threads"][0]
        bars = {"1": row["one"], "2": row["two"]}
        if "gain by clocks" in row:
            bars["2, cores\nfree"] = row["one"] / row["gain by clocks"]
        panels[2].bar(list(bars), list(bars.values()), color=["C0", "C1", "C2"][: len(bars)])
        panels[2].set(xlabel="threads", ylabel="seconds")
    else:
        panels[2].set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def section(title, value, level, stem, out, lines, pictures=True):
    """Append a titled part: plain values, then tables, then what is nested deeper."""
    if is_plain(value):
        lines += [f"{title}: {as_text(value)}", ""]
        return
    lines += ["#" * min(level, 5) + " " + title.replace("_", " "), ""]
    rows = as_rows(value)
    if rows is not None:
        lines += table(rows)
        curves = growth_of(rows) if pictures else {}
        if curves:
            name = f"{stem}_{len(list(out.glob('*.png')))}.png"
            draw(curves, out / name)
            lines += [f"![{title}: seconds against size]({name})", ""]
    elif isinstance(value, list):
        if all(is_plain(item) for item in value):
            lines += [as_text(value), ""]
        else:
            for number, item in enumerate(value, 1):
                plain = (
                    {k: v for k, v in item.items() if is_plain(v)} if isinstance(item, dict) else {}
                )
                name = as_text(plain) if plain else f"{title} {number}"
                rest = {k: v for k, v in item.items() if k not in plain} if plain else item
                section(name, rest, level + 1, stem, out, lines)
    else:
        if is_family(value):
            name, pictures = f"{stem}_{len(list(out.glob('*.png')))}.png", False
            draw_family(value, out / name)
            lines += [f"![{title}: growth with samples, dimension and threads]({name})", ""]
        plain = {key: item for key, item in value.items() if is_plain(item)}
        if plain:
            lines += table([{"": key, "value": as_cell(key, item)} for key, item in plain.items()])
        for key, item in value.items():
            if key not in plain:
                section(str(key), item, level + 1, stem, out, lines, pictures)


def page(results, out):
    """Write the page and return its path."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    lines = ["# All results", "", ABOUT, ""]
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text())
        machine = content.pop("machine", {})
        lines += ["## " + path.stem.replace("_", " "), ""]
        if machine:
            lines += [as_text(machine) + ".", ""]
        for key, value in content.items():
            section(str(key), value, 3, path.stem, out, lines)
    target = out / "benchmarks.md"
    target.write_text("\n".join(lines), encoding="utf-8")
    return target


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "report")
    args = parser.parse_args(argv)
    print(page(args.results, args.out))


if __name__ == "__main__":
    main()

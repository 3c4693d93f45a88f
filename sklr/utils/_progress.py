"""Progress of long loops: tqdm where it is installed, else a line now and then."""

import sys
import time
from collections.abc import Generator, Iterable
from typing import Any


def progress(
    items: Iterable[Any], *, total: int, description: str, verbose: int | bool
) -> Generator[Any, None, None]:
    """Iterate over `items`, showing how far it is on standard error when `verbose`.

    A loop that is left before its end, as one is that has converged, ends its bar at 100 %, with
    the number of steps that it took.

    Parameters
    ----------
    items : iterable
        What to iterate over.
    total : int
        How many there are.
    description : str
        What the loop does.
    verbose : int or bool
        0 shows nothing.

    Yields
    ------
    item : object
        The items, unchanged.
    """
    if not verbose:
        yield from items
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        began = shown = time.monotonic()
        done = 0
        try:
            for done, item in enumerate(items, start=1):
                yield item
                if time.monotonic() - shown > 5 or done == total:
                    shown = time.monotonic()
                    print(f"{description}: {done}/{total}, {shown - began:.0f} s", file=sys.stderr)
        except GeneratorExit:
            print(f"{description}: {_ended(done, total)}", file=sys.stderr)
            raise
        return
    bar = tqdm(total=total, desc=description, file=sys.stderr)
    try:
        for item in items:
            yield item
            bar.update()
    except GeneratorExit:
        # The loop was left: a bar that stays at 5 % would look like a failure.
        bar.update()
        bar.set_description_str(f"{description}, {_ended(bar.n, total)}", refresh=False)
        bar.total = bar.n
        bar.refresh()
        raise
    finally:
        bar.close()


def _ended(done: int, total: int) -> str:
    return f"ended after {done} of at most {total}"

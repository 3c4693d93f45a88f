"""Progress of long loops: tqdm where it is installed, else a line now and then."""

import sys
import time
from collections.abc import Generator, Iterable
from typing import Any


def progress(
    items: Iterable[Any], *, total: int, description: str, verbose: int | bool
) -> Generator[Any, None, None]:
    """Iterate over `items`, showing how far it is on standard error when `verbose`.

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
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - shown > 5 or done == total:
                shown = time.monotonic()
                print(f"{description}: {done}/{total}, {shown - began:.0f} s", file=sys.stderr)
        return
    yield from tqdm(items, total=total, desc=description, file=sys.stderr)

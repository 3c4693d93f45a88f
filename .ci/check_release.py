"""Compare what a release would upload with the repository: check_release.py WHEEL ARCHIVE.

In the wheel is every tracked file of the package, in the source archive every tracked file, and
neither has anything else. Their sizes are printed, and bounded, since a stray data file would show
there first.
"""

import pathlib
import subprocess
import sys
import tarfile
import zipfile

LIMIT = 4 * 2**20  # of either; a wheel is about one MiB


def tracked(*folders):
    """Return the files under version control."""
    listing = subprocess.run(
        ["git", "ls-files", *folders], capture_output=True, text=True, check=True
    )
    return set(listing.stdout.splitlines())


def compare(path, inside, expected):
    """Stop with a message where the files inside are not the expected ones."""
    if inside != expected:
        sys.exit(
            f"not in {path.name}: {sorted(expected - inside)}; "
            f"only there: {sorted(inside - expected)}"
        )
    size = path.stat().st_size
    if size > LIMIT:
        sys.exit(f"{path.name} has {size} bytes, more than {LIMIT}")
    print(f"{path.name}: {len(inside)} files, as tracked; {size / 2**20:.2f} MiB")


wheel, archive = map(pathlib.Path, sys.argv[1:3])
with zipfile.ZipFile(wheel) as opened:
    names = opened.namelist()
if not any(name.endswith("LICENSE") for name in names):
    sys.exit(f"{wheel.name} has no licence")
compare(wheel, {name for name in names if ".dist-info/" not in name}, tracked("sklr"))

made = ("PKG-INFO", "setup.cfg", "sklr.egg-info/")  # written by setuptools
with tarfile.open(archive) as opened:
    names = [item.name.partition("/")[2] for item in opened.getmembers() if item.isfile()]
compare(archive, {name for name in names if not name.startswith(made)}, tracked())

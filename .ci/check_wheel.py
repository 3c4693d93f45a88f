"""Compare a wheel with the repository: every tracked file of the package is in it, no other."""

import subprocess
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    licence = [name for name in wheel.namelist() if name.endswith("LICENSE")]
listing = subprocess.run(["git", "ls-files", "sklr"], capture_output=True, text=True, check=True)
tracked = set(listing.stdout.split())
if inside != tracked or not licence:
    sys.exit(
        f"not in the wheel: {sorted(tracked - inside)}; only there: {sorted(inside - tracked)}; "
        f"licence: {licence}"
    )
print(f"{len(inside)} files, as tracked")

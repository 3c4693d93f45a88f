"""Quick parameters for the checks of every compressor."""

from typing import Any

#: Class name -> parameters that suit networks of a few units.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    # A path of the default's rank would be as large as the layers of the checks.
    "EigenspaceCompensation": {"rank": 2},
}

"""Passwords and tokens taken out of what is shown: logs are kept, sent to others and quoted in reports."""

from __future__ import annotations

import os
import re

#: Variables that hold secrets, by their names.
NAMED = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|_KEY$|ACCESS_KEY", re.IGNORECASE)

#: User and password in an address.
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")

SHORTEST = 6  # characters; a shorter value is no secret, and would be found in ordinary words


def redacted(text: str) -> str:
    """``text`` with *** for each secret of this process's environment, and for those in addresses."""
    values = {v for name, v in os.environ.items() if NAMED.search(name) and len(v) >= SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return IN_ADDRESS.sub("***@", text)

"""Known holes of the installed packages, by pip-audit. Says so and passes where the database cannot be reached.
`make audit`; AUDIT=strict fails for a hole, otherwise it is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PATIENCE = 90  # seconds


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("audit: the database of known holes cannot be reached; nothing was checked")
        return 0
    holes = [f"{one['name']} {one['version']}: {hole['id']}" for one in found for hole in one.get("vulns", [])]
    print("\n".join(holes) or f"audit: no known hole in {len(found)} packages")
    return 1 if holes and os.environ.get("AUDIT") == "strict" else 0


if __name__ == "__main__":
    sys.exit(main())

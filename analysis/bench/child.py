"""Measuring in a fresh process, where the environment or a clean memory matters: `in_child` here, `main` over there.

The child is `python -m analysis.bench.child MODULE FUNCTION JSON`; it calls the function with the keywords of the JSON
object and prints the Row behind a mark, so that whatever libraries print meanwhile does no harm.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from analysis.bench.measuring import Row
from analysis.errors import AnalysisError

MARK = "bench-row "

# glibc gives large arrays back to the system after each use, and every page of the next one costs a page fault: 1.6 to
# 1.8 times the whole step of a trainer that allocates its codes anew. With these the freed memory is kept.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def in_child(module: str, function: str, *, environment: dict[str, str] | None = None, **keywords: Any) -> Row:
    """The Row that module.function(**keywords) returns in a new process. AnalysisError when that process fails."""
    command = [sys.executable, "-m", "analysis.bench.child", module, function, json.dumps(keywords)]
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        raise AnalysisError(
            f"The benchmark process {function}({keywords}) ended with code {done.returncode} and no figure; "
            "its own message stands above: free memory or leave this bench out."
        )
    return Row(**json.loads(found[-1].removeprefix(MARK)))


def main(arguments: list[str]) -> None:
    module, function, keywords = arguments
    row = getattr(importlib.import_module(module), function)(**json.loads(keywords))
    print(f"\n{MARK}{json.dumps(row.as_dict())}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

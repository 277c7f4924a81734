"""What a benchmark row is and how it is timed: ours and the baseline alternate in one run, medians, and peak memory
beyond the inputs by the operating system's accounting."""

from __future__ import annotations

import gc
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One measured case. `ratio` = baseline_s / ours_s unless the note says otherwise; None where it does not apply."""

    bench: str
    case: str
    ours_s: float | None
    baseline: str | None = None
    baseline_s: float | None = None
    ratio: float | None = None
    peak_mb: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    bench: str,
    case: str,
    ours: Work,
    baseline: Work | None,
    *,
    name: str | None = None,
    repeats: int = 3,
    warm: bool = True,
    peak_mb: float | None = None,
    note: str = "",
) -> Row:
    """Time both in turn, medians of `repeats`.

    Before that ours runs once, measured for its peak memory unless `peak_mb` says what that is, and with `warm` the
    baseline runs once as well. warm=False is for baselines of many seconds, where the first run is like any other.
    """
    if peak_mb is None:
        peak_mb = peak_memory_mb(ours)
    else:
        ours()
    if baseline is not None and warm:
        baseline()
    ours_s, baseline_s = [], []
    for _ in range(max(repeats, 1)):
        ours_s.append(seconds(ours))
        if baseline is not None:
            baseline_s.append(seconds(baseline))
    mine = statistics.median(ours_s)
    other = statistics.median(baseline_s) if baseline_s else None
    ratio = round(other / mine, 3) if other is not None else None
    return Row(bench, case, rounded(mine), name, rounded(other), ratio, peak_mb, note)


def seconds(work: Work) -> float:
    """Wall time of one call, the garbage collector switched off meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    finally:
        if collecting:
            gc.enable()


def median_seconds(work: Work, repeats: int = 3) -> float:
    return statistics.median(seconds(work) for _ in range(repeats))


def peak_memory_mb(work: Work) -> float:
    """Growth of the resident set's high-water mark while `work` runs, in MB: what it needs beyond its inputs."""
    gc.collect()
    reset = Path("/proc/self/clear_refs")
    if platform.system() == "Linux" and reset.exists():
        try:
            reset.write_text("5")  # the high-water mark becomes the present size
        except OSError:  # not permitted in some containers: the mark then only ever grows
            work()
            return _high_water_mb()
        before = _status_mb("VmRSS")
        work()
        return round(max(_status_mb("VmHWM") - before, 0.0), 1)
    before = _high_water_mb()
    work()
    return round(max(_high_water_mb() - before, 0.0), 1)


def rounded(value: float | None) -> float | None:
    """Six significant digits: more would only pretend."""
    return None if value is None else float(f"{value:.6g}")


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{field} is not in /proc/self/status")


def _high_water_mb() -> float:
    unit = 1024 * 1024 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

"""Running kernels: every row once, in order, from several threads, after a fork, and without a place for the cache."""

import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from analysis import jit
from analysis.sae import kernels


def spans(lo, hi, mark):
    mark[lo:hi] += 1
    return lo, hi


@pytest.mark.parametrize("n", [0, 1, 9, 10, 101])
def test_every_row_is_visited_once_and_results_come_in_order(n):
    mark = np.zeros(n, int)
    parts = jit.over_rows(spans, n, mark, grain=10)
    assert (mark == 1).all()
    assert parts == [(lo, min(lo + 10, n)) for lo in range(0, n, 10)]


def test_an_error_in_a_kernel_reaches_the_caller():
    def fail(lo, hi):
        raise ValueError(f"row {lo}")

    with pytest.raises(ValueError, match="row 0"):
        jit.over_rows(fail, 50, grain=10)


def test_two_visitors_may_compute_at_once():
    rng = np.random.default_rng(0)
    indices, values = rng.integers(0, 40, (500, 4)).astype(np.int32), rng.random((500, 4)).astype(np.float32)
    atoms = rng.standard_normal((40, 8)).astype(np.float32)
    expected = np.einsum("nk,nkd->nd", values, atoms[indices])
    found = [np.zeros((500, 8), np.float32) for _ in range(6)]

    def visit(out):
        for _ in range(20):
            jit.over_rows(kernels.decode, 500, indices, values, atoms, out, grain=16)

    visitors = [threading.Thread(target=visit, args=(out,)) for out in found]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    for out in found:
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    original = numba.njit

    def read_only(function, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(function, **options)

    monkeypatch.setattr(numba, "njit", read_only)

    def double(x):
        return 2 * x

    assert jit.kernel(double)(4) == 8


def test_thread_count_and_fork():
    code = (
        "import os, numpy as np\n"
        "from analysis.jit import over_rows, thread_count\n"
        "work = lambda lo, hi, out: out.__setitem__(slice(lo, hi), 1)\n"
        "def all_rows():\n"
        "    out = np.zeros(100); over_rows(work, 100, out, grain=5); return out.sum()\n"
        "assert thread_count() == 3 and all_rows() == 100\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if all_rows() == 100 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    environment = {"NUMBA_NUM_THREADS": "3", "PYTHONPATH": ".", "PATH": "", "HOME": "/tmp"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=environment)
    assert done.stdout.strip() == "0", done.stderr

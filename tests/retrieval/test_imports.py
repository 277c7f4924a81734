"""Browsing a cache must start fast: the retrieval package loads neither torch nor numba before something needs them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import analysis.retrieval

HEAVY = ("torch", "transformers", "numba", "streamlit", "plotly")


def test_every_module_but_the_kernels_imports_without_heavy_packages():
    names = [f"analysis.retrieval.{module.name}" for module in pkgutil.iter_modules(analysis.retrieval.__path__)]
    names.remove("analysis.retrieval.kernels")
    assert len(names) > 15
    code = f"import sys, {', '.join(names)}\nprint([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

"""What is imported beside the starting server is what the first page needs, and how NumPy finds its surroundings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic_store import make_store

ROOT = Path(__file__).resolve().parents[2]
FIRST_PAGE = """
import json, sys
from streamlit.testing.v1 import AppTest
from pages.components.server import libraries

libraries.begin()
libraries.ready()
there = {name.split(".")[0] for name in sys.modules}
page = AppTest.from_file(sys.argv[1], default_timeout=100).run()
new = {name.split(".")[0] for name in sys.modules} - there
print(json.dumps([len(page.exception), page.title[0].value, "pandas" in there, "torch" in there, sorted(new)]))
"""


def test_the_first_page_finds_all_its_libraries_there(tmp_path: Path) -> None:
    make_store(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", FIRST_PAGE, str(ROOT / "pages/overview.py")], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "RETRIEVALLENS_CACHE": str(tmp_path)}, check=True,
    )  # fmt: skip
    exceptions, title, pandas, torch, new = json.loads(found.stdout.splitlines()[-1])
    assert (exceptions, pandas, torch) == (0, True, False)
    assert title.startswith("Why do generative giants")
    assert new == []


NUMPY = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print("numpy", os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

sys.meta_path.insert(0, Watch())
import streamlit.web.cli
__import__(sys.argv[1])
import numpy
"""


@pytest.mark.parametrize("module", ["app", "analysis.__main__"])
def test_threads_of_products_are_told_to_sleep_before_numpy_is_imported(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    found = subprocess.run(
        [sys.executable, "-c", NUMPY, module], cwd=ROOT, capture_output=True, text=True, env=environment, check=True
    )
    assert found.stdout.splitlines() == ["numpy 16"]

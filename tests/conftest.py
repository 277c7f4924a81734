"""What all tests share."""

from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import local_script_runner

# Every AppTest starts a runtime of its own, which reads the metadata of all installed packages in search of components:
# more than the page itself takes. They do not change while the tests run.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

# An AppTest looks a thousand times a second whether its page is done, and takes the interpreter from the page each time.
look = local_script_runner.require_widgets_deltas


def wait_for_page(runner: local_script_runner.LocalScriptRunner, timeout: float = 3) -> None:
    runner._script_thread.join(timeout)
    if not runner.script_stopped():
        look(runner, 0)  # says that the time is over


local_script_runner.require_widgets_deltas = wait_for_page


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a browser first, then those with slow tests: at the end of a run nobody waits for one long file."""

    def weight(item: pytest.Item) -> int:
        return 2 if item.get_closest_marker("browser") else 1 if item.get_closest_marker("slow") else 0

    files: dict[Path, int] = {}
    for item in items:
        files[item.path] = max(files.get(item.path, 0), weight(item))
    items.sort(key=lambda item: -files[item.path])

"""What all tests share."""

from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import local_script_runner
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

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


# Files that drive the app on the demo go to one process, where they share its server and what that has in memory.
ON_THE_DEMO = {f"tests/e2e/test_{name}.py" for name in ("main_job", "back_and_forth", "method")}


class LoadRooms(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "the demo" if file in ON_THE_DEMO else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadRooms | None:
    return LoadRooms(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a browser first, then those with slow tests: at the end of a run nobody waits for one long file."""

    def weight(item: pytest.Item) -> int:
        return 2 if item.get_closest_marker("browser") else 1 if item.get_closest_marker("slow") else 0

    files: dict[Path, int] = {}
    for item in items:
        files[item.path] = max(files.get(item.path, 0), weight(item))
    items.sort(key=lambda item: -files[item.path])

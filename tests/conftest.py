"""What all tests share."""

from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner

# Every AppTest starts a runtime of its own, which reads the metadata of all installed packages in search of components:
# more than the page itself takes. They do not change while the tests run.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a browser first, then those with slow tests: at the end of a run nobody waits for one long file."""

    def weight(item: pytest.Item) -> int:
        return 2 if item.get_closest_marker("browser") else 1 if item.get_closest_marker("slow") else 0

    files: dict[Path, int] = {}
    for item in items:
        files[item.path] = max(files.get(item.path, 0), weight(item))
    items.sort(key=lambda item: -files[item.path])

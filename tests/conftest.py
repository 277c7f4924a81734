"""What all tests share."""

from functools import cache

from streamlit.components.v2 import manifest_scanner

# Every AppTest starts a runtime of its own, which reads the metadata of all installed packages in search of components:
# more than the page itself takes. They do not change while the tests run.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)

import pytest


def needs_overcomplete() -> None:
    """Skips a test where the library, its oracle, does not install."""
    pytest.importorskip("overcomplete", reason="overcomplete 0.3.0 does not install on Python 3.13")

"""What a training checkpoint may hold beside tensors, and what is built in its place: nothing of the named classes runs.

torch's restricted unpickler calls the allowed names. A logs dictionary, a NumPy number or array and a path are data, but
their own classes could do more than hold data (NumPy's can unpickle objects), so each name is given a small class of ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_PATHS = (
    "PosixPath",
    "WindowsPath",
    "PurePosixPath",
    "PureWindowsPath",
    "Path",
)  # Python 3.13 calls their module _local
_NUMBERS = "biufc"  # kinds of NumPy's types that are numbers


class Type:
    """numpy.dtype of numbers."""

    def __init__(self, code: str = "", *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = "=" if state[1] not in ("<", ">") else state[1]

    def numbers(self, data: bytes) -> np.ndarray:
        try:
            found = np.dtype(self.code)
        except TypeError:
            return np.empty(0)
        if found.kind not in _NUMBERS:
            return np.empty(0)
        return np.frombuffer(data, found.newbyteorder(self.order))  # type: ignore[arg-type]


class Array:
    """numpy.ndarray of numbers, and what rebuilds it; `values` is None for any other."""

    values: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(kind, Type) and isinstance(data, bytes):
            flat = kind.numbers(data)
            if flat.size == int(np.prod(shape)):
                self.values = flat.reshape(shape, order="F" if fortran else "C")


class Plain(dict):
    """collections.defaultdict, argparse.Namespace and their like: a dictionary of what was set."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.update(state)


def number(kind: object, data: object = b"") -> float | int | None:
    """numpy.core.multiarray.scalar"""
    found = kind.numbers(data) if isinstance(kind, Type) and isinstance(data, bytes) else np.empty(0)
    return found[0].item() if found.size == 1 and found.dtype.kind != "c" else None


def path(*parts: object) -> str:
    return "/".join(str(part) for part in parts)


def plain_dict(*_: object) -> dict[Any, Any]:
    return {}


ALLOWED: list[Any] = [
    (plain_dict, "collections.defaultdict"),
    (list, "builtins.list"),
    (Plain, "argparse.Namespace"),
    (Plain, "types.SimpleNamespace"),
    *((path, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in _PATHS),
    (Type, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]

"""Every kind of step by its name, and the kinds that a researcher adds from a file of her own."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from analysis.errors import RetrievalError
from analysis.retrieval.interventions.step import STAGES, Family, Step

PLUGINS = "RETRIEVALLENS_PLUGINS"  # files with steps, separated as in PATH
Kind = TypeVar("Kind", bound=type[Step])

KINDS: dict[str, type[Step]] = {}
_loaded: dict[Path, tuple[str, ...]] = {}


def register(kind: Kind) -> Kind:
    """Make a kind of step known to text forms, pages and commands; also a decorator. RetrievalError for a name that is
    missing, written in a way that no text form can hold, or taken."""
    name = kind.name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name or ""):
        raise RetrievalError(
            f"The step {kind.__name__} has the name {name!r}; expected `name = ...` with small letters, digits and _."
        )
    if KINDS.get(name, kind) is not kind or name == "base":
        raise RetrievalError(f"The step {kind.__name__} has the name {name!r}, which is taken; choose another one.")
    declared = kind.__dict__.get("__dataclass_params__")
    if kind.acts not in STAGES or declared is None or not declared.frozen:
        raise RetrievalError(
            f"The step {kind.__name__} is no frozen dataclass of a base class of `interventions.step`; expected "
            "@dataclass(frozen=True) and a base such as MapsRows."
        )
    KINDS[name] = kind
    return kind


def family_of(kind: type[Step] | Step) -> Family:
    """What kinds that exclude each other share: a name, a title and one sentence. A kind without a family is one."""
    return kind.family or Family(kind.name, kind.title or kind.name, kind.help)


def families() -> dict[str, tuple[Family, tuple[type[Step], ...]]]:
    """Name -> (family, its kinds), in the order in which they were registered."""
    found: dict[str, tuple[Family, tuple[type[Step], ...]]] = {}
    for kind in KINDS.values():
        family = family_of(kind)
        found[family.name] = (family, (*found.get(family.name, (family, ()))[1], kind))
    return found


def load_plugin(path: str | Path) -> tuple[str, ...]:
    """Register every step that a Python file defines; gives their names. The file runs with the rights of whoever starts the
    app or the command, so it is named there, never by a link. RetrievalError with file and line for one that does not import
    or holds no step."""
    file = Path(path).expanduser().resolve()
    if file in _loaded:
        return _loaded[file]
    module = _imported(file)
    kinds = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Step) and value.__module__ == module.__name__
    ]
    if not kinds:
        raise RetrievalError(
            f"{file} defines no step; expected a class with a base of `analysis.retrieval.interventions`."
        )
    for kind in kinds:
        kind.source = str(file)
        try:
            register(kind)
        except RetrievalError as error:
            line = _line_of(file, kind.__name__)
            raise RetrievalError(f"{file}, line {line}: {error}") from error
    _loaded[file] = tuple(kind.name for kind in kinds)
    return _loaded[file]


def plugin_files() -> tuple[Path, ...]:
    """The files whose steps are registered."""
    return tuple(_loaded)


def load_named_plugins() -> list[str]:
    """Register the files named in $RETRIEVALLENS_PLUGINS; gives one sentence for each that cannot be used."""
    problems = []
    for path in os.environ.get(PLUGINS, "").split(os.pathsep):
        if path.strip():
            try:
                load_plugin(path.strip())
            except RetrievalError as error:
                problems.append(f"A step of {Path(path).name} is missing: {error}")
    return problems


def blame(step: Step, error: Exception) -> RetrievalError:
    """A failure inside a step of a plugin, as one sentence with file and line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == step.source]
    place = f"{step.source}, line {frames[-1].lineno}" if frames else step.source
    return RetrievalError(f"The step {step.name!r} failed: {error} ({type(error).__name__} at {place}).")


def _imported(file: Path) -> ModuleType:
    name = f"retrievallens_plugin_{file.stem}_{len(_loaded)}"
    spec = importlib.util.spec_from_file_location(name, file) if file.is_file() else None
    if spec is None or spec.loader is None or file.suffix != ".py":
        raise RetrievalError(f"There is no Python file {file}; give the path of a file such as my_step.py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does: it is said with its line, and the app goes on without it
        del sys.modules[name]
        raise RetrievalError(f"{file}, line {_last_line(file, error)}: {error} ({type(error).__name__}).") from error
    return module


def _last_line(file: Path, error: Exception) -> Any:
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return frames[-1].lineno if frames else "?"


def _line_of(file: Path, name: str) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.startswith(f"class {name}")), 1)

"""Rules of the house that no single module can keep: who imports whom, what starts fast, where state and caches live."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from analysis.retrieval import interventions
from analysis.retrieval.interventions.step import Step
from pages.components.shared.state import PAGES

ROOT = Path(__file__).parents[1]
FAST = ("analysis.store", "analysis.concepts", "analysis.retrieval", "analysis.figures")
HEAVY = ("torch", "transformers", "streamlit", "umap", "sklearn", "matplotlib", "numba")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def offences(find: Callable[[Path], object], *folders: str) -> dict[str, object]:
    """What is wrong with each file of some folders, by its name; none where nothing is."""
    paths = [path for folder in folders for path in sources(folder)]
    return {str(path.relative_to(ROOT)): found for path in paths if (found := find(path))}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_library_never_imports_the_interface() -> None:
    assert not offences(lambda path: imports(path) & {"streamlit", "pages", "app"}, "analysis")


def loaded_after(code: str) -> set[str]:
    """Which heavy modules are in memory after running some code in a fresh interpreter."""
    probe = f"import sys; {code}; print(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_browsing_packages_load_no_deep_learning() -> None:
    everything = ", ".join(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in FAST
        for path in sources(package.replace(".", "/"))
        if "kernels" not in path.stem  # compiled kernels are imported inside the functions that need them
    )
    assert loaded_after(f"import {everything}").isdisjoint(HEAVY)


def test_first_page_loads_no_deep_learning(tmp_path: Path) -> None:
    code = (
        "import os; os.environ['RETRIEVALLENS_CACHE'] = 'nowhere'; "
        "from pages.components.shared import caching, layout, pickers, gallery, downloads, state, concept_cards; "
        "from analysis.concepts import browse; from pages.components.overview import sentences"
    )
    assert loaded_after(code) <= {"streamlit"}


def test_every_page_is_in_the_navigation() -> None:
    assert {path.stem for path in (ROOT / "pages").glob("*.py")} - {"__init__"} == set(PAGES)


def caches(path: Path) -> list[ast.AST]:
    """Streamlit's caches, and the library that ours are made with."""
    named = ("cache_data", "cache_resource", "cachetools")
    return [node for node in ast.walk(tree(path)) if named_so(node, named)]


def named_so(node: ast.AST, names: Sequence[str]) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in names) or (isinstance(node, ast.Name) and node.id in names)


def test_caches_are_made_in_one_place_which_bounds_them() -> None:
    found = offences(caches, "pages")
    (name,) = found
    assert Path(name).name == "caching.py"
    keep = next(
        node for node in ast.walk(tree(ROOT / name)) if isinstance(node, ast.FunctionDef) and node.name == "kept"
    )
    inside = {id(node) for node in ast.walk(keep)}
    assert all(id(node) in inside for node in caches(ROOT / name))
    assert "cachetools.LRUCache(most)" in ast.unparse(keep)


SHOWS_MARKDOWN = {
    "markdown", "write", "error", "warning", "info", "success", "caption", "toast", "title", "subheader", "header", "badge",
    "expander", "popover", "button", "status", "metric", "spinner", "toggle", "checkbox",
}  # fmt: skip
FOREIGN = {"label", "caption", "problem", "note", "text", "author", "dataset", "short_name", "older_note", "spec"}


def bare(node: ast.AST) -> list[str]:
    """Foreign text in an argument that no function of safe.py went over: an error, or what a store, label or method says."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called == "str" and node.args and ast.unparse(node.args[0]) == "error":
            return [ast.unparse(node)]
        return []  # what functions return they have gone over: safe.words, gallery.escape, concept_cards.title ...
    if isinstance(node, ast.FormattedValue):
        return bare(node.value)
    if isinstance(node, ast.Attribute):
        own = ast.unparse(node) == "setting.label"  # of a step, in its code
        return [ast.unparse(node)] if node.attr in FOREIGN and not own else []
    if isinstance(node, ast.Name):
        return ["error"] if node.id == "error" else []
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else ast.iter_child_nodes(node)
    return [found for child in parts for found in bare(child)]


def unsafe(path: Path) -> list[str]:
    """Foreign text that a file shows as markdown as it came."""
    return [
        f"line {node.lineno}: {part}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SHOWS_MARKDOWN
        and ast.unparse(node.func.value).split(".")[0] in ("st", "slot", "column", "holder", "slots")
        for argument in node.args[:1]
        for part in bare(argument)
    ]  # fmt: skip


def test_foreign_text_reaches_markdown_through_safe_alone() -> None:
    assert not offences(unsafe, "pages")


def test_pages_write_no_html_and_name_query_parameters_only_in_state() -> None:
    def named(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        words = ["unsafe_allow_html", "unsafe_allow_javascript", *["st.query_params"] * (path.name != "state.py")]
        return [word for word in words if word in text]

    assert not offences(named, "pages")


def test_only_the_folder_of_interventions_asks_what_class_a_step_has() -> None:
    """What a step says of itself holds for a researcher's own as well."""
    steps = {name for name, kind in vars(interventions).items() if isinstance(kind, type) and issubclass(kind, Step)}
    steps |= {kind.__name__ for kind in Step.__subclasses__()}

    def asked(path: Path) -> set[str]:
        if path.parent == Path(interventions.__file__).parent:
            return set()
        calls = [
            node
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass")
        ]
        return {name.id for call in calls for name in ast.walk(call.args[1]) if isinstance(name, ast.Name)} & steps

    assert not offences(asked, "analysis", "pages")

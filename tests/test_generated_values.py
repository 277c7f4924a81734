"""Whatever a link, a text field or a command's option holds: an answer or one sentence, within a second of processor time and
100 MB of memory that the operating system lends. Values are generated: limits and what lies beyond, every notation of a
number, other alphabets, repeats, fragments of valid texts. Minutes of them run with RETRIEVALLENS_THOROUGH=1."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.cli import main
from analysis.errors import AnalysisError
from analysis.query.masks import parse_mask
from analysis.retrieval.evaluation.lab import Lab
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.registry import KINDS
from analysis.retrieval.interventions.settings import Setting, settings_of
from analysis.retrieval.task import space_from_store
from analysis.store import open_store
from pages.components.shared import state
from pages.components.shared.state import PAGES
from tests.pages.opening import open_page
from tests.synthetic_store import make_store

THOROUGH = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not os.environ.get("RETRIEVALLENS_THOROUGH"), reason="takes minutes: RETRIEVALLENS_THOROUGH=1"),
]
FEW, ALL = 150, 3400  # three properties: more than 10,000 values in all
SECONDS, BYTES = 1.0, 100_000_000
NUMBERS = [
    "0", "-0", "1", "-1", "0.5", "1e308", "-1e308", "1e-320", "1e400", "nan", "inf", "-inf", "999999999", "9" * 400, "1_0",
    "+3",
    "0x10", "1e3", "٣", "½", "1,5", " 2", "", "true", "None", "1.0000000001", "2147483648", "-2147483649",
    "9223372036854775808",
]  # fmt: skip


@contextmanager
def bounded() -> Iterator[None]:
    """Fails for more than SECONDS of processor time; more memory than BYTES above what is in use is refused by the system."""
    used = 1024 * int(
        next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmData")).split()[1]
    )
    before = resource.getrlimit(resource.RLIMIT_DATA)
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_DATA, (used + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert time.process_time() - start < SECONDS


def a_sentence(error: AnalysisError) -> bool:
    text = str(error)
    return 10 < len(text) < 5000 and "\n" not in text and "Traceback" not in text


def answers(ask: Callable[[], object]) -> None:
    with bounded():
        said = None
        try:
            ask()
        except AnalysisError as error:
            said = error
    assert said is None or a_sentence(said), said


def beside(setting: Setting) -> list[str]:
    """The ends of a setting's range and what lies just outside."""
    ends = [end for end in (setting.low, setting.high) if np.isfinite(end)]
    return [f"{end + by:g}" for end in ends for by in (-1, -1e-9, 0, 1e-9, 1)] + list(setting.choices)


value = st.one_of(st.sampled_from(NUMBERS), st.text(max_size=12), st.integers().map(str), st.floats().map(str))


@st.composite
def steps(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(sorted(KINDS)))
    words = []
    for name, setting in draw(
        st.lists(st.sampled_from(sorted(settings_of(KINDS[kind]).items()) or [("x", Setting("flag", "x"))]), max_size=4)
    ):
        text = draw(st.one_of(st.sampled_from(beside(setting) or ["0"]), value))
        words.append(text if draw(st.booleans()) and setting.positional else f"{name}={text}")
    words += draw(
        st.lists(st.one_of(value, st.sampled_from(["concepts=1;2", "1=2", "3=1e308", "0=nan", "weight=1"])), max_size=2)
    )
    return f"{kind}:{','.join(words)}" if words else kind


methods = st.one_of(
    st.lists(steps(), min_size=1, max_size=4).map("+".join),
    steps().map(lambda step: f"{step}+{step}"),
    st.text(alphabet="removalignpc:=,+.;0123456789e- \u0663\n", max_size=60),
    st.text(max_size=200),
)
spans = st.tuples(st.sampled_from([0, 1, 4, 40, 65535, 65536, 999999]), st.sampled_from([0, 3, 65535, 999999])).map(
    lambda span: f"{span[0]}-{span[1]}"
)
masks = st.lists(
    st.one_of(spans, value, st.sampled_from(["image", "text", "instruction", "template", "last", "pad"])), max_size=120
).map(",".join)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("cache"), backbone="qwen2-vl-mini", n_pairs=20)


@pytest.fixture(scope="module")
def lab(store: Path) -> Lab:
    found = Lab(space_from_store(open_store(store), "t2i"))
    for text in ("base", "removal:attribution,share=0.1", "realign", "pca:n=2"):  # what is compiled and read once
        found.measure(parse(text))
    return found


def generated(count: int) -> Callable:
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


counts = pytest.mark.parametrize("count", [FEW, pytest.param(ALL, marks=THOROUGH)])


@counts
def test_methods(count: int, lab: Lab) -> None:
    @generated(count)
    @given(methods)
    def check(text: str) -> None:
        answers(lambda: lab.measure(parse(text)))

    check()


@counts
def test_masks(count: int) -> None:
    roles = np.array([1, 2, 2, 2, 2, 3, 3, 4, 1], np.int8)

    @generated(count)
    @given(masks)
    def check(text: str) -> None:
        def ask() -> None:
            mask = parse_mask(text)
            assert parse_mask(mask.spec) == mask
            mask.keep(roles)

        answers(ask)

    check()


@cache
def runner() -> CliRunner:
    return CliRunner()


OPTIONS = ("--method", "--k", "--query", "--top", "--pool", "--curve", "--changed", "--why", "--definition", "--task")


@counts
def test_command_options(count: int, store: Path) -> None:
    runner().invoke(main, ["retrieve", str(store), "--task", "t2i", "--method", "realign"])

    @generated(count)
    @given(
        st.lists(
            st.tuples(st.sampled_from(OPTIONS), st.one_of(value, methods, st.sampled_from(["alpha", "r", "1,10"]))),
            max_size=3,
        )
    )
    def check(options: list[tuple[str, str]]) -> None:
        words = [word for option, text in options for word in (option, text.replace("\0", ""))]
        with bounded():
            done = runner().invoke(main, ["retrieve", str(store), "--task", "t2i", *words])
        assert done.exit_code in (0, 1, 2), done.output
        assert done.exception is None or isinstance(done.exception, SystemExit | AnalysisError), repr(done.exception)
        assert "Traceback" not in done.output

    check()


AT_ONCE = ("list", "verify", "retrieve", "concepts", "reproduce", "query", "report", "deck", "concept-effects")
LONG = (
    "build",
    "extract",
    "train-sae",
    "encode",
    "score",
    "import-sae",
    "import-embeddings",
    "export-sae",
)  # data: none


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with a few of its own options; those that compute for minutes get data that do not exist."""
    name = draw(st.sampled_from([*AT_ONCE, *LONG]))
    known = [option for option in main.commands[name].params if isinstance(option, click.Option)]
    words = []
    for option in draw(st.lists(st.sampled_from(known), max_size=4)) if known else ():
        if option.name not in ("dataset", "plugins", "cache"):  # files that run or are written
            words.append(option.opts[-1])
            if not option.is_flag:
                choices = list(getattr(option.type, "choices", ()))
                words.append(draw(st.one_of(st.sampled_from(choices or NUMBERS), value)).replace("\0", ""))
    return [name, *words]


@counts
def test_options_of_every_command(count: int, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where relative paths of outputs end
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(store.parents[1]))
    places = {"dataset": tmp_path / "nowhere", "store": store, "path": tmp_path / "none", "backbone": "clip-mini"}
    assert {*AT_ONCE, *LONG} < set(main.commands)

    @generated(count)
    @given(command_lines())
    def check(words: list[str]) -> None:
        name, *options = words
        needed = [param for param in main.commands[name].params if param.required and param.name in places]
        for param in needed:
            options += [*([] if isinstance(param, click.Argument) else [param.opts[-1]]), str(places[param.name])]
        done = runner().invoke(main, [name, *options])
        assert done.exit_code in (0, 1, 2), done.output
        assert done.exception is None or isinstance(done.exception, SystemExit | AnalysisError), repr(done.exception)
        assert "Traceback" not in done.output

    check()


PARAMETERS = sorted({value for name, value in vars(state).items() if name.isupper() and isinstance(value, str)} - {""})


@pytest.mark.parametrize("count", [6, pytest.param(250, marks=THOROUGH)])
def test_parameters_of_pages(count: int, store: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in PAGES:  # imports and what is computed once
            open_page(name, store.parents[1], patch)

        @generated(count)
        @given(
            st.sampled_from(sorted(PAGES)),
            st.dictionaries(st.sampled_from(PARAMETERS), st.one_of(value, methods, masks), max_size=5),
        )
        def check(name: str, params: dict[str, str]) -> None:
            patch.setattr("tests.test_generated_values.SECONDS", 4.0)  # a whole page, not one text
            with bounded():
                app = open_page(name, store.parents[1], patch, **params)
            assert app.title
            assert not any("could not be shown" in element.value for element in app.error), [e.value for e in app.error]

        check()

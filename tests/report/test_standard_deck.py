"""The standard deck says only what its commands print, leads to pages that exist, and fits the limits of a deck."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analysis.cli import main
from analysis.figures.style import percent, points
from analysis.report.deck_html import MAX_BYTES, deck_html
from analysis.report.effects import pooled_stores
from analysis.report.live import Folder, then_and_now
from analysis.report.slides import deck_of
from analysis.report.standard_deck import K, standard_findings
from analysis.store.finding import Finding, Table
from pages.components.shared import state

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    """Of the demo's stores."""
    return standard_findings(pooled_stores(ROOT / "cache"))


@functools.cache
def printed(line: str) -> Any:
    """What a command of a finding prints: text of Python, else JSON."""
    words = shlex.split(line)
    assert words[0] == ".venv/bin/python"
    if words[1] == "-c":
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(words[2], {})
        return out.getvalue()
    form = ["--format", "json"] if words[3] == "reproduce" else ["--json"]
    done = CliRunner().invoke(main, [*words[3:], *form])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"[+−]?\d[\d,]*(?:\.\d+)?", text))


def test_scores_and_energy_are_those_of_their_commands(found: list[Finding]) -> None:
    for one, form in ((found[0], lambda text: percent(float(text))), (found[1], lambda text: f"{int(text):,}")):
        for line in one.command.splitlines():
            assert re.search(rf" {re.escape(form(printed(line)))}( of|,|\))", one.sentence)


def test_overlaps_are_those_of_reproduce_and_stand_beside_the_published(found: list[Finding]) -> None:
    measured, published = (part for part in found[2].parts if isinstance(part, Table))
    for row, line in zip(measured.rows, found[2].command.splitlines(), strict=True):
        table = [entry for entry in printed(line) if entry["table"] == "table1"]
        for name, value in zip(measured.columns[1:], row[1:], strict=True):
            assert value == pytest.approx(next(entry["measured"] for entry in table if entry["column"] == name))
    table = [entry for entry in printed(found[2].command.splitlines()[0]) if entry["table"] == "table1"]
    shown = [value for row in published.rows for value in row[1:]]
    assert shown == pytest.approx([entry["published"] for entry in table])


def test_recalls_and_changes_are_those_of_retrieve(found: list[Finding]) -> None:
    recalls = [one for one in found if one.measure.get("what") == "results"]
    assert len(recalls) >= 4
    for one in recalls:
        rows = [row for row in printed(one.command)["rows"] if row["k"] == K]
        assert list(one.facts.values()) == pytest.approx([100 * row["recall"] for row in rows], abs=1e-4)
        allowed = {percent(rows[0]["recall"]).removesuffix(" %")}
        for row in rows[1:]:  # JSON holds ten digits: a tie, -0.55 points, may be printed either way
            allowed |= {points(row["difference"] + unseen) for unseen in (-5e-11, 0.0, 5e-11)}
        said = numbers(one.sentence.partition(f"R@{K} ")[2].replace("top 1 %", ""))
        assert said <= allowed, (said - allowed, one.sentence)


def test_ranks_of_single_queries_and_the_distractor(found: list[Finding]) -> None:
    queries = [one for one in found if one.measure.get("what") == "ranks"]
    for one in queries:
        told = printed(one.command.splitlines()[0])
        assert f"from rank {told['rank_before']:,} to rank {told['rank_after']:,}" in one.sentence
        assert list(one.facts.values()) == [told["rank_before"], told["rank_after"]]
    (card,) = [one for one in found if one.page == "concept"]
    row = next(row for row in printed(card.command)["rows"] if row["k"] == K and row["spec"] != "base")
    assert f"by {points(row['difference'])} points" in card.sentence
    assert f"[{points(row['difference_low'])}, {points(row['difference_high'])}]" in card.sentence


def test_every_link_leads_to_a_page_and_its_parameters_are_known(found: list[Finding]) -> None:
    known = {value for name, value in vars(state).items() if name.isupper() and isinstance(value, str)}
    for one in found:
        assert Path(state.file_of(one.page)).stem == one.page
        assert one.page in state.PAGES
        assert set(one.params) <= known
        assert one.address("http://host").startswith(f"http://host/{one.page}?store")


def test_nothing_has_changed_since_a_moment_ago(found: list[Finding]) -> None:
    sources = Folder(ROOT / "cache")
    assert [then_and_now(one, sources) for one in found] == [""] * len(found)


def test_the_deck_has_a_slide_for_each_and_stays_small(found: list[Finding]) -> None:
    deck = deck_of("t", found)
    assert len(deck.slides) >= len(found)
    assert len(deck_html(deck).encode()) < MAX_BYTES / 2

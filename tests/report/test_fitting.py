"""What is said to fit does: widths are kept, an ellipsis says that something goes on, and a cut caption keeps its data."""

from __future__ import annotations

import pytest

from analysis.report import fitting
from analysis.store.finding import Table


@pytest.mark.parametrize("text", ["", "word", "two words " * 60, "x" * 5000, "あ" * 400, "W" * 90])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_fitted_text_has_at_most_its_lines_and_says_when_it_goes_on(text: str, most: int) -> None:
    flat = " ".join(text.split())
    shown = fitting.fitted(text, 500, most)
    assert fitting.lines(shown, 500) <= most
    assert shown == flat or (shown.endswith("…") and flat.startswith(shown[:-1]))


def test_a_long_caption_loses_its_middle_and_keeps_data_and_demo_label() -> None:
    short = "Modality scores. COCO val2017, 5,000 images; clip-mini. Demo: small models."
    assert fitting.fitted_caption(short) == short
    shown = fitting.fitted_caption(
        f"Modality scores. {'And so on. ' * 90} COCO val2017, 5,000 images; clip-mini. Demo: small models."
    )
    assert shown.startswith("Modality scores.")
    assert " … " in shown
    assert shown.endswith("COCO val2017, 5,000 images; clip-mini. Demo: small models.")
    assert fitting.lines(fitting.fitted_caption("x" * 10_000), 1104) <= 3


@pytest.mark.parametrize("columns", range(1, 14))
def test_columns_share_the_width_and_numbers_are_never_broken(columns: int) -> None:
    rows = tuple(("a few words of text", *(1234.5678 * 10**i for i in range(columns - 1))) for _ in range(3))
    part = Table(tuple(f"name {i}" for i in range(columns)), rows)
    for width in (fitting.WIDTH, fitting.HALF):
        taken = fitting.column_widths(part, width)
        assert sum(taken) <= width
        for wide, value in zip(taken[1:], rows[0][1:], strict=False):
            assert fitting.pixels(fitting.cell_text(value)) <= wide
    (page, *_) = fitting.pages([part], 400)
    assert all(fitting.column_widths(one, fitting.WIDTH) for one in page)


def test_a_row_of_many_lines_makes_a_table_longer_and_no_row_is_lost() -> None:
    rows = tuple((i, "words " * 14, "words " * 14, "words " * 14) for i in range(12))
    found = fitting.pages([Table(("n", "a", "b", "c"), rows)], 400)
    assert len(found) > 3
    assert [row for page in found for part in page for row in part.rows] == list(rows)  # type: ignore[union-attr]

"""The Live query page with a tiny real model: from a picture to both lists, and every bad input is a sentence."""

from __future__ import annotations

import io
import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from streamlit.testing.v1 import AppTest

from analysis.cli import main
from analysis.data.pictures import decode
from analysis.errors import BackboneError
from analysis.models.backbones import load_backbone
from analysis.query.applied import rank_query
from analysis.query.compatibility import request_for
from analysis.query.masks import parse_mask
from analysis.query.query import embed_query
from analysis.query.slot import LoadedModel
from analysis.retrieval.evaluation.comparison import Comparison
from analysis.retrieval.interventions import parse
from analysis.retrieval.interventions.fitting import fit
from analysis.retrieval.task import space_from_store
from analysis.store import Store, open_store
from pages.components.live import opening
from pages.components.shared import caching
from tests.data.writers import blank, saved
from tests.fake_hub import use_hub
from tests.pages.opening import ranked, values
from tests.query.live_store import caption, make_checkpoint, make_live_store, picture
from tests.synthetic_store import make_store

PAGE = Path(__file__).parents[2] / "pages/live_query.py"
METHOD = "removal:attribution,share=0.1+realign:alpha=0.3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    for family in ("qwen2_vl", "clip", "paligemma"):
        make_live_store(folder / "cache", make_checkpoint(folder / f"tiny-{family}", family))
    make_store(folder / "cache", backbone="qwen2-vl-mini", tokens=True)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_store(next((folder / "cache/tiny-qwen2_vl").iterdir()))


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **params: str) -> AppTest:
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(folder / "cache"))
    app = AppTest.from_file(PAGE, default_timeout=120)
    for key, value in {"store": "tiny-qwen2_vl", "task": "i2t", "source": "upload", **params}.items():
        app.query_params[key] = value
    return app.run()


def upload(app: AppTest, data: bytes, name: str = "p.png", kind: str = "image/png") -> AppTest:
    app.file_uploader[0].set_value((name, data, kind))
    return app.run()


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for element in (*app.markdown, *app.caption, *app.info))


def sentences(app: AppTest) -> str:
    """Everything that is said to be wrong; a traceback would be an exception element."""
    assert not app.exception
    return "\n".join(element.value for element in (*app.error, *app.warning))


def address(app: AppTest, key: str) -> str:
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def after_list(app: AppTest) -> str:
    """The markdown of the right-hand list."""
    lists = ranked(app)
    assert len(lists) >= 2
    return "\n\n".join(lists[1])


def expected(folder: Path, store: Store, *, text: str = "", mask: str = "") -> Comparison:
    backbone = load_backbone(folder / "tiny-qwen2_vl", device="cpu", dtype="float32")
    query = embed_query(backbone, picture=picture(3), text=text, task="i2t")
    backbone.unload()
    space = space_from_store(store, "i2t")
    return rank_query(query, space, mask=parse_mask(mask), intervention=parse(METHOD))


def test_page_runs_alone_without_a_query(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch)
    assert sentences(app) == ""
    assert "see" in app.title[0].value
    assert "Give a picture" in app.info[0].value


def test_an_uploaded_picture_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def counted(data: bytes, *, name: str = "picture") -> Image.Image:
        decoded.append(name)
        return decode(data, name=name)

    monkeypatch.setattr("analysis.data.pictures.decode", counted)
    app = upload(run(folder, monkeypatch, method=METHOD), picture(3), "mine.png")
    assert len(ranked(app)) >= 2
    app.run()
    next(group for group in app.pills if group.key == "_live_roles").set_value(["image"]).run()
    assert sentences(app) == ""
    assert decoded == ["mine.png"]


@pytest.mark.parametrize("mask", ["", "image", "instruction,20-23", "instruction,image.!1-2"])
def test_the_list_on_screen_is_the_librarys(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    app = upload(run(folder, monkeypatch, method=METHOD, mask=mask), picture(3))
    assert sentences(app) == ""
    rows = store.task("i2t").candidate_rows
    shown = after_list(app).split("\n\n")
    places = expected(folder, store, mask=mask).places("after", 8)
    assert len(shown) == len(places)
    for line, place in zip(shown, places, strict=True):
        assert line.startswith(f"**{place.rank}**")
        assert str(store.samples["text"].iat[int(rows[place.candidate])]) in line
        assert f"{place.similarity:.3f}".replace("-", "\N{MINUS SIGN}") in line
        moved = place.other_rank - place.rank
        assert ("same place" if moved == 0 else f"{'up' if moved > 0 else 'down'} {abs(moved):,}") in line


def test_what_the_page_opened_on_is_there_after_a_click_and_a_reload(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "removal:attribution,share=0.01"
    monkeypatch.setattr(opening, "rescued", lambda store, task: (method, 3, 5, 12, 1))
    monkeypatch.setenv("RETRIEVALLENS_CACHE", str(folder / "cache"))
    app = AppTest.from_file(PAGE, default_timeout=120)
    app.query_params["store"] = "tiny-qwen2_vl"
    app.run()
    assert "method" not in app.query_params, "nobody chose it: a link to the page is one step of the browser"
    app.radio(key="_live_source").set_value("upload").run()
    app.text_area(key="_live_text").set_value("a dog").run()
    asked = {key: str(value if isinstance(value, str) else value[0]) for key, value in app.query_params.items()}
    assert (asked["source"], asked["method"]) == ("upload", method)
    assert "query" not in asked
    again = run(folder, monkeypatch, **asked)
    assert "After: removal by attribution" in words(app)
    assert "After: removal by attribution" in words(again)


def test_leaving_out_a_role_by_chip_changes_address_and_list(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, method=METHOD), picture(3))
    before = after_list(app)
    chips = next(group for group in app.pills if group.key == "_live_roles")
    chips.set_value(["image"]).run()
    assert sentences(app) == ""
    assert address(app, "mask") == "image"
    assert after_list(app) != before
    assert "w/o image" in words(app)


def test_everything_but_a_region_is_one_button_and_stands_in_address_and_command(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, method=METHOD, mask="image.0-1"), picture(3))
    region = after_list(app)
    next(button for button in app.button if button.label == "All but this region").click().run()
    assert sentences(app) == ""
    assert address(app, "mask") == "image.!0-1"
    assert "all but 2 patches masked" in words(app)
    first = expected(folder, store, mask="image.!0-1").places("after", 1)[0]
    assert after_list(app).startswith(f"**{first.rank}**")
    assert f"{first.similarity:.3f}".replace("-", "\N{MINUS SIGN}") in after_list(app).split("\n\n")[0]
    assert any("--mask 'image.!0-1'" in code.value for code in app.code if "analysis query" in code.value)
    next(button for button in app.button if button.label == "All but this region").click().run()
    assert (address(app, "mask"), after_list(app)) == ("image.0-1", region)


def test_a_mask_that_no_link_could_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(folder, monkeypatch, mask="image"), picture(3))
    monkeypatch.setattr("pages.components.shared.state.LONGEST", 10)
    chips = next(group for group in app.pills if group.key == "_live_roles")
    chips.set_value(["image", "instruction"]).run()
    assert "take 17 characters to name and a link holds 10" in app.toast[0].value
    assert address(app, "mask") == "image"


def test_a_link_that_pools_queries_masks_the_visitors_query_and_shows_it_in_the_mask_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, method="pool:queries=last,candidates=last+realign", mask="image"), picture(3))
    assert sentences(app) == ""
    assert (address(app, "mask"), address(app, "method")) == ("image,last", "pool:candidates=last+realign:alpha=0.1")
    assert next(group for group in app.pills if group.key == "_live_roles").value == ["image"]
    assert [box.label for box in app.selectbox if box.key and "_pool_" in box.key] == ["Candidates"]
    other = upload(run(folder, monkeypatch, method="pool:candidates=last+realign", mask="image,last"), picture(3))
    assert after_list(other) == after_list(app)
    unmasked = upload(run(folder, monkeypatch, method="pool:candidates=last+realign"), picture(3))
    assert after_list(unmasked) != after_list(app)


def test_a_variant_that_the_store_does_not_hold_is_refused_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, store="tiny-clip", task="t2i", text=caption(2), method="pool:queries=last")
    assert "pools queries as 'last'" in sentences(app)
    assert len(app.error) == 1


def test_at_first_nothing_is_done_to_the_embeddings_so_that_a_mask_is_seen_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch), picture(3))
    assert "After: nothing changed yet" in words(app)
    next(group for group in app.pills if group.key == "_live_roles").set_value(["image"]).run()
    assert "**After: w/o image**" in words(app)
    app.selectbox(key="_live_method_chosen").set_value("realign").run()
    assert address(app, "method") == "realign:alpha=0.1"


def test_a_mask_of_everything_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(folder, monkeypatch, mask="template,image,instruction", concept="1"), picture(3))
    assert [error.value for error in app.error] == [sentences(app)]
    assert "leaves no token" in sentences(app)


def test_a_device_that_does_not_exist_is_said_once_and_the_query_is_ranked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(folder, monkeypatch, device="cuda:77", text=caption(2))
    assert sentences(app).count("Device 'cuda:77' does not exist here") == 1
    assert "Device" not in words(app)
    assert after_list(app)


@pytest.mark.parametrize(
    ("mask", "variant"), [("image", "mean_no_image"), ("last", "last"), ("text,instruction", "mean_no_prompt")]
)
def test_a_masked_link_acts_on_a_stored_query_through_the_variant_that_is_stored(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, mask: str, variant: str
) -> None:
    app = run(folder, monkeypatch, source="data", query="3", mask=mask, method="realign:alpha=0.9")
    assert sentences(app) == ""
    assert address(app, "method") == f"pool:queries={variant}+realign:alpha=0.9"
    stored = after_list(app)
    app.toggle(key="_live_run").set_value(True).run()
    assert sentences(app) == ""
    assert address(app, "run") == "1"
    assert parse_mask(address(app, "mask")).masked(np.array([1, 2, 4])).any() or mask == "last"
    assert address(app, "method") == "realign:alpha=0.9"
    # The model sees the store's thumbnail, a little off the original: strong shrinkage keeps the first place out of its reach.
    assert after_list(app).split("  ")[0] == stored.split("  ")[0]
    app.toggle(key="_live_run").set_value(False).run()
    assert address(app, "method") == f"pool:queries={variant}+realign:alpha=0.9"
    assert "mask" not in app.query_params
    assert "run" not in app.query_params
    assert after_list(app) == stored


def test_a_mask_that_no_stored_query_has_is_said_and_waits_for_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run(folder, monkeypatch, source="data", query="3", mask="image,3-5")
    assert "does not act on the stored query" in sentences(app)
    assert "Run the model on it" in sentences(app)
    app = run(folder, monkeypatch, source="data", query="3", mask="image,3-5", run="1")
    assert sentences(app) == ""
    assert "**After: w/o image, 3 tokens masked**" in words(app)


@pytest.mark.parametrize("source", ["data", "upload"])
def test_a_masked_link_to_a_dual_encoder_says_that_it_cannot_be_masked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    app = run(folder, monkeypatch, store="tiny-clip", task="t2i", text=caption(2), mask="text", source=source)
    reasons = {
        "data": "the embedding is the projected feature, no mean of tokens",
        "upload": "tiny-clip is a dual encoder: its embedding is not a mean of tokens",
    }
    assert reasons[source] in sentences(app)


def test_the_reproduction_names_picture_mask_and_method(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVALLENS_UPLOADS", "0")  # then the visitor's own file is named
    app = upload(run(folder, monkeypatch, method=METHOD, mask="image"), picture(3), name="my dog.png")
    codes = "\n".join(code.value for code in app.code)
    assert "python -m analysis query" in codes
    assert "--image 'my dog.png'" in codes
    assert "--mask image" in codes
    assert f"--method {METHOD}" in codes
    assert "embed_query(backbone" in codes


@pytest.mark.parametrize("given", ["picture", "text", "data"])
def test_the_commands_on_screen_print_the_list_on_screen(
    folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    params = {"method": METHOD} | ({"source": "data", "query": "5"} if given == "data" else {"mask": "instruction,2-3"})
    app = run(folder, monkeypatch, **params, **({"text": caption(6)} if given == "text" else {}))
    if given == "picture":
        app = upload(app, picture(3), name="my dog.png")
    assert sentences(app) == ""
    (tmp_path / "my dog.png").write_bytes(picture(3))
    row, below = (code.value for code in app.code if code.value.startswith(".venv/bin/python -m analysis"))
    assert row == below  # beside the title and below the lists
    command = [str(tmp_path / word) if word == "my dog.png" else word for word in shlex.split(below)[3:]]
    done = CliRunner().invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    texts = [found["text"] for found in _ranked(json.loads(done.output))]
    shown = after_list(app).split("\n\n")[:8]  # a target further down may be pinned below
    assert len(shown) == len(texts) == 8
    for line, text in zip(shown, texts, strict=True):
        assert text in line


@pytest.mark.parametrize("given", ["text", "data"])
def test_the_split_of_two_similarities_is_what_its_command_prints(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    query = {"source": "data", "query": "5"} if given == "data" else {"text": caption(6), "mask": "instruction"}
    app = run(folder, monkeypatch, method="realign:alpha=0.3", why="after-3", **query)
    assert sentences(app) == ""
    command = next(code.value for code in app.code if "--why after" in code.value)
    done = CliRunner().invoke(main, [*shlex.split(command)[3:], "--json"])
    assert done.exit_code == 0, done.output
    pairs, rows = json.loads(done.output).values()
    chart = json.loads(next(c for c in app.get("plotly_chart") if "-live-why-" in c.proto.id).proto.spec)
    first, second = ("target", "") if given == "data" else ("number 3", "number 1")
    bars = [dict(zip(trace["y"], values(trace["x"]), strict=True)) for trace in chart["data"][:3]]
    assert chart["data"][0]["name"].startswith(first)
    assert chart["data"][1]["name"].startswith(second)
    for drawn, pair, column in zip(bars, pairs, ("target", "rival"), strict=False):
        assert sum(drawn.values()) == pytest.approx(pair["similarity"], abs=1e-5)
        assert drawn["not explained by the SAE"] == pytest.approx(rows[-1][column], abs=1e-5)
    assert pairs[0]["sample_id"] != pairs[1]["sample_id"]


def test_nothing_is_split_before_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, text=caption(6))
    assert not any("-live-why-" in chart.proto.id for chart in app.get("plotly_chart"))
    app.toggle(key="_live_why").set_value(True).run()
    assert address(app, "why") == "before"
    assert any("-live-why-" in chart.proto.id for chart in app.get("plotly_chart"))


def _ranked(printed: dict) -> list[dict]:
    """The list after the intervention, of `query` and of `retrieve --query`."""
    return printed["candidates"] if "candidates" in printed else printed["after"]


def test_a_query_of_the_data_run_again_is_named_by_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, source="data", query="5")
    app.toggle(key="_live_run").set_value(True).run()
    assert sentences(app) == ""
    words_of = shlex.split(next(code.value for code in app.code if "analysis query" in code.value))
    assert Path(words_of[words_of.index("--image") + 1]).is_file()
    assert "Save your picture" not in words(app)
    assert "model sees the store's thumbnail" in words(app)
    assert any("run=1" in code.value for code in app.code)


def test_a_query_of_the_data_is_run_on_its_original_picture_where_that_is_at_hand(
    folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "original.png"
    file.write_bytes(picture(5))
    monkeypatch.setattr("pages.components.shared.caching.picture_files", lambda store: {"image:5": file})
    app = run(folder, monkeypatch, source="data", query="5", method="realign")
    stored = after_list(app)
    app.toggle(key="_live_run").set_value(True).run()
    assert sentences(app) == ""
    assert after_list(app) == stored  # the same similarities, to the digits that are shown
    assert "thumbnail" not in words(app)
    assert any(f"--image {file}" in code.value for code in app.code)


def test_without_the_model_the_next_step_is_named_by_its_switch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, source="data", query="5")
    assert "Switch on “Run the model on it” above to see and mask its tokens" in words(app)
    assert "Load the model" not in words(app)


def test_another_query_keeps_masked_roles_and_forgets_single_tokens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, mask="instruction,4-6"), picture(3))
    assert address(app, "mask") == "instruction,4-6"  # a link's mask is for the picture that its reader uploads
    app = upload(app, picture(4))
    assert sentences(app) == ""
    assert address(app, "mask") == "instruction"


def test_statistics_of_another_kind_of_query_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "uses what was measured on pictures"
    assert said in words(run(folder, monkeypatch, text=caption(2), method="realign"))
    assert said not in words(run(folder, monkeypatch, text=caption(2), method="pca:n=2"))
    assert said not in words(upload(run(folder, monkeypatch, method="realign"), picture(2)))
    free = "uses what was measured on unmasked queries"
    assert free in words(upload(run(folder, monkeypatch, method="realign", mask="3-5"), picture(2)))
    assert free not in words(upload(run(folder, monkeypatch, method="realign", mask="image"), picture(2)))


def test_each_bar_has_pictures_of_its_concept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(folder, monkeypatch), picture(3))
    (chart,) = app.get("plotly_chart")
    layout = json.loads(chart.proto.spec)["layout"]
    assert layout["images"]
    assert all(image["source"].startswith("data:image/webp") for image in layout["images"])


def test_a_cached_query_needs_no_model_and_marks_its_targets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    app = run(folder, monkeypatch, source="data", query="5", method="pool:mean_no_image")
    assert sentences(app) == ""
    assert "target" in after_list(app) or "target stands at rank" in words(app)
    space = space_from_store(store, "i2t")
    changed = fit(parse("pool:mean_no_image"), space)
    similarity = np.round(changed.candidates @ changed.queries[5], 12)
    best = min(range(len(similarity)), key=lambda c: (-similarity[c], c))
    row = store.task("i2t").candidate_rows[best]
    assert str(store.samples["text"].iat[int(row)]) in after_list(app).split("\n\n")[0]


def test_stored_tokens_are_shown_without_a_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, store="qwen2-vl-mini", source="data", query="0")
    assert sentences(app) == ""
    assert "Stored token codes" in words(app)


def test_a_dual_encoder_takes_a_text_and_offers_no_mask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, store="tiny-clip", task="t2i", text=caption(2))
    assert sentences(app) == ""
    assert "not masked" in words(app)
    assert not [group for group in app.pills if group.key == "_live_roles"]


def test_looking_at_a_concept_shows_what_it_means(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(folder, monkeypatch, concept="1"), picture(3))
    assert sentences(app) == ""
    assert "Shaded: what each token brings to concept 1" in words(app)
    assert len(app.get("bidi_component")) == 2  # the strip is there once more, beside the bars
    next(button for button in app.button if button.label == "Remove just it").click().run()
    assert address(app, "method") == "removal:concepts=1"


def plain(app: AppTest) -> str:
    """What a visitor reads, without the signs that keep it from being markdown."""
    return words(app).replace("\\", "")


def beside(app: AppTest) -> list[list[str]]:
    """The lists of the models side by side: those behind the page's own two."""
    return ranked(app)[2:]


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    """Backbone -> id of its store."""
    found = (path.parent for path in (folder / "cache").glob("*/*/manifest.json"))
    return {path.parent.name: str(path.relative_to(folder / "cache")) for path in found}


def test_one_query_through_several_models_keeps_mask_and_method(
    folder: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, method="realign", mask="instruction,image.!1-2"), picture(3))
    picker = app.pills(key="_live_beside")
    assert len(picker.options) == 2  # of the same data
    picker.set_value([keys["tiny-clip"], keys["tiny-paligemma"]]).run()
    assert sentences(app) == ""
    own, *others = beside(app)
    assert own == ranked(app)[1][:5]
    assert len(others) == 2
    assert "Not masked: tiny-clip is a dual encoder" in plain(app)
    commands = [code.value for code in app.code if "tiny-paligemma" in code.value and "analysis query" in code.value]
    command = next(line for line in "\n".join(commands).splitlines() if "tiny-paligemma" in line)
    done = CliRunner().invoke(main, [*shlex.split(command)[3:], "--json"])
    assert done.exit_code == 0, done.output
    assert "--mask 'instruction,image.!1-2'" in command  # as many patches as the page's own model has
    for line, candidate in zip(others[1], json.loads(done.stdout)["candidates"], strict=False):
        assert candidate["text"] in line


def test_a_region_is_carried_to_a_model_that_cuts_the_picture_otherwise(
    folder: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen2-VL's grid follows a wide picture, PaliGemma's does not; list, note and command agree on what was left out."""
    wide = saved(Image.open(io.BytesIO(picture(3))).resize((224, 56)))
    app = upload(run(folder, monkeypatch, mask="image.0-3"), wide)
    app.pills(key="_live_beside").set_value([keys["tiny-paligemma"]]).run()
    assert sentences(app) == ""
    assert "under its centre" in plain(app)
    commands = "\n".join(code.value for code in app.code if "analysis query" in code.value).splitlines()
    lines = {name: next(line for line in commands if f"tiny-{name}" in line) for name in ("qwen2_vl", "paligemma")}
    masks = {name: shlex.split(line)[shlex.split(line).index("--mask") + 1] for name, line in lines.items()}
    # The left half of the upper of two rows of eight is the left half of the upper two of four rows of four.
    assert masks == {"qwen2_vl": "image.0-3", "paligemma": "image.0-1,image.4-5"}
    done = CliRunner().invoke(main, [*shlex.split(lines["paligemma"])[3:], "--json"])
    assert done.exit_code == 0, done.output
    for line, candidate in zip(beside(app)[1], json.loads(done.stdout)["candidates"], strict=False):
        assert candidate["text"] in line


def test_a_link_carries_the_comparison_and_another_query_waits_for_the_button(
    folder: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(folder, monkeypatch, task="t2i", text=caption(4))
    first.pills(key="_live_beside").set_value([keys["tiny-clip"]]).run()
    assert address(first, "beside") == keys["tiny-clip"]
    assert any(f"beside={keys['tiny-clip']}" in code.value for code in first.code)
    app = run(folder, monkeypatch, task="t2i", text=caption(4), beside=keys["tiny-clip"])
    assert sentences(app) == ""
    assert beside(app) == beside(first)
    assert len(beside(app)) == 2
    app.text_area(key="_live_text").set_value("another text").run()
    assert len(ranked(app)) == 2
    next(button for button in app.button if button.label == "Run 1 model").click().run()
    assert len(beside(app)) == 2


def test_a_stored_query_stands_side_by_side_without_a_model(
    folder: Path, keys: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.components.live.model_panel.using", None)
    params = {"source": "data", "query": "5", "method": "pool:queries=mean_no_image+removal:concepts=1"}
    app = run(folder, monkeypatch, **params, beside=keys["tiny-clip"])
    assert sentences(app) == ""
    assert len(beside(app)) == 2
    assert "Queries not “w/o image”: the embedding is the projected feature, no mean of tokens" in plain(app)
    assert "its numbers name concepts of another SAE" in words(app)
    space = space_from_store(open_store(folder / "cache" / keys["tiny-clip"]), "i2t")
    similarity = fit(parse("base"), space)
    target = int(space.qrels[[5]].indices[0])
    scores = np.round(similarity.candidates @ similarity.queries[5], 12)
    rank = 1 + int((scores > scores[target]).sum())
    table = next(frame.value for frame in app.dataframe if "rank after" in frame.value).set_index("model")
    assert table.loc["tiny-clip", "rank before"] == table.loc["tiny-clip", "rank after"] == rank
    line = next(
        line for code in app.code for line in code.value.splitlines() if "retrieve" in line and "tiny-clip" in line
    )
    done = CliRunner().invoke(main, [*shlex.split(line)[3:], "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["after"][0]["text"] in beside(app)[1][0]


def test_models_that_cannot_stand_beside_a_query_are_one_sentence(
    folder: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"source": "data", "query": "5"}
    app = run(folder, monkeypatch, **params, beside=f"nobody,{keys['tiny-clip']}")
    assert sentences(app).count("The link puts “nobody” beside the query, expected one of") == 1
    assert address(app, "beside") == keys["tiny-clip"]
    assert "expected one of" in sentences(run(folder, monkeypatch, **params, beside=keys["qwen2-vl-mini"]))
    monkeypatch.setattr("pages.components.live.other_models.MOST", 2)
    app = run(folder, monkeypatch, **params, beside=f"{keys['tiny-clip']},{keys['tiny-paligemma']}")
    assert "3 models side by side, expected at most 2" in sentences(app)
    assert len(beside(app)) == 2


def test_a_model_that_fails_says_so_in_its_column(
    folder: Path, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise BackboneError("The weights are gone; fetch them again.")

    monkeypatch.setattr("pages.components.live.other_models.embed_query", failing)
    app = run(folder, monkeypatch, task="t2i", text=caption(4), beside=keys["tiny-clip"])
    assert sentences(app) == "The weights are gone; fetch them again."
    assert len(beside(app)) == 1


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"hello, I am text", "not a picture"),
        (saved(Image.new("RGB", (90, 90), "red"), "PNG")[:80], "damaged"),
        (blank(9000, 7000), "63 megapixels"),
    ],
)
def test_a_picture_that_cannot_be_read_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, part: str
) -> None:
    app = upload(run(folder, monkeypatch), data)
    assert part in sentences(app)
    assert len(app.error) == 1
    assert "see" in app.title[0].value


@pytest.mark.parametrize(
    ("data", "kind", "part"),
    [
        (saved(Image.new("CMYK", (60, 40)), "JPEG"), "image/jpeg", "CMYK"),
        (blank(7000, 5000), "image/png", "35 megapixels"),
    ],
)
def test_an_odd_picture_is_ranked_with_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, kind: str, part: str
) -> None:
    app = upload(run(folder, monkeypatch), data, kind=kind)
    assert sentences(app) == ""
    assert part in words(app)
    assert after_list(app)


@pytest.mark.parametrize("text", ["a dog " * 17_000, "a <|image_pad|> dog <|im_end|>"])
def test_long_texts_and_special_tokens_are_ranked(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    app = run(folder, monkeypatch, task="t2i")
    app.text_area(key="_live_text").set_value(text).run()
    assert sentences(app) == ""
    assert "Which concepts fire" in "".join(element.value for element in app.subheader)
    assert ("longer than the model reads" in words(app)) == (len(text) > 1000)


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"mask": "template,image,instruction"}, "leaves no token"),
        ({"mask": "nonsense"}, "role 'nonsense'"),
        ({"mask": "4000"}, "token 4000"),
        ({"method": "pca:n=64"}, "leave nothing"),
        ({"method": "quantum:leap"}, "cannot be read"),
        ({"device": "tpu"}, "Device 'tpu' does not exist"),
        ({"dtype": "int3"}, "number format"),
        ({"model": "no-such-model"}, "which this server does not offer"),
        ({"task": "it2it"}, "has no task"),
        ({"store": "nobody/nothing"}, "There is no store"),
        ({"concept": "99999"}, "99999"),
        ({"method": "edit:99999=0"}, "Concept 99999"),
    ],
)
def test_nonsense_in_the_address_is_a_sentence_and_the_page_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, str], part: str
) -> None:
    app = run(folder, monkeypatch, **params)
    said = sentences(app)  # what is wrong with the address is said once, and the address put right
    app = upload(app, picture(3))
    assert part in said + sentences(app)
    assert "see" in app.title[0].value


@pytest.mark.parametrize("by", ["query", "button"])
def test_another_model_than_the_stores_is_refused_with_the_reason_before_its_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    app = run(folder, monkeypatch, model=str(folder / "tiny-clip"))  # of another store of this cache
    if by == "query":
        upload(app, picture(3))
    else:
        next(button for button in app.button if button.label == "Load").click().run()
    assert "is not loaded, since the candidates of" in sentences(app)
    assert "were not embedded in the same way" in sentences(app)
    assert len(app.error) == 1


@pytest.mark.parametrize("allowed", ["", "other/model", "any"])
def test_a_link_chooses_among_the_stores_models_and_what_the_owner_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setenv("RETRIEVALLENS_MODELS", allowed)
    said = {}
    for name in (str(folder), str(folder / "nowhere")):  # one exists, the other does not: a visitor sees no difference
        app = run(folder, monkeypatch, model=name)
        said[name] = sentences(app).replace(name, "NAME")
        picker = next(box for box in app.selectbox if box.label == "Model")
        assert ("is not offered" in said[name] or "does not offer" in said[name]) is (allowed != "any")
        assert (picker.value == name) is (allowed == "any")
        assert ("other/model" in picker.options) is (allowed == "other/model")
    if allowed != "any":
        assert len({text[:20] for text in said.values()}) == 1


def test_a_hub_model_that_cannot_be_reached_is_a_sentence_and_no_query_downloads_by_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setenv("RETRIEVALLENS_MODELS", "other, somebody/far-away")
    app = upload(run(folder, monkeypatch, model="somebody/far-away"), picture(3))
    assert sentences(app) == ""
    assert "is not loaded by itself" in words(app)
    assert "is not known before its weights are here" in words(app)
    next(button for button in app.button if button.label == "Load").click().run()
    assert "somebody/far-away is not in the local cache and the hub cannot be reached" in sentences(app)
    assert len(app.error) == 1


@pytest.mark.parametrize("at_first", [True, False])
def test_a_model_that_others_load_and_unload_while_the_page_is_drawn(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, at_first: bool
) -> None:
    """Whatever the slot answers from one look to the next, one button stands there once."""
    there = LoadedModel(request_for(store), "tiny", "cpu", "float32", "", 0.1)
    for stays in range(1, 5):  # looks after which the model is exchanged
        looks = itertools.count()

        class Slot:
            @property
            def loaded(self) -> LoadedModel | None:
                return there if (next(looks) // stays % 2 == 0) == at_first else None  # noqa: B023

        monkeypatch.setattr(caching, "model_slot", Slot)
        app = run(folder, monkeypatch)
        assert not sentences(app)
        assert len([button for button in app.button if button.key in ("_live_load", "_live_unload")]) == 1


def test_a_query_of_the_data_that_does_not_exist_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(folder, monkeypatch, source="data", query="77777")
    assert "77777" in sentences(app)
    assert after_list(app)


def test_an_empty_cache_says_how_to_build_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = run(tmp_path, monkeypatch)
    assert not app.exception
    assert "python -m analysis demo" in "\n".join(code.value for code in app.code)


def test_a_link_to_an_upload_shows_the_same_query_to_somebody_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = upload(run(folder, monkeypatch, method=METHOD, mask="image", text="a red circle"), picture(3))
    kept = address(app, "upload")
    assert (folder / f"cache/uploads/{kept}.png").is_file()
    assert "whoever has the link sees it" in words(app)
    other = run(folder, monkeypatch, method=METHOD, mask="image", text="a red circle", upload=kept)
    assert sentences(other) == ""
    assert after_list(other) == after_list(app)
    command = next(code.value for code in other.code if "analysis query" in code.value)
    words_of = shlex.split(command)
    assert Path(words_of[words_of.index("--image") + 1]).name == f"{kept}.png"
    done = CliRunner().invoke(main, [*words_of[3:], "--json"])
    assert done.exit_code == 0, done.output
    listed = json.loads(done.stdout)["candidates"]
    assert all(str(row["text"]) in line for row, line in zip(listed, after_list(app).split("\n\n"), strict=False))


def test_without_keeping_a_link_says_what_it_lacks_and_shows_no_other_query(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVALLENS_UPLOADS", "0")
    app = upload(run(folder, monkeypatch, text="a red circle"), picture(9))
    assert ranked(app)
    assert "link lacks your picture" in words(app)
    lost = address(app, "upload")
    assert not (folder / f"cache/uploads/{lost}.png").exists()
    other = run(folder, monkeypatch, text="a red circle", upload=lost)
    assert not ranked(other)
    assert "has a picture that is not here" in sentences(other)
    next(button for button in other.button if button.label == "Go on without it").click().run()
    assert ranked(other)
    assert "upload" not in other.query_params


def test_the_way_back_takes_the_picture_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = upload(run(folder, monkeypatch), picture(3))
    first, shown = address(app, "upload"), after_list(app)
    upload(app, picture(5))
    second = address(app, "upload")
    assert (second, after_list(app)) != (first, shown)
    app.query_params["upload"] = first  # as the browser does
    app.run()
    assert after_list(app) == shown
    assert address(app, "upload") == first
    del app.query_params["upload"]
    app.run()
    assert not ranked(app)


@pytest.mark.parametrize("upload", ["0" * 32, "../../etc/passwd", "x"])
def test_a_picture_that_nobody_has_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, upload: str) -> None:
    app = run(folder, monkeypatch, text="a red circle", upload=upload)
    assert not ranked(app)
    assert "has a picture that is not here" in sentences(app)
    assert not app.error

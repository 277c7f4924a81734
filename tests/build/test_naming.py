"""A model names concepts from samples of one half, is tested on the other, and never speaks over a person. The server is played
here, on 127.0.0.1."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from analysis.build import naming
from analysis.build.rescore import pair_rows
from analysis.build.score import evidence_of
from analysis.cli import main
from analysis.models.chat import KEY_VARIABLE, Local
from analysis.store import Store, open_store
from analysis.store.notebook import add_label, history, labels
from tests.pages.opening import open_page, words
from tests.synthetic_store import BOAT_IMAGE, BOAT_TEXT, BRIDGE, IMAGE_ONLY, make_store

Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def says(text: Any) -> Answer:
    return lambda body: (200, {"choices": [{"message": {"content": text}}]})


class Played:
    """An OpenAI-compatible server that says what a test wants; asked: the bodies it got; headers: of the last request."""

    def __init__(self) -> None:
        self.answer: Answer = says("dog")
        self.models: Any = {"data": [{"id": "played-vl"}]}
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.wait = 0.0
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, played.models)

            def do_POST(self) -> None:
                played.headers = dict(self.headers)
                played.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                time.sleep(played.wait)
                self._send(*played.answer(played.asked[-1]))

            def _send(self, status: int, content: Any) -> None:
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Played]:
    played = Played()
    yield played
    played.close()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return make_store(tmp_path, n_pairs=90)


def sha(store: Store) -> str:
    return str(store.config["sae"]["sha256"])


def name(path: Path, server: Played, *options: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["name", str(path), "--model", server.address, *options])
    assert done.exit_code == code, done.output
    return done.output


def test_its_names_are_labels_of_one_more_author_with_their_test(path: Path, server: Played) -> None:
    out = name(path, server, "--concepts", str(BRIDGE))
    assert "dog  [F1 1.00 on unseen samples]" in out
    store = open_store(path)
    label = labels(store.cache_dir / "notes", sha(store))[BRIDGE]
    assert (label.text, label.author) == ("dog", "played-vl (model)")


def test_a_wrong_name_is_not_supported_and_the_page_says_so(
    path: Path, server: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = says("a boat.")
    assert "boat  [F1 0.00 on unseen samples, not supported]".replace("boat", "a boat") in name(
        path, server, "--concepts", str(BRIDGE)
    )
    text = words(open_page("concept", path.parents[1], monkeypatch, concept=str(BRIDGE)))
    assert (
        "The label “a boat” by played-vl \\(model\\) predicts on which unseen samples it fires: F1 **0.00**: not supported."
        in text
    )


def test_it_sees_small_pictures_and_captions_of_one_half_alone(path: Path, server: Played) -> None:
    name(path, server, "--concepts", f"{BOAT_IMAGE},{BOAT_TEXT}")
    store = open_store(path)
    content = server.asked[0]["messages"][0]["content"]
    pictures = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(pictures) == naming.PICTURES
    for uri in pictures:
        assert max(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size) <= naming.SIDE
    assert len([part for part in server.asked[1]["messages"][0]["content"] if part["type"] == "image_url"]) == 0
    assert "boat" in server.asked[1]["messages"][0]["content"][-1]["text"]
    evidence = evidence_of(store.samples["text"].tolist(), pair_rows(store))
    rows = store.postings.rows(BOAT_TEXT)[0]
    unseen = {str(store.samples["text"][int(row)]) for row in rows if evidence.half[row] == 1}
    seen = {str(store.samples["text"][int(row)]) for row in rows if evidence.half[row] == 0}
    told = server.asked[1]["messages"][0]["content"][-1]["text"]
    assert any(text in told for text in seen)
    assert not any(f"- {text}\n" in told for text in unseen - seen)


def test_what_a_person_said_stays(path: Path, server: Played) -> None:
    store = open_store(path)
    notes = store.cache_dir / "notes"
    add_label(notes, sha(store), BRIDGE, "my dog", "Ann")
    add_label(notes, sha(store), IMAGE_ONLY, "pictures", "Ann")
    add_label(notes, sha(store), IMAGE_ONLY, "", "Ann")  # taken back: she wants none
    out = name(path, server, "--concepts", f"{BRIDGE},{IMAGE_ONLY},{BOAT_TEXT}")
    assert out.count("somebody else named it") == 2
    found = labels(notes, sha(store))
    assert (found[BRIDGE].text, found[BOAT_TEXT].text) == ("my dog", "dog")
    assert IMAGE_ONLY not in found


def test_it_goes_on_where_it_stopped(path: Path, server: Played) -> None:
    store = open_store(path)
    name(path, server, "--concepts", str(BRIDGE))
    answers = iter([says("boat"), lambda body: (500, {"error": {"message": "out of memory"}})])
    server.answer = lambda body: next(answers)(body)
    out = name(path, server, "--concepts", f"{BRIDGE},{BOAT_IMAGE},{BOAT_TEXT}", code=1)
    assert "refuses the request (500: out of memory)" in out
    assert len(server.asked) == 3, "the first concept was not asked again"
    server.answer = says("boat")
    out = name(path, server, "--concepts", f"{BRIDGE},{BOAT_IMAGE},{BOAT_TEXT}")
    assert len(server.asked) == 4
    assert "dog  [F1 1.00" in out
    assert len(history(store.cache_dir / "notes", sha(store), BOAT_IMAGE)) == 1


def test_the_plan_sends_nothing(path: Path, server: Played) -> None:
    out = name(path, server, "--plan", "--limit", "3")
    assert f"are sent to {server.address}; nothing else is." in out
    assert out.startswith("3 concepts of ")
    assert server.asked == []


def test_nothing_shared_is_no_label(path: Path, server: Played) -> None:
    server.answer = says("Nothing.")
    assert "no shared meaning" in name(path, server, "--concepts", str(BRIDGE))
    store = open_store(path)
    assert labels(store.cache_dir / "notes", sha(store)) == {}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda body: (401, {"error": {"message": "no"}}), "refuses the key (401); set $OPENAI_API_KEY"),
        (lambda body: (404, {}), "does not exist there (404)"),
        (lambda body: (400, {"error": "images are not supported"}), "images are not supported); is it a chat model"),
        (lambda body: (200, b"<html>hello</html>"), "which is no JSON"),
        (lambda body: (200, {"data": []}), "answered without `choices`, so it is no chat model"),
        (lambda body: (200, {"choices": []}), "answered without `choices`"),
        (lambda body: (302, b""), "refuses the request (302"),
        (says(""), "the answer is empty"),
        (says(None), "the answer is empty"),
        (says("word " * 60), "goes on beyond 80 characters"),
    ],
)
def test_what_goes_wrong_is_one_sentence(path: Path, server: Played, answer: Answer, sentence: str) -> None:
    server.answer = answer
    out = name(path, server, "--limit", "3", code=1)
    assert sentence in out
    assert "Traceback" not in out
    assert len(out.strip().splitlines()[-1]) < 600


def test_a_server_that_is_slow_or_gone_is_one_sentence(path: Path, server: Played) -> None:
    server.wait = 3.0
    assert "gave no answer within 0.3 s" in name(path, server, "--limit", "1", "--timeout", "0.3", code=1)
    gone = Played()
    gone.close()
    assert f"No server answers at {gone.address}" in name(path, gone, code=1)


def test_of_several_models_one_is_named(path: Path, server: Played) -> None:
    server.models = {"data": [{"id": "a"}, {"id": "b"}]}
    assert "serves 2 models (a, b); say which is meant by --served NAME." in name(path, server, code=1)
    name(path, server, "--served", "b", "--limit", "1")
    assert server.asked[0]["model"] == "b"


def test_the_key_is_a_header_and_stands_nowhere_else(
    path: Path, server: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    out = name(path, server, "--limit", "1")
    assert server.headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in out + json.dumps(server.asked)
    for address in ("http://me:pw@127.0.0.1/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1/v1?key=1"):
        done = CliRunner().invoke(main, ["name", str(path), "--model", address])
        assert done.exit_code == 1
        assert "expected" in done.output


def test_answers_become_names() -> None:
    assert naming.cleaned('  "A red dog."\nBecause ...') == "A red dog"
    assert naming.cleaned("Answer: *snow*") == "snow"
    assert naming.cleaned("\n\n") == ""


def test_a_local_checkpoint_answers(tmp_path: Path) -> None:
    """A tiny random one: what it says means nothing, that it is asked by its chat template with pictures does."""
    from analysis.models.tiny_chat import make_qwen2_5_vl

    chat = Local(make_qwen2_5_vl(tmp_path / "tiny-chat"), device="cpu")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8))
    assert isinstance(chat.ask("What is this?", [picture, picture]), str)
    assert chat.name == "tiny-chat"


def test_a_folder_that_is_no_chat_model_is_one_sentence(tmp_path: Path, path: Path) -> None:
    from analysis.models.tiny import make_clip

    for folder in (make_clip(tmp_path / "clip"), tmp_path):
        done = CliRunner().invoke(main, ["name", str(path), "--model", str(folder)])
        assert done.exit_code == 1, done.output
        assert "Traceback" not in done.output

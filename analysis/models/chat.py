"""A vision-language model that is asked in words about pictures: behind an OpenAI-compatible address, or a local checkpoint.
Only who starts a command says which; no page and no link reaches this."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis.errors import BackboneError

if TYPE_CHECKING:
    import httpx
    from PIL import Image

KEY_VARIABLE = "OPENAI_API_KEY"
MOST_BYTES = 1_000_000  # of an answer that is read at all
MOST_TOKENS = 32  # of an answer: a name is some words
_HOME = ("127.0.0.1", "localhost", "::1")


class Chat(Protocol):
    """name: what stands as the author of what it says; where: a place that somebody recognises."""

    name: str
    where: str

    def ask(self, words: str, pictures: Sequence[Image.Image]) -> str: ...


def open_chat(model: str, *, served: str = "", device: str = "auto", timeout: float = 60.0) -> Chat:
    """The model of a folder or behind an address. served: its name on a server that has several. BackboneError where there is
    none."""
    if model.startswith(("http://", "https://")):
        return Server(model, served=served, timeout=timeout)
    if "://" in model:
        raise BackboneError(f"{model[:80]!r} is no address of a server; expected http://HOST/v1 or https://HOST/v1.")
    return Local(Path(model).expanduser(), device=device)


class Server:
    """An OpenAI-compatible server (vLLM, llama.cpp, Ollama, a provider), by its /chat/completions. Its key is read from
    $OPENAI_API_KEY."""

    def __init__(self, address: str, *, served: str = "", timeout: float = 60.0) -> None:
        import httpx

        try:
            url = httpx.URL(address.rstrip("/"))
        except httpx.InvalidURL as error:
            raise BackboneError(
                f"{address[:80]!r} is no address ({error}); expected one such as http://127.0.0.1:8000/v1."
            ) from error
        if not url.host or url.userinfo or url.query:
            raise BackboneError(
                f"The address of {url.host or 'nobody'} holds no host, or more than host and path; expected one such as "
                f"http://127.0.0.1:8000/v1, and a key in ${KEY_VARIABLE}."
            )
        self.where, self._timeout = str(url), timeout
        key = os.environ.get(KEY_VARIABLE, "").strip()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            timeout=timeout, headers=headers, trust_env=url.host not in _HOME
        )  # a proxy is for away
        self.name = served or self._first_model()

    def ask(self, words: str, pictures: Sequence[Image.Image]) -> str:
        parts: list[dict[str, Any]] = [
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(jpeg(one)).decode()}"},
            }
            for one in pictures
        ]
        body = {
            "model": self.name, "temperature": 0, "max_tokens": MOST_TOKENS,
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}],
        }  # fmt: skip
        answer = self._call("POST", "/chat/completions", body)
        try:
            said = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise BackboneError(
                f"{self.where} answered without `choices`, so it is no chat model's server; give the address of one, which "
                "mostly ends in /v1."
            ) from error
        return said if isinstance(said, str) else ""

    def _first_model(self) -> str:
        found = self._call("GET", "/models")
        listed = found.get("data") if isinstance(found, dict) else None
        names = [str(one["id"]) for one in listed or () if isinstance(one, dict) and one.get("id")]
        if len(names) != 1:
            offered = (
                f"serves {len(names)} models ({', '.join(name[:60] for name in names[:5])})"
                if names
                else "names no model"
            )
            raise BackboneError(f"{self.where} {offered}; say which is meant by --served NAME.")
        return names[0]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx

        try:
            with self._client.stream(method, self.where + path, json=body) as response:
                text = _at_most(response)
        except httpx.TimeoutException as error:
            raise BackboneError(
                f"{self.where} gave no answer within {self._timeout:g} s; wait until it has loaded, or allow more by --timeout."
            ) from error
        except httpx.HTTPError as error:
            raise BackboneError(
                f"No server answers at {self.where} ({str(error)[:120] or type(error).__name__}); start it, or give the "
                "address of one that runs, such as http://127.0.0.1:8000/v1."
            ) from error
        if response.status_code in (401, 403):
            raise BackboneError(
                f"{self.where} refuses the key ({response.status_code}); set ${KEY_VARIABLE} to one that it knows."
            )
        if response.status_code == 404:
            raise BackboneError(
                f"{self.where}{path} does not exist there (404); is it a chat model's server, does its address end in /v1, is "
                "the model's name right?"
            )
        if response.status_code >= 300:
            raise BackboneError(
                f"{self.where} refuses the request ({response.status_code}: {_message(text)}); is it a chat model that reads "
                "pictures?"
            )
        try:
            return json.loads(text)
        except ValueError as error:
            raise BackboneError(
                f"{self.where} answered {' '.join(text.split())[:60]!r}, which is no JSON; give the address of a chat model's "
                "server, which mostly ends in /v1."
            ) from error


class Local:
    """A checkpoint in the transformers layout whose processor has a chat template. Nothing is downloaded, and no code of the
    folder is run."""

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        from analysis.models.devices import choose_device, choose_dtype
        from analysis.models.weights import open_folder

        open_folder(folder)
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.name, self.where, self._device = folder.resolve().name, str(folder), choose_device(device)
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, dtype=choose_dtype(None, "bfloat16", self._device)
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise BackboneError(
                f"{folder} holds no model that reads pictures and answers ({str(error).splitlines()[0][:160]}); give the "
                "folder of a vision-language chat model, or the address of a server."
            ) from error
        if not getattr(self._processor, "chat_template", None):
            raise BackboneError(
                f"{folder} has no chat template, so nobody can ask it; give an instruction-tuned model."
            )
        self._model = model.to(self._device).eval()

    def ask(self, words: str, pictures: Sequence[Image.Image]) -> str:
        import torch

        parts = [{"type": "image", "image": one} for one in pictures] + [{"type": "text", "text": words}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt",
        ).to(self._device)  # fmt: skip
        with torch.inference_mode():
            out = self._model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)
        return str(self._processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])


def jpeg(picture: Image.Image) -> bytes:
    """A picture as a server gets it."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _at_most(response: httpx.Response) -> str:
    got = bytearray()
    for part in response.iter_bytes():
        got += part
        if len(got) > MOST_BYTES:
            break
    return got[:MOST_BYTES].decode("utf-8", errors="replace")


def _message(text: str) -> str:
    """What a server says went wrong, as far as it says so."""
    try:
        found = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:160]
    error = found.get("error", found) if isinstance(found, dict) else found
    return " ".join(str(error.get("message", error) if isinstance(error, dict) else error).split())[:160]

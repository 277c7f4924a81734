"""Chromium, started once for everything that needs one: figures as sharp pictures, a deck as PDF.

The pages that it opens are files that this program wrote a moment ago; nothing is loaded from a network.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from analysis.report.slides import ReportError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
PATIENCE = 120.0  # seconds for one page
# A picture of a figure knows no typeface of its page, and a legend in another one is cut off: the typeface goes into it.
_FIGURES = """window.ready.then(() => {
  const faces = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules])
    .filter(rule => rule instanceof CSSFontFaceRule).map(rule => rule.cssText).join(' ').replaceAll('&', '&amp;');
  return Promise.all([...document.querySelectorAll('.figure')].map(async box => {
    const size = {width: parseFloat(box.style.width), height: parseFloat(box.style.height)};
    const layout = {...box.layout, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)'};
    const drawn = await Plotly.toImage({data: box.data, layout}, {format: 'svg', ...size});
    const svg = decodeURIComponent(drawn.slice(drawn.indexOf(',') + 1)).replace('>', `><style>${faces}</style>`);
    if (!SCALE) return svg;
    const image = new Image(), canvas = document.createElement('canvas');
    image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    await image.decode();
    [canvas.width, canvas.height] = [size.width * SCALE, size.height * SCALE].map(Math.round);
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL('image/png');
  }));
})"""
# Chromium prints a hatched bar as a picture of the whole figure, 14 MB a deck: each tile of its pattern is drawn instead.
_HATCHES = """(() => {
  const svg = 'http://www.w3.org/2000/svg';
  let number = 0;
  for (const box of document.querySelectorAll('.main-svg path, .main-svg rect')) {
    const name = /url\\(["']?[^#"')]*#([^"')]+)/.exec(getComputedStyle(box).fill);
    const pattern = name && document.getElementById(name[1]);
    if (!pattern || pattern.tagName !== 'pattern' || pattern.getAttribute('patternTransform')) continue;
    const [wide, high] = ['width', 'height'].map(side => parseFloat(pattern.getAttribute(side)));
    const area = box.getBBox();
    const x = Math.floor(area.x / wide) * wide, y = Math.floor(area.y / high) * high;
    if (!(wide > 0 && high > 0) || (area.width / wide) * (area.height / high) > 20000) continue;
    const clip = document.createElementNS(svg, 'clipPath'), tiles = document.createElementNS(svg, 'g');
    clip.id = `hatch-${number++}`;
    clip.append(box.cloneNode());
    clip.firstChild.removeAttribute('style');
    clip.firstChild.removeAttribute('class');
    tiles.setAttribute('clip-path', `url(#${clip.id})`);
    tiles.style.opacity = getComputedStyle(box).fillOpacity;
    for (let left = x; left < area.x + area.width; left += wide)
      for (let top = y; top < area.y + area.height; top += high)
        for (const piece of pattern.children) {
          const copy = piece.cloneNode();
          copy.setAttribute('transform', `translate(${left},${top})`);
          tiles.append(copy);
        }
    box.before(clip, tiles);
    box.style.fill = 'none';
  }
  return number;
})()"""
_DRAWN = "window.ready.then(() => new Promise(done => setTimeout(() => done(true), 300)))"
_UNNUMBERED = "document.querySelectorAll('.slide-number, .slide-number-pdf, .progress').forEach(box => box.remove())"
_PDF = {
    "printBackground": True,
    "preferCSSPageSize": True,
    "marginTop": 0,
    "marginBottom": 0,
    "marginLeft": 0,
    "marginRight": 0,
}


def chromium() -> str:
    """Path of the browser. ReportError with what to do where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and MAC.exists():
        found = str(MAC)
    if found is None and sys.platform == "win32":
        found = next((path for name in ("chrome.exe", "msedge.exe") if (path := shutil.which(name))), None)
    if found is None:
        raise ReportError(
            "There is no Chromium here, which draws figures as pictures and prints PDF; install it (Debian: apt install "
            "chromium), or write deck.html, which needs none."
        )
    return found


def figure_pictures(html: str, *, scale: int = 4) -> list[bytes]:
    """PNG of every figure of a deck's HTML, in order, at `scale` times its size. No browser is started without figures."""
    if 'class="figure"' not in html:
        return []
    found = _run(_evaluated(html, _FIGURES.replace("SCALE", str(scale))))
    return [base64.b64decode(str(uri).split(",", 1)[1]) for uri in found]


def figure_svg(html: str) -> str:
    """The first figure of a deck's HTML as SVG, at the size of its slide."""
    return str(_run(_evaluated(html, _FIGURES.replace("SCALE", "0")))[0])


def slide_png(html: str, number: int, *, scale: int = 2) -> bytes:
    """PNG of a slide of a deck's HTML (1: the first), at `scale` times its size."""
    return bytes(_run(_photographed(html, number, scale)))


def printed(html: str, *, pages: str = "") -> bytes:
    """A deck's HTML as PDF, one page a slide. pages: which, such as "2-"; all by default."""
    return bytes(_run(_printed(html, pages)))


async def _evaluated(html: str, script: str) -> Any:
    async with _Page(html) as page:
        return await page.evaluate(script)


async def _photographed(html: str, number: int, scale: int) -> bytes:
    async with _Page(html, f"#/{number - 1}") as page:
        size = {"width": 1280, "height": 720, "deviceScaleFactor": scale, "mobile": False}
        await page.send("Emulation.setDeviceMetricsOverride", size)
        await page.evaluate(_DRAWN)
        await page.evaluate(_UNNUMBERED)
        answer = await page.send("Page.captureScreenshot", {"format": "png"})
        return base64.b64decode(answer["data"])


async def _printed(html: str, pages: str) -> bytes:
    async with _Page(html, "?view=print") as page:
        await page.evaluate(_DRAWN)
        await page.evaluate(_HATCHES)
        if pages:
            await page.evaluate(_UNNUMBERED)
        answer = await page.send("Page.printToPDF", {**_PDF, **({"pageRanges": pages} if pages else {})})
        return base64.b64decode(answer["data"])


class _Page:
    """A page in a browser of its own."""

    def __init__(self, html: str, query: str = "") -> None:
        self._html, self._query = html, query

    async def __aenter__(self) -> _Page:
        from choreographer import Browser

        self._folder = tempfile.TemporaryDirectory(prefix="deck-")
        file = Path(self._folder.name) / "deck.html"
        file.write_text(self._html, encoding="utf-8")
        self._browser = Browser(path=chromium(), headless=True, enable_sandbox=False, enable_gpu=False)
        try:
            await self._browser.open()
            self._tab = await self._browser.create_tab(file.as_uri() + self._query)
            await self.evaluate(
                "new Promise(done => { const look = () => window.ready ? done(true) : setTimeout(look, 50); look() })"
            )
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._browser.close()
        self._folder.cleanup()

    async def evaluate(self, script: str) -> Any:
        answer = await self.send(
            "Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True}
        )
        if "exceptionDetails" in answer:
            raise ReportError(f"The browser could not draw the deck ({answer['exceptionDetails'].get('text', '')}).")
        return answer["result"].get("value")

    async def send(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        answer = await asyncio.wait_for(self._tab.send_command(command, params=params), PATIENCE)
        if "error" in answer:
            raise ReportError(
                f"Chromium refused {command} ({answer['error'].get('message', '')}); is it a current one?"
            )
        return dict(answer["result"])


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, also where a loop runs already (a thread of its own)."""
    box: list[Any] = []

    def go() -> None:
        try:
            box.append(asyncio.run(work))
        except Exception as error:
            box.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if isinstance(box[0], ReportError):
        raise box[0]
    if isinstance(box[0], Exception):
        raise ReportError(f"Chromium did not do its work ({box[0]!r}); try again, or write deck.html.") from box[0]
    return box[0]

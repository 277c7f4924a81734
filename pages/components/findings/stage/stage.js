// Lays the deck over the page in a dialog (the top layer: nothing of the page is above it). The frozen slides stand in a frame
// without the page's origin, so that nothing in them can reach the app; the live view is the app itself, bare. Every key comes
// to one place, whatever has the focus: the deck forwards its own, the live view gives only those of a clicker.
const NEXT = ["ArrowRight", "ArrowDown", "PageDown", " ", "Enter", "n"];
const BACK = ["ArrowLeft", "ArrowUp", "PageUp", "Backspace", "p"];

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const total = data.live.length;
  const before = parentElement.shown || {};
  const start = before.html === data.html ? before.at : data.start; // drawn again for another reason: the slide stays
  let at = Math.min(Math.max(start, 0), total - 1), timer = null, left = "";
  parentElement.querySelectorAll("dialog").forEach((old) => old.remove());

  const dialog = element("dialog", "");
  const screen = element("div", "screen");
  const frozen = element("iframe", "");
  frozen.title = "Findings, frozen";
  frozen.setAttribute("sandbox", "allow-scripts allow-popups");
  frozen.name = `slide-${at}`;
  frozen.srcdoc = data.html;
  const live = element("iframe", "");
  live.title = "The view as it is now";
  live.hidden = true;
  const tag = element("div", "tag");
  tag.textContent = "live";
  tag.hidden = true;
  const bar = element("div", "bar");
  const back = button("‹", "Back (←, Page Up)", () => turn(-1));
  const place = element("span", "place");
  const next = button("›", "On (→, Page Down)", () => turn(1));
  const kept = button("Frozen", "As it was pinned (L)", () => show(false));
  const now = button("Live", "The view as it is now (L)", () => show(true));
  const theme = button(data.mode === "dark" ? "Light" : "Dark", "The other colours (D)", () => send("mode"));
  const full = button("Full screen", "Full screen (F)", fullscreen);
  const leave = button("Leave", "Back to the findings (Esc)", () => send("leave"));
  bar.append(back, place, next, split(), kept, now, split(), theme, full, leave);
  screen.append(frozen, live, tag, bar);
  dialog.append(screen);
  parentElement.append(dialog);
  if (dialog.isConnected) { // not where the page is left at this moment
    dialog.showModal();
    dialog.focus();
  }

  const heard = (event) => {
    if (!frozen.contentWindow || event.source !== frozen.contentWindow) return;
    let said = event.data;
    if (typeof said === "string") { try { said = JSON.parse(said); } catch { return; } }
    if (said && said.namespace === "reveal" && said.eventName === "slidechanged") { at = said.state.indexh; paint(); }
    if (said && said.key) press(said.key);
    if (said && said.moved) wake();
  };
  const typed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target && event.target.closest && event.target.closest("button") && [" ", "Enter"].includes(event.key)) return;
    if (press(event.key)) event.preventDefault();
  };
  const moved = () => wake();
  window.addEventListener("message", heard);
  dialog.addEventListener("keydown", typed);
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); send("leave"); });
  screen.addEventListener("mousemove", moved);
  live.addEventListener("load", () => {
    try {
      live.contentWindow.addEventListener("keydown", (event) => {
        if (["PageDown", "PageUp", "Escape"].includes(event.key) && press(event.key)) event.preventDefault();
      }, true);
      live.contentWindow.addEventListener("mousemove", moved);
    } catch { /* another origin: the bar still works */ }
  });
  paint();
  wake();
  return () => {
    window.removeEventListener("message", heard);
    clearTimeout(timer);
    if (document.fullscreenElement) document.exitFullscreen();
    dialog.remove();
  };

  function press(key) {
    if (NEXT.includes(key)) turn(1);
    else if (BACK.includes(key)) turn(-1);
    else if (key === "Home") to(0);
    else if (key === "End") to(total - 1);
    else if (key === "l" || key === "L") show(live.hidden);
    else if (key === "d" || key === "D") send("mode");
    else if (key === "f" || key === "F") fullscreen();
    else if (key === "Escape") send("leave");
    else return false;
    return true;
  }

  function turn(by) { to(at + by); }

  function to(slide) {
    const wanted = Math.min(Math.max(slide, 0), total - 1);
    if (wanted === at) return;
    at = wanted;
    show(false);
    frozenDo("slide", [at]);
    paint();
  }

  function show(live_now) {
    const address = data.live[at];
    const on = live_now && Boolean(address);
    if (on && live.dataset.address !== address) {
      live.src = address;
      live.dataset.address = address;
    }
    live.hidden = !on;
    tag.hidden = !on;
    paint();
    if (!on) dialog.focus();
  }

  function paint() {
    place.textContent = `${at + 1} / ${total}`;
    back.disabled = at === 0;
    next.disabled = at === total - 1;
    now.disabled = !data.live[at];
    kept.setAttribute("aria-pressed", String(live.hidden));
    now.setAttribute("aria-pressed", String(!live.hidden));
    screen.dataset.slide = String(at);
    parentElement.shown = { html: data.html, at };
  }

  function frozenDo(method, args) {
    if (frozen.contentWindow) frozen.contentWindow.postMessage(JSON.stringify({ method, args }), "*");
  }

  function send(what) {
    if (left === what) return;
    left = what;
    setTriggerValue(what, at);
  }

  function fullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else screen.requestFullscreen().catch(() => {});
  }

  function wake() {
    bar.classList.remove("quiet");
    clearTimeout(timer);
    timer = setTimeout(() => bar.classList.add("quiet"), 2500);
  }

  function button(words, help, act) {
    const made = element("button", "");
    made.type = "button";
    made.textContent = words;
    made.title = help;
    made.addEventListener("click", act);
    return made;
  }

  function split() { return element("span", "split"); }

  function element(name, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    return made;
  }
}

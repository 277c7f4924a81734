// Draws the strip and the patch grid of one query, repaints the cells when only masks or shades change, and sends one
// message a gesture: {positions: [...], mask: true | false}. A drag over patches gives all of them the state that the
// first one gets.
const WORDS = { template: "template", image: "image", text: "your text", instruction: "instruction" };

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const frame = parentElement.querySelector(".frame") || parentElement.appendChild(element("div"));
  frame.className = "frame" + (data.clickable ? "" : " frozen");
  const masked = new Set(data.masked);
  const onBoard = Boolean(data.grid && data.picture);
  const cells = new Map();
  const drawn = JSON.stringify([data.tokens, data.grid, data.picture]);

  if (frame.drawn === drawn) {
    frame.querySelectorAll("button").forEach((button) => cells.set(Number(button.dataset.position), button));
    cells.forEach((button, position) => paint(position));
    frame.querySelector(".legend").replaceWith(legend());
  } else {
    frame.replaceChildren(...(onBoard ? [board()] : []), strip(), legend());
    frame.drawn = drawn;
  }
  summarise();
  return data.clickable ? listen() : () => {};

  function board() {
    const box = element("div", "board");
    const image = element("img");
    image.src = data.picture;
    image.alt = data.alt || "The picture of the query under its patch grid";
    image.draggable = false;
    const grid = element("div", "grid");
    grid.style.gridTemplateColumns = `repeat(${data.grid[1]}, 1fr)`;
    grid.style.gridTemplateRows = `repeat(${data.grid[0]}, 1fr)`;
    let place = 0;
    data.tokens.forEach(([, role], position) => {
      if (role !== "image") return;
      const row = Math.floor(place / data.grid[1]) + 1, column = (place % data.grid[1]) + 1;
      place += 1;
      grid.appendChild(cell("patch", position, `patch row ${row}, column ${column}`));
    });
    box.append(image, grid);
    return box;
  }

  function strip() {
    const line = element("div", "strip");
    let skipped = false;
    data.tokens.forEach(([text, role], position) => {
      if (role === "pad") return;
      if (onBoard && role === "image") {
        if (!skipped) {
          const place = element("span", "token role-image patches");
          place.textContent = `▦ ${data.grid[0]} × ${data.grid[1]} patches`;
          place.style.cursor = "default";
          line.appendChild(place);
          skipped = true;
        }
        return;
      }
      const token = cell("token", position, WORDS[role] || role);
      token.textContent = role === "image" ? "▦" : text;
      line.appendChild(token);
    });
    return line;
  }

  // The strip's one word for all patches is hatched when every one of them is masked.
  function summarise() {
    const place = frame.querySelector(".patches");
    if (!place) return;
    place.classList.toggle("masked", data.tokens.every(([, role], position) => role !== "image" || masked.has(position)));
  }

  function cell(kind, position, words) {
    const button = element("button", kind);
    button.type = "button";
    button.dataset.position = position;
    button.dataset.words = `token ${position}: ${words}`;
    cells.set(position, button);
    paint(position);
    return button;
  }

  function paint(position) {
    const button = cells.get(position);
    const kind = button.classList.contains("patch") ? "patch" : "token";
    const hidden = masked.has(position);
    const shade = data.shade ? data.shade[position] : null;
    button.className = kind + (kind === "token" ? ` role-${data.tokens[position][1]}` : "");
    button.title = button.dataset.words + (data.values ? `, ${data.values[position]}` : "") + (hidden ? ", masked" : "");
    button.setAttribute("aria-label", `${button.title}. ${data.tokens[position][0]}`);
    button.setAttribute("aria-pressed", String(hidden));
    if (hidden) button.classList.add("masked");
    else if (shade !== null) {
      button.classList.add("shaded");
      button.style.setProperty("--shade", Math.abs(shade).toFixed(3));
      button.style.setProperty("--shade-color", shade >= 0 ? "var(--st-primary-color)" : "var(--st-gray-color)");
    }
  }

  function legend() {
    const line = element("div", "legend");
    const roles = [...new Set(data.tokens.map(([, role]) => role))].filter((role) => WORDS[role]);
    if (!data.shade) roles.forEach((role) => line.appendChild(entry(`swatch role-${role}`, WORDS[role])));
    if (data.shade) {
      const strong = entry("swatch shaded", "brings much");
      strong.firstChild.style.setProperty("--shade", "0.9");
      strong.firstChild.style.setProperty("--shade-color", "var(--st-primary-color)");
      const against = entry("swatch shaded", "speaks against it");
      against.firstChild.style.setProperty("--shade", "0.6");
      against.firstChild.style.setProperty("--shade-color", "var(--st-gray-color)");
      line.append(strong, against);
    }
    if (data.masked.length) line.appendChild(entry("swatch masked", "masked"));
    return line;
  }

  function entry(className, words) {
    const span = element("span");
    span.append(element("i", className), words);
    return span;
  }

  function listen() {
    let gesture = null;
    const at = (event) => {
      const hit = parentElement.elementFromPoint
        ? parentElement.elementFromPoint(event.clientX, event.clientY)
        : document.elementFromPoint(event.clientX, event.clientY);
      return hit && hit.dataset && hit.dataset.position !== undefined ? Number(hit.dataset.position) : null;
    };
    const touch = (position) => {
      if (position === null || gesture.positions.has(position)) return;
      gesture.positions.add(position);
      if (gesture.mask) masked.add(position);
      else masked.delete(position);
      paint(position);
      summarise();
    };
    const down = (event) => {
      const position = at(event);
      if (position === null || event.button > 0) return;
      gesture = { mask: !masked.has(position), positions: new Set(), x: event.clientX, y: event.clientY };
      touch(position);
      event.preventDefault();
    };
    // A quick drag is reported at few points: every cell on the line between two of them counts.
    const move = (event) => {
      if (!gesture) return;
      const { x, y } = gesture;
      const steps = Math.ceil(Math.hypot(event.clientX - x, event.clientY - y) / 6);
      for (let step = 1; step <= steps; step += 1) {
        const part = step / steps;
        touch(at({ clientX: x + part * (event.clientX - x), clientY: y + part * (event.clientY - y) }));
      }
      gesture.x = event.clientX;
      gesture.y = event.clientY;
    };
    const up = () => {
      if (!gesture) return;
      setTriggerValue("toggle", { positions: [...gesture.positions], mask: gesture.mask });
      gesture = null;
    };
    const key = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      const position = event.target.dataset ? event.target.dataset.position : undefined;
      if (position === undefined) return;
      event.preventDefault();
      gesture = { mask: !masked.has(Number(position)), positions: new Set() };
      touch(Number(position));
      up();
    };
    frame.addEventListener("pointerdown", down);
    frame.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up);
    frame.addEventListener("keydown", key);
    return () => {
      frame.removeEventListener("pointerdown", down);
      frame.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", up);
      frame.removeEventListener("keydown", key);
    };
  }

  function element(tag, className) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    return made;
  }
}

// Draws the strip and the patch grid of one query, repaints the cells when only masks or shades change, and sends one
// message a gesture: {positions: [...], mask: true | false}. A drag over patches gives the rectangle between its ends the
// state that the first one gets; a drag over tokens all that it passes.
const WORDS = { template: "template", image: "image", text: "your text", instruction: "instruction" };

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const frame = parentElement.querySelector(".frame") || parentElement.appendChild(element("div"));
  frame.className = "frame" + (data.clickable ? "" : " frozen");
  const masked = new Set(data.masked);
  const onBoard = Boolean(data.grid && data.picture);
  const patches = new Set(onBoard ? data.cells : []);
  // Image tokens that are no cell of the grid (a coarser view, ends of lines): one cell of the strip, key "rest", has them all.
  const rest = [...data.tokens.keys()].filter((i) => onBoard && data.tokens[i][1] === "image" && !patches.has(i));
  const cells = new Map();
  const drawn = JSON.stringify([data.tokens, data.grid, data.cells, data.box, data.picture]);

  if (frame.drawn === drawn) {
    frame.querySelectorAll("button").forEach((button) => cells.set(button.dataset.position, button));
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
    const [left, top, right, bottom] = data.box;
    grid.style.inset = [top, 1 - right, 1 - bottom, left].map((share) => `${100 * share}%`).join(" ");
    data.cells.forEach((position, place) => {
      const row = Math.floor(place / data.grid[1]) + 1, column = (place % data.grid[1]) + 1;
      grid.appendChild(cell("patch", String(position), `token ${position}: patch row ${row}, column ${column}`));
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
          if (rest.length) {
            const others = cell("token", "rest", `${rest.length} further image tokens: the picture as a whole, ends of lines`);
            others.textContent = `▦ ${rest.length} more`;
            line.appendChild(others);
          }
          skipped = true;
        }
        return;
      }
      const token = cell("token", String(position), `token ${position}: ${WORDS[role] || role}`);
      token.textContent = role === "image" ? "▦" : text;
      line.appendChild(token);
    });
    return line;
  }

  // The strip's one word for all patches is hatched when every one of them is masked.
  function summarise() {
    const place = frame.querySelector(".patches");
    if (!place) return;
    place.classList.toggle("masked", [...patches].every((position) => masked.has(position)));
  }

  function cell(kind, position, words) {
    const button = element("button", kind);
    button.type = "button";
    button.dataset.position = position;
    button.dataset.words = words;
    cells.set(position, button);
    paint(position);
    return button;
  }

  // The positions that a cell stands for.
  function of(key) {
    return key === "rest" ? rest : [Number(key)];
  }

  // key: a token's position as text, or "rest", which shows the strongest of its tokens.
  function paint(key) {
    const button = cells.get(key);
    const kind = button.classList.contains("patch") ? "patch" : "token";
    const hidden = of(key).every((position) => masked.has(position));
    const shown = of(key);
    const position = !data.shade ? shown[0] : shown.reduce((a, b) => (Math.abs(data.shade[b]) > Math.abs(data.shade[a]) ? b : a));
    const shade = data.shade ? data.shade[position] : null;
    const value = data.values ? `, ${key === "rest" ? "strongest " : ""}${data.values[position]}` : "";
    button.className = kind + (kind === "token" ? ` role-${data.tokens[position][1]}` : "");
    button.title = button.dataset.words + value + (hidden ? ", masked" : "");
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
      return hit && hit.dataset && hit.dataset.position !== undefined ? hit.dataset.position : null;
    };
    const set = (key, hidden) => {
      of(key).forEach((position) => (hidden ? masked.add(position) : masked.delete(position)));
      paint(key);
    };
    const begun = (key) => ({
      mask: !of(key).every((position) => masked.has(position)), keys: new Set(), before: new Set(masked),
      from: cells.get(key).classList.contains("patch") ? data.cells.indexOf(Number(key)) : null,
    });
    const touch = (keys) => {
      gesture.keys.forEach((key) => keys.has(key) || set(key, of(key).every((position) => gesture.before.has(position))));
      keys.forEach((key) => gesture.keys.has(key) || set(key, gesture.mask));
      gesture.keys = keys;
      summarise();
    };
    // The patch nearest to the pointer, which may have left the picture.
    const nearest = (event) => {
      const area = frame.querySelector(".grid").getBoundingClientRect();
      const line = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      return line((event.clientY - area.top) / area.height, data.grid[0]) * data.grid[1]
        + line((event.clientX - area.left) / area.width, data.grid[1]);
    };
    const rectangle = (one, other) => {
      const width = data.grid[1];
      const ends = (a, b) => [Math.min(a, b), Math.max(a, b)];
      const [top, bottom] = ends(Math.floor(one / width), Math.floor(other / width));
      const [left, right] = ends(one % width, other % width);
      const inside = data.cells.filter((position, place) => {
        const row = Math.floor(place / width), column = place % width;
        return row >= top && row <= bottom && column >= left && column <= right;
      });
      return new Set(inside.map(String));
    };
    const down = (event) => {
      const key = at(event);
      if (key === null || event.button > 0) return;
      gesture = { ...begun(key), x: event.clientX, y: event.clientY };
      touch(new Set([key]));
      event.preventDefault();
    };
    // A quick drag over the strip is reported at few points: every token on the line between two of them counts.
    const move = (event) => {
      if (!gesture) return;
      if (gesture.from !== null) {
        touch(rectangle(gesture.from, nearest(event)));
        return;
      }
      const { x, y } = gesture;
      const steps = Math.ceil(Math.hypot(event.clientX - x, event.clientY - y) / 6);
      const passed = new Set(gesture.keys);
      for (let step = 1; step <= steps; step += 1) {
        const part = step / steps;
        const key = at({ clientX: x + part * (event.clientX - x), clientY: y + part * (event.clientY - y) });
        if (key !== null && !cells.get(key).classList.contains("patch")) passed.add(key);
      }
      touch(passed);
      gesture.x = event.clientX;
      gesture.y = event.clientY;
    };
    const up = () => {
      if (!gesture) return;
      setTriggerValue("toggle", { positions: [...gesture.keys].flatMap(of), mask: gesture.mask });
      gesture = null;
    };
    const key = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      const position = event.target.dataset ? event.target.dataset.position : undefined;
      if (position === undefined) return;
      event.preventDefault();
      gesture = begun(position);
      touch(new Set([position]));
      up();
    };
    frame.addEventListener("pointerdown", down);
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", up);
    frame.addEventListener("keydown", key);
    return () => {
      frame.removeEventListener("pointerdown", down);
      window.removeEventListener("pointermove", move);
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

// Shows the pictures of the concept under the pointer beside it. The chart belongs to the page, which draws another one after
// a search or for another method; this only listens to the one that stands there.
const PAUSE = 200; // milliseconds between two looks for it

export default function ({ data }) {
  const box = document.createElement("div");
  Object.assign(box.style, {
    position: "fixed", display: "none", gap: "4px", padding: "4px", borderRadius: "6px", zIndex: 1000, pointerEvents: "none",
    background: "rgba(128,128,128,0.35)",
  });
  box.dataset.testid = "map-pictures";
  document.body.appendChild(box);
  let plot = null, emitter = null;

  const show = ({ points, event }) => {
    const found = points && points.length ? data.pictures[String(points[0].customdata)] : undefined;
    if (!found || !event) return hide();
    box.replaceChildren(...found.map((source) => {
      const image = document.createElement("img");
      image.src = source;
      image.alt = "";
      Object.assign(image.style, { height: "72px", borderRadius: "4px", display: "block" });
      return image;
    }));
    const right = event.clientX > window.innerWidth / 2;
    box.style.left = right ? "" : `${event.clientX + 18}px`;
    box.style.right = right ? `${window.innerWidth - event.clientX + 18}px` : "";
    box.style.top = `${Math.max(8, Math.min(event.clientY + 18, window.innerHeight - 96))}px`;
    box.style.display = "flex";
  };
  const hide = () => { box.style.display = "none"; };
  const look = () => {
    const found = document.querySelector(`.${CSS.escape(data.chart)} .js-plotly-plot`);
    if (!found || !found.on || (found === plot && found._ev === emitter)) return;
    leave();
    [plot, emitter] = [found, found._ev];
    plot.on("plotly_hover", show);
    plot.on("plotly_unhover", hide);
  };
  const leave = () => {
    hide();
    if (plot && plot.removeListener) {
      plot.removeListener("plotly_hover", show);
      plot.removeListener("plotly_unhover", hide);
    }
  };
  const timer = setInterval(look, PAUSE);
  look();
  return () => {
    clearInterval(timer);
    leave();
    box.remove();
  };
}

"use strict";
// Learning curves: one SVG path a run, the nearest point under the pointer, a legend that switches curves.

const HEIGHT = 380;
const MARGIN = { top: 10, right: 14, bottom: 40, left: 64 };
const NEAR = 40; // pixels from the pointer within which a point is shown

let points = []; // what is on the screen: {run, x, y, left, top}
let pointed = -1; // index of the point in the tooltip

// A run's points: x by the rows of metrics.csv, the steps or the seconds so far.
function pointsOf(run, metric, over) {
  const y = run.curves[metric];
  if (!y) return [];
  let x = run.curves[over === "seconds" ? "time/epoch_s" : over] ?? [];
  if (over === "seconds") {
    let sum = 0;
    x = x.map((value) => (sum += value ?? 0));
  }
  const log = byId("log").checked;
  return y.map((value, i) => ({ run, x: x[i], y: value !== null && (!log || value > 0) && !missing(x[i]) ? value : null }));
}

// Positions and labels of an axis: steps of 1, 2 or 5 times a power of ten; powers of ten on a logarithmic one.
function ticks(low, high, count, log) {
  if (log) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const stride = Math.max(1, Math.ceil((to - from) / count));
    const factors = to - from <= 2 ? [1, 2, 5] : [1];
    const all = [];
    for (let power = from; power <= to; power += stride) all.push(...factors.map((f) => f * 10 ** power));
    return all.filter((v) => v >= low * 0.9999 && v <= high * 1.0001);
  }
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((f) => f * power >= raw * 0.9999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const tickLabel = (value) => {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(1).replace(".0e", "e") : String(Number(value.toPrecision(6)));
};

// Values -> pixels between two ends, with room where all values are the same.
function axis(values, from, to, log) {
  let [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
  if (low === Infinity) [low, high] = log ? [0.1, 1] : [0, 1];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) / 10 || 0.5), high + (Math.abs(high) / 10 || 0.5)];
  const room = log ? (high / low) ** 0.03 : 0.03 * (high - low); // so that no curve runs along the edge
  [low, high] = log ? [low / room, high * room] : [low - room, high + room];
  const share = log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  return { low, high, at: (v) => from + share(v) * (to - from) };
}

function renderCurves(colour) {
  const [metric, over, log] = [byId("metric").value, byId("over").value, byId("log").checked];
  const svg = byId("curves");
  const width = Math.max(byId("plot").clientWidth, 280);
  const seen = state.listed.filter((run) => !state.hidden.has(run.index));
  const lines = seen.map((run) => ({ run, points: pointsOf(run, metric, over) }));
  const found = lines.flatMap((line) => line.points).filter((p) => p.y !== null);
  const x = axis(found.map((p) => p.x), MARGIN.left, width - MARGIN.right, false);
  const y = axis(found.map((p) => p.y), HEIGHT - MARGIN.bottom, MARGIN.top, log);
  points = found.map((p) => ({ ...p, left: x.at(p.x), top: y.at(p.y) }));
  pointed = -1;
  byId("tip").hidden = true;

  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("height", HEIGHT);
  const grid = drawn("g", { class: "grid" });
  for (const value of ticks(y.low, y.high, 6, log)) {
    grid.append(drawn("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y.at(value), y2: y.at(value) }));
    grid.append(drawn("text", { x: MARGIN.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, tickLabel(value)));
  }
  for (const value of ticks(x.low, x.high, width / 90, false).filter((v) => over === "seconds" || Number.isInteger(v))) {
    grid.append(drawn("line", { x1: x.at(value), x2: x.at(value), y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom + 5 }));
    grid.append(drawn("text", { x: x.at(value), y: HEIGHT - MARGIN.bottom + 19, "text-anchor": "middle" }, tickLabel(value)));
  }
  grid.append(drawn("text", { x: (MARGIN.left + width) / 2, y: HEIGHT - 4, "text-anchor": "middle", class: "title" }, over));
  const paths = lines.filter((line) => line.points.some((p) => p.y !== null)).flatMap((line) => curve(line, x, y, colour(line.run)));
  svg.replaceChildren(grid, ...paths, drawn("circle", { id: "dot", r: 5, hidden: "" }));
  if (!found.length) svg.append(drawn("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, `No listed and shown run has ${metric}.`));
  renderLegend();
}

// A path, broken where nothing was measured; a cross where a diverged run ends.
function curve({ run, points: line }, x, y, colour) {
  let [d, last] = ["", null];
  for (const [i, p] of line.entries()) {
    if (p.y === null) continue;
    const starts = i === 0 || line[i - 1].y === null;
    const place = `${x.at(p.x).toFixed(1)} ${y.at(p.y).toFixed(1)}`;
    d += starts ? `M${place}h0` : `L${place}`; // h0 makes a dot of a point that is alone
    last = p;
  }
  const path = drawn("path", { d, class: "curve", "data-run": run.index, "data-metric": byId("metric").value });
  path.style.stroke = colour;
  if (run.status !== "diverged") return [path];
  const [left, top] = [x.at(last.x), y.at(last.y)];
  const cross = drawn("path", { d: `M${left - 4} ${top - 4}l8 8m-8 0l8 -8`, class: "curve cross", "data-cross": run.index });
  cross.style.stroke = colour;
  return [path, cross];
}

function renderLegend() {
  const { of, entries } = colouring(byId("colour").value);
  const items = entries.map((entry) => {
    const on = entry.runs.some((run) => !state.hidden.has(run.index));
    const mark = element("span", { className: "swatch" });
    mark.style.background = of(entry.runs[0]);
    const some = entry.runs.filter((run) => run.curves[byId("metric").value]?.some((value) => value !== null)).length;
    const note = some < entry.runs.length ? (some ? `${some} of ${entry.runs.length}` : "no curve") : byId("colour").value === "run" ? "" : String(some);
    const button = element("button", { type: "button", "aria-pressed": on, title: entry.label }, mark, entry.label, element("small", { textContent: note }));
    button.addEventListener("click", () => {
      toggle(entry.runs, !on);
      [...byId("legend").querySelectorAll("button")].find((b) => b.title === entry.label)?.focus();
    });
    for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => emphasize(entry.runs));
    for (const name of ["pointerleave", "blur"]) button.addEventListener(name, () => emphasize([]));
    return element("li", {}, button);
  });
  const top = byId("legend").scrollTop;
  byId("legend").replaceChildren(...items);
  byId("legend").scrollTop = top;
}

// Brings these runs' curves forward; none: all are alike again.
function emphasize(chosen) {
  const wanted = new Set(chosen.map((run) => String(run.index)));
  byId("curves").classList.toggle("dimmed", wanted.size > 0);
  for (const path of byId("curves").querySelectorAll(".curve")) path.classList.toggle("on", wanted.has(path.dataset.run ?? path.dataset.cross));
}

function point(index) {
  const [tip, dot] = [byId("tip"), byId("curves").querySelector("#dot")];
  pointed = index;
  tip.hidden = index < 0;
  dot.toggleAttribute("hidden", index < 0);
  if (index < 0) return emphasize([]);
  const { run, x, y, left, top } = points[index];
  const [metric, over] = [byId("metric").value, byId("over").value];
  tip.replaceChildren(
    element("strong", { textContent: run.name }),
    element("span", { textContent: `${over} ${over === "seconds" ? x.toFixed(2) : x}` }),
    element("span", { textContent: `${metric} ${y}` }),
  );
  const width = byId("plot").clientWidth;
  tip.style.left = `${Math.min(left + 14, width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${top > HEIGHT / 2 ? top - tip.offsetHeight - 12 : top + 14}px`;
  dot.setAttribute("cx", left);
  dot.setAttribute("cy", top);
  emphasize([run]);
}

function nearest(event) {
  const box = byId("curves").getBoundingClientRect();
  const [left, top] = [event.clientX - box.left, event.clientY - box.top];
  let [found, least] = [-1, NEAR ** 2];
  points.forEach((p, i) => {
    const distance = (p.left - left) ** 2 + (p.top - top) ** 2;
    if (distance < least) [found, least] = [i, distance];
  });
  return found;
}

// Left and right go along a curve, up and down to the run above or below in the list.
function pointByKey(event) {
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!move || !points.length) return;
  event.preventDefault();
  const here = points[pointed];
  if (!here) return point(0);
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    return point(points[pointed + move]?.run === here.run ? pointed + move : pointed);
  }
  const order = [...new Set(points.map((p) => p.run))];
  const next = order[order.indexOf(here.run) + move];
  if (!next) return;
  const on = points.map((p, i) => [p, i]).filter(([p]) => p.run === next);
  point(on.reduce((a, b) => (Math.abs(b[0].x - here.x) < Math.abs(a[0].x - here.x) ? b : a))[1]);
}

"use strict";
// Learning curves: one SVG path per run, the nearest point under the pointer, a legend that switches curves.

const HEIGHT = 380;
const [LEFT, RIGHT, TOP, BOTTOM] = [64, 14, 10, 40]; // margins
const NEAR = 40; // pixels from the pointer within which a point is shown

let points = []; // what is on the screen: {run, x, y, left, top}
let pointed = -1; // which of them is in the tooltip

// A run's points; y is null where nothing was measured or a logarithm cannot be drawn.
function pointsOf(run, metric, over, log) {
  let x = run.curves[over === "seconds" ? "time/epoch_s" : over] ?? [];
  if (over === "seconds") {
    let sum = 0;
    x = x.map((value) => (sum += value ?? 0));
  }
  const ok = (value, i) => !missing(value) && !missing(x[i]) && (!log || value > 0);
  return (run.curves[metric] ?? []).map((value, i) => ({ run, x: x[i], y: ok(value, i) ? value : null }));
}

// Values -> pixels between two ends, with room at both.
function axis(values, from, to, log) {
  let [low, high] = values.length ? extent(values) : [1, 1];
  const room = low === high ? (log ? 2 : Math.abs(low) / 10 || 0.5) : log ? (high / low) ** 0.03 : 0.03 * (high - low);
  [low, high] = log ? [low / room, high * room] : [low - room, high + room];
  const share = log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  return { low, high, at: (v) => from + share(v) * (to - from) };
}

// Where an axis has its numbers: steps of 1, 2 or 5 times a power of ten; on a logarithmic one, powers of ten.
function ticks({ low, high }, count, log = false) {
  if (log) {
    const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const stride = Math.max(1, Math.ceil((to - from) / count));
    const powers = Array.from({ length: to - from + 1 }, (_, i) => from + i).filter((p) => p % stride === 0);
    const all = powers.flatMap((p) => (to - from <= 3 ? [1, 2, 5] : [1]).map((f) => f * 10 ** p));
    const inside = all.filter((v) => v >= low && v <= high);
    if (high / low > 4) return inside; // else the range is so short that it looks linear
  }
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((f) => f * power >= raw * 0.9999);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function tickLabel(value) {
  const size = Math.abs(value);
  const plain = size === 0 || (size >= 1e-3 && size < 1e6);
  return plain ? String(Number(value.toPrecision(6))) : value.toExponential(1).replace(".0e", "e");
}

function renderCurves(colour) {
  const [metric, over, log] = [byId("metric").value, byId("over").value, byId("log").checked];
  const width = Math.max(byId("plot").clientWidth, 280);
  const seen = state.listed.filter((run) => !state.hidden.has(run));
  const made = byId("mean").checked
    ? meanCurves(seen, metric, over, log)
    : seen.map((run) => pointsOf(run, metric, over, log));
  const lines = made.filter((line) => line.some((p) => p.y !== null));
  const found = lines.flat().filter((p) => p.y !== null);
  const calm = found.filter((p) => isGood(p.run)); // what diverged must not flatten the others
  const heights = (calm.length ? calm : found).flatMap((p) => [p.y, ...(p.sd ? [p.y - p.sd, p.y + p.sd] : [])]);
  const x = axis(found.map((p) => p.x), LEFT, width - RIGHT, false);
  const y = axis(log ? heights.filter((v) => v > 0) : heights, HEIGHT - BOTTOM, TOP, log);
  points = found.map((p) => ({ ...p, left: x.at(p.x), top: y.at(p.y) }));
  points = points.filter(({ top }) => top >= 0 && top <= HEIGHT - BOTTOM);
  const bands = lines.map((line) => band(line, x, y, colour(line[0].run)));
  const paths = lines.flatMap((line) => curve(line, x, y, colour(line[0].run)));
  const area = drawn("clipPath", { id: "area" });
  area.append(drawn("rect", { x: 0, y: 0, width, height: HEIGHT - BOTTOM }));
  const empty = found.length ? "" : `No curve of ${metric || "any metric"} is shown.`;
  byId("curves").setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  byId("curves").replaceChildren(
    grid(x, y, width, over, log),
    area,
    ...bands,
    ...paths,
    drawn("circle", { id: "dot", r: 5 }),
    drawn("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, empty),
  );
  pointed = NaN; // so that what was in the tooltip goes
  point(-1);
  renderLegend();
}

function grid(x, y, width, over, log) {
  const made = drawn("g", { class: "grid" });
  const foot = HEIGHT - BOTTOM;
  for (const value of ticks(y, 6, log)) {
    made.append(drawn("line", { x1: LEFT, x2: width - RIGHT, y1: y.at(value), y2: y.at(value) }));
    made.append(drawn("text", { x: LEFT - 8, y: y.at(value) + 4, "text-anchor": "end" }, tickLabel(value)));
  }
  for (const value of ticks(x, width / 90).filter((v) => over === "seconds" || Number.isInteger(v))) {
    made.append(drawn("line", { x1: x.at(value), x2: x.at(value), y1: foot, y2: foot + 5 }));
    made.append(drawn("text", { x: x.at(value), y: foot + 19, "text-anchor": "middle" }, tickLabel(value)));
  }
  made.append(drawn("text", { x: (LEFT + width) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, over));
  return made;
}

// The area of one standard deviation around a mean.
function band(line, x, y, colour) {
  const wide = line.filter((p) => p.y !== null && p.sd);
  const edge = (sign) => wide.map((p) => [x.at(p.x), y.at(Math.max(p.y + sign * p.sd, y.low))]);
  const d = wide.length ? `M${[...edge(1), ...edge(-1).reverse()].map((at) => at.map((v) => v.toFixed(1)).join(" ")).join("L")}Z` : "";
  const made = drawn("path", { d, class: "band", "clip-path": "url(#area)" });
  made.style.fill = colour;
  return made;
}

// A path, broken where nothing was measured; a cross where a diverged run ends.
function curve(line, x, y, colour) {
  let [d, end] = ["", ""];
  line.forEach((p, i) => {
    if (p.y === null) return;
    const [left, top] = [x.at(p.x).toFixed(1), y.at(p.y).toFixed(1)];
    d += i === 0 || line[i - 1].y === null ? `M${left} ${top}h0` : `L${left} ${top}`; // h0: a dot where one is alone
    const edge = Math.min(Math.max(top, 6), HEIGHT - BOTTOM - 6); // a point outside is marked at the edge
    end = `M${left} ${edge}m-4 -4l8 8m-8 0l8 -8`;
  });
  const { run } = line[0];
  const made = [drawn("path", { d, class: "curve", "data-run": run.index, "clip-path": "url(#area)" })];
  if (run.status === "diverged") made.push(drawn("path", { d: end, class: "curve cross", "data-run": run.index }));
  for (const path of made) path.style.stroke = colour;
  return made;
}

function renderLegend() {
  const [key, metric, scrolled] = [byId("colour").value, byId("metric").value, byId("legend").scrollTop];
  const { of, entries } = colouring(key);
  const items = entries.map((entry, i) => {
    const shown = entry.runs.some((run) => !state.hidden.has(run));
    const some = entry.runs.filter((run) => run.curves[metric]?.some((value) => value !== null)).length;
    const count = some === entry.runs.length ? some : `${some} of ${entry.runs.length}`;
    const note = element("small", { textContent: some === 0 ? "no curve" : key === "run" ? "" : count });
    const properties = { type: "button", "aria-pressed": shown, title: entry.label };
    const button = element("button", properties, swatch(of(entry.runs[0])), entry.label, note);
    button.addEventListener("click", () => {
      toggle(entry.runs, !shown);
      byId("legend").querySelectorAll("button")[i].focus();
    });
    for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => emphasize(entry.runs));
    for (const name of ["pointerleave", "blur"]) button.addEventListener(name, () => emphasize([]));
    return element("li", null, button);
  });
  byId("legend").replaceChildren(...items);
  byId("legend").scrollTop = scrolled;
}

// Brings these runs' curves forward; none: all are alike again.
function emphasize(chosen) {
  const wanted = new Set(chosen.map((run) => String(run.index)));
  byId("curves").classList.toggle("dimmed", wanted.size > 0);
  for (const path of byId("curves").querySelectorAll(".curve")) {
    path.classList.toggle("on", wanted.has(path.dataset.run));
  }
}

// Shows the point of this number in the tooltip; -1: none.
function point(index) {
  if (index === pointed) return;
  pointed = index;
  const [tip, dot] = [byId("tip"), byId("dot")];
  tip.hidden = index < 0;
  dot.classList.toggle("shown", index >= 0);
  emphasize(index < 0 ? [] : [points[index].run]);
  if (index < 0) return;
  const { run, x, y, left, top } = points[index];
  const over = byId("over").value;
  tip.replaceChildren(
    element("strong", { textContent: run.name }),
    element("span", { textContent: `${over} ${over === "seconds" ? x.toFixed(2) : x}` }),
    element("span", { textContent: `${byId("metric").value} ${y}` }),
  );
  tip.style.left = `${Math.max(0, Math.min(left + 14, byId("plot").clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${top > HEIGHT / 2 ? top - tip.offsetHeight - 12 : top + 14}px`;
  dot.setAttribute("cx", left);
  dot.setAttribute("cy", top);
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

// Left and right go along a curve, up and down to the next run's.
function pointByKey(event) {
  const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (!move || !points.length) return;
  event.preventDefault();
  const here = points[pointed];
  const along = event.key === "ArrowLeft" || event.key === "ArrowRight";
  let next = here ? pointed + move : 0;
  while (here && !along && points[next]?.run === here.run) next += move;
  if (points[next] && !(here && along && points[next].run !== here.run)) point(next);
}

"use strict";
// Wires the controls to the four parts of the page, and draws them for the first time.

function update() {
  listRuns();
  const colour = colouring(byId("colour").value).of;
  renderTable(colour);
  renderCurves(colour);
  renderHeat();
}

function toggle(which, on) {
  for (const run of which) state.hidden[on ? "delete" : "add"](run.index);
  for (const row of byId("table").querySelectorAll("tbody tr[data-run]")) row.querySelector("input").checked = !state.hidden.has(Number(row.dataset.run));
  renderCurves(colouring(byId("colour").value).of);
}

function choose(index) {
  state.chosen = index;
  renderDetails();
  byId("details").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  byId("details").focus({ preventScroll: true });
}

// A logarithmic scale to begin with where a linear one would show only the largest values.
function spansPowers(metric) {
  const values = runs.flatMap((run) => run.curves[metric] ?? []).filter((value) => value !== null);
  const [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, 0]);
  return low > 0 && high / low > 1000;
}

function setUp() {
  const of = runs.length === 1 ? "1 run" : `${runs.length} runs`;
  const counts = unique(runs.map((run) => run.status)).map((status) => `${runs.filter((run) => run.status === status).length} ${status}`);
  byId("about").textContent = `${of}: ${counts.join(", ")}${data.where ? ` · where ${data.where}` : ""} · written ${data.generated} by ${data.version}`;
  const example = columns.find((column) => column.numeric && data.differing.includes(column.key));
  byId("filter-help").textContent =
    "Words that a run must have, or comparisons with any key or value" + (example ? `, such as ${example.key}<${setting(valueOf(runs.find((run) => isNumber(valueOf(run, example.key))), example.key))}` : ", such as status=finished") + "; what is filtered out vanishes from the pictures too.";

  const metrics = unique(runs.flatMap((run) => Object.keys(run.curves))).filter((name) => name !== "epoch" && name !== "step");
  const monitor = monitored.find((name) => metrics.includes(name));
  fill(byId("metric"), metrics.map((name) => [name, name]), monitor ?? metrics[0] ?? "");
  byId("log").checked = spansPowers(byId("metric").value);
  const overs = [["epoch", "epoch"], ["step", "step"], ["seconds", "time/epoch_s"]].filter(([, column]) => runs.some((run) => column in run.curves));
  fill(byId("over"), overs.map(([name]) => [name, name]), "epoch");
  const keys = ["run", ...data.differing, "status"];
  fill(byId("colour"), keys.map((key) => [key, key]), runs.length > PALETTE.length ? keys[1] : "run");
  const thinned = runs.filter((run) => run.rows !== null).length;
  if (thinned) byId("curves-note").textContent = `Of ${thinned} runs with many epochs the curves show an even selection; metrics.csv has all.`;
  setUpHeat();
  const names = runs.map((run) => [String(run.index), run.name]);
  fill(byId("chosen"), names, "0");
  fill(byId("other"), [["", "–"], ...names], "");

  byId("filter").addEventListener("input", () => { state.filter = byId("filter").value; update(); });
  byId("colour").addEventListener("change", update);
  for (const id of ["metric", "over", "log"]) byId(id).addEventListener("change", () => toggle([], true));
  byId("all").addEventListener("click", () => toggle(runs, true));
  byId("none").addEventListener("click", () => toggle(state.listed, false));
  for (const id of ["heat-value", "heat-x", "heat-y"]) byId(id).addEventListener("change", renderHeat);
  byId("chosen").addEventListener("change", (event) => { state.chosen = Number(event.target.value); renderDetails(); });
  byId("other").addEventListener("change", (event) => { state.other = event.target.value === "" ? null : Number(event.target.value); renderDetails(); });
  const plot = byId("plot");
  plot.addEventListener("pointermove", (event) => point(nearest(event)));
  plot.addEventListener("pointerleave", () => point(-1));
  plot.addEventListener("click", (event) => { const found = nearest(event); if (found >= 0) choose(points[found].run.index); });
  plot.addEventListener("keydown", pointByKey);
  let width = plot.clientWidth;
  new ResizeObserver(() => { if (plot.clientWidth !== width) { width = plot.clientWidth; toggle([], true); } }).observe(plot);
}

setUp();
update();
renderDetails();

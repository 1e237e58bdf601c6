"use strict";
// Wires the controls to the parts of the page, and draws these for the first time.

function update() {
  listRuns();
  renderTable(colouring(byId("colour").value).of);
  redraw();
  renderHeat();
  renderMeans();
}

function redraw() {
  renderCurves(colouring(byId("colour").value).of);
}

function toggle(which, shown) {
  for (const run of which) state.hidden[shown ? "delete" : "add"](run);
  for (const line of byId("table").querySelectorAll("[data-run]")) {
    line.querySelector("input").checked = !state.hidden.has(runs[line.dataset.run]);
  }
  redraw();
}

function choose(run) {
  state.chosen = run;
  renderDetails();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("details").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  byId("details").focus({ preventScroll: true });
}

function describe() {
  const statuses = unique(runs.map((run) => run.status));
  const counts = statuses.map((status) => `${runs.filter((run) => run.status === status).length} ${status}`);
  const where = data.where ? ` · where ${data.where}` : "";
  const written = `written ${data.generated} by ${data.version}`;
  byId("about").textContent = `${counted(runs.length)}: ${counts.join(", ")}${where} · ${written}`;
  const key = columns.find((column) => column.numeric && data.differing.includes(column.key))?.key;
  const example = key ? `${key}<${setting(valuesOf(key, runs).findLast(isNumber))}` : "status=finished";
  byId("filter-help").textContent =
    `Words that a run must have, or comparisons with any key or value, such as ${example}. ` +
    "Hidden runs leave the plots, too.";
  const thinned = runs.filter((run) => run.rows !== null).length;
  if (thinned) {
    byId("curves-note").textContent = `${counted(thinned)} with many epochs: curves show an even selection of them.`;
  }
}

function fillControls() {
  const curves = unique(runs.flatMap((run) => Object.keys(run.curves)));
  const metrics = curves.filter((name) => name !== "epoch" && name !== "step");
  fill("metric", metrics, monitored.find((name) => metrics.includes(name)));
  const [low, high] = extent(runs.filter(isGood).flatMap((run) => run.curves[byId("metric").value] ?? []).filter(isNumber));
  byId("log").checked = low > 0 && high / low > 1000; // else only the largest values would be seen
  const columnOf = { epoch: "epoch", step: "step", seconds: "time/epoch_s" };
  fill("over", Object.keys(columnOf).filter((over) => runs.some((run) => columnOf[over] in run.curves)), "epoch");
  const keys = ["run", ...data.differing, "status"];
  fill("colour", keys, runs.length > PALETTE.length ? keys[1] : "run");
  const [numbers, names] = [runs.map((run) => String(run.index)), runs.map((run) => run.name)];
  fill("chosen", numbers, "0", names);
  fill("other", ["", ...numbers], "", ["-", ...names]);
}

function listen() {
  on("filter", "input", update);
  on("colour", "change", update);
  on("metric over log mean", "change", redraw);
  on("all", "click", () => toggle(runs, true));
  on("none", "click", () => toggle(state.listed, false));
  on("heat-value heat-x heat-y", "change", renderHeat);
  on("chosen other", "change", () => {
    [state.chosen, state.other] = [runs[byId("chosen").value], runs[byId("other").value || -1] ?? null];
    renderDetails();
  });
  on("plot", "pointermove", (event) => point(nearest(event)));
  on("plot", "pointerleave", () => point(-1));
  on("plot", "click", (event) => nearest(event) >= 0 && choose(runs[points[nearest(event)].run.index]));
  on("plot", "keydown", pointByKey);
  let width = byId("plot").clientWidth;
  const resized = () => {
    if (byId("plot").clientWidth === width) return;
    width = byId("plot").clientWidth;
    redraw();
  };
  new ResizeObserver(resized).observe(byId("plot"));
}

describe();
fillControls();
setUpHeat();
byId("mean-label").hidden = !isRepeated;
const best = judged.includes(main) ? bestOf(main, runs) : undefined;
state.chosen = runs.find((run) => isBest(run, main, best)) ?? runs[0];
listen();
if (data.stamp) {
  restore();
  setInterval(ask, EVERY);
}
update();
renderDetails();

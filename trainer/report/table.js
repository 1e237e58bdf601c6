"use strict";
// The table of runs: which columns it has, how it is filtered and sorted.

const OPERATORS = {
  "<": (a, b) => compare(a, b) < 0,
  "<=": (a, b) => compare(a, b) <= 0,
  ">": (a, b) => compare(a, b) > 0,
  ">=": (a, b) => compare(a, b) >= 0,
  "=": (a, b) => compare(a, b) === 0,
  "==": (a, b) => compare(a, b) === 0,
  "!=": (a, b) => compare(a, b) !== 0,
};

const unique = (names) => [...new Set(names)];
const valueNames = unique(runs.flatMap((run) => Object.keys(run.values)));
const monitored = unique(runs.map((run) => run.values["best/metric"]).filter(Boolean));
const measurements = [
  ...(monitored.length > 1 ? ["best/metric"] : []),
  ...["best/value", "best/epoch"].filter((name) => valueNames.includes(name)),
  ...valueNames.filter((name) => name.startsWith("test/")),
];
const columns = [
  { key: "run", cell: (run) => run.name },
  { key: "status", cell: (run) => run.status },
  ...data.differing.map((key) => ({ key, cell: (run) => setting(valueOf(run, key)) })),
  ...measurements.map((key) => ({ key, cell: (run) => measured(valueOf(run, key)) })),
  { key: "seconds", cell: (run) => (isNumber(run.values.seconds) ? run.values.seconds.toFixed(1) : "–") },
];
for (const column of columns) {
  const values = runs.map((run) => valueOf(run, column.key)).filter((value) => !missing(value));
  column.numeric = values.length > 0 && values.every(isNumber);
}
// Everything that may stand before an operator.
const known = new Set(["run", "status", ...valueNames, ...runs.flatMap((run) => Object.keys(run.all))]);

// A filter's words and comparisons -> {test(run), wrong: text or null}. All of them must hold.
function readFilter(text) {
  const tests = [];
  let wrong = null;
  for (const term of text.replace(/\s*(<=|>=|!=|==|=|<|>)\s*/g, "$1").split(/[\s,]+/).filter(Boolean)) {
    const found = /^([^<>=!]+)(<=|>=|!=|==|=|<|>)(.*)$/.exec(term);
    if (!found) {
      const word = term.toLowerCase();
      tests.push((run) => searched(run).includes(word));
    } else if (!known.has(found[1])) {
      wrong = `no column or key is called ${found[1]}`;
    } else if (found[3] !== "") {
      const [, key, sign, given] = found;
      tests.push((run) => holds(valueOf(run, key), sign, given));
    }
  }
  return { test: (run) => tests.every((test) => test(run)), wrong };
}

// `given` is text: a number where the value is one. What is missing is only ever unequal.
function holds(value, sign, given) {
  if (missing(value)) return sign === "!=" || ((sign === "=" || sign === "==") && given === "null" && value === null);
  if (isNumber(value)) return Number.isNaN(Number(given)) ? sign === "!=" : OPERATORS[sign](value, Number(given));
  return OPERATORS[sign](setting(value).toLowerCase(), given.toLowerCase());
}

function searched(run) {
  run.text ??= [...columns.map((column) => column.cell(run)), run.error ?? ""].join("\n").toLowerCase();
  return run.text;
}

// What is listed, in order, by the filter and the column that was clicked.
function listRuns() {
  const { test, wrong } = readFilter(state.filter);
  const listed = runs.filter(test);
  if (state.sort) {
    const { key, descending } = state.sort;
    listed.sort((a, b) => {
      const [x, y] = [valueOf(a, key), valueOf(b, key)];
      const order = compare(x, y);
      return descending && !missing(x) && !missing(y) ? -order : order;
    });
  }
  state.listed = listed;
  const count = listed.length === runs.length ? `${runs.length} runs` : `${listed.length} of ${runs.length} runs`;
  byId("count").textContent = wrong ? `${count}; ${wrong}` : count;
  byId("count").classList.toggle("wrong", wrong !== null);
}

function header() {
  const cells = columns.map(({ key, numeric }) => {
    const sorted = state.sort?.key === key ? (state.sort.descending ? "descending" : "ascending") : "none";
    const arrow = { none: "", ascending: " ▲", descending: " ▼" }[sorted];
    const button = element("button", { type: "button", textContent: key + arrow });
    if (key === "best/value" && monitored.length === 1) button.append(element("small", { textContent: monitored[0] }));
    button.addEventListener("click", () => {
      state.sort = { key, descending: sorted === "ascending" };
      update();
      byId("table").querySelector(`th:nth-child(${columns.findIndex((c) => c.key === key) + 2}) button`).focus();
    });
    return element("th", { scope: "col", className: numeric ? "number" : "", "aria-sort": sorted }, button);
  });
  const first = element("th", { scope: "col", textContent: "Curve", className: "switch" });
  return element("thead", {}, element("tr", {}, first, ...cells));
}

function renderTable(colour) {
  const best = new Map(); // column -> its best value, among runs that ended well
  for (const { key } of columns.filter((c) => c.numeric && ((c.key === "best/value" && monitored.length === 1) || c.key.startsWith("test/")))) {
    const values = state.listed.filter((run) => !BAD.has(run.status)).map((run) => valueOf(run, key)).filter(isNumber);
    if (values.length > 1) best.set(key, values.reduce((a, b) => (b < a === lowerIsBetter(key) ? b : a)));
  }
  const rows = state.listed.map((run) => {
    const shown = element("input", { type: "checkbox", checked: !state.hidden.has(run.index), "aria-label": `Curve of ${run.name}` });
    shown.addEventListener("change", () => toggle([run], shown.checked));
    const mark = element("span", { className: "swatch" });
    mark.style.background = colour(run);
    const cells = columns.map(({ key, cell, numeric }) => {
      if (key === "run") return nameCell(run);
      if (key === "status") return statusCell(run);
      const value = valueOf(run, key);
      const cellElement = element("td", { textContent: cell(run), className: numeric ? "number" : "" });
      if (isNumber(value)) cellElement.title = String(value);
      if (best.has(key) && value === best.get(key) && !BAD.has(run.status)) cellElement.classList.add("best");
      return cellElement;
    });
    const row = element("tr", {}, element("td", { className: "switch" }, shown, mark), ...cells);
    row.classList.toggle("chosen", run.index === state.chosen);
    row.addEventListener("pointerenter", () => emphasize([run]));
    row.addEventListener("pointerleave", () => emphasize([]));
    row.dataset.run = run.index;
    return row;
  });
  const none = element("tr", {}, element("td", { colspan: columns.length + 1, className: "empty", textContent: "No run matches the filter." }));
  byId("table").replaceChildren(header(), element("tbody", {}, ...(rows.length ? rows : [none])));
}

function nameCell(run) {
  const button = element("button", { type: "button", className: "link", textContent: run.name, title: run.path });
  button.addEventListener("click", () => choose(run.index));
  return element("th", { scope: "row" }, button);
}

function statusCell(run) {
  const cell = element("td", {}, element("span", { className: `status ${run.status}`, textContent: run.status }));
  if (run.error) cell.append(element("span", { className: "reason", textContent: run.error, title: run.error }));
  return cell;
}

"use strict";
// The table of runs: which columns it has, how it is filtered and sorted.

const valueNames = unique(runs.flatMap((run) => Object.keys(run.values)));
const monitored = unique(runs.map((run) => run.values["best/metric"]).filter(Boolean));
const main = data.metric ?? "best/value"; // what a sweep judges by, else the best of the monitored metric
const measurements = [
  ...(data.metric && !data.metric.startsWith("test/") && valueNames.includes(data.metric) ? [data.metric] : []),
  ...(monitored.length > 1 ? ["best/metric"] : []),
  ...["best/value", "best/epoch"].filter((name) => valueNames.includes(name)),
  ...valueNames.filter((name) => name.startsWith("test/")),
];
const judged = measurements.filter(
  (key) => key === main ? key !== "best/value" || !monitored[1] : key.startsWith("test/") || (key === "best/value" && !monitored[1]),
);
const columns = [
  { key: "name", text: (run) => run.name },
  { key: "status", text: statusText },
  ...data.differing.map((key) => ({ key, text: (run) => setting(valueOf(run, key)) })),
  ...measurements.map((key) => ({ key, text: (run) => measured(valueOf(run, key), key) })),
  { key: "seconds", text: (run) => run.values.seconds?.toFixed(1) ?? "-" },
];
for (const column of columns) {
  const values = runs.map((run) => valueOf(run, column.key)).filter((value) => !missing(value));
  column.numeric = values.length > 0 && values.every(isNumber);
}
// The names before an operator.
const known = new Set(["name", "status", ...valueNames, ...runs.flatMap((run) => Object.keys(run.all))]);

// The full name of a typed name: a name, "best", or the end of only one name (lr for optim.lr).
function meant(name) {
  if (known.has(name)) return name;
  if (name === "best") return "best/value";
  const keys = [...known].filter((key) => key.endsWith(`.${name}`));
  const ends = keys.length ? keys : [...known].filter((key) => key.endsWith(`/${name}`));
  return ends.length === 1 ? ends[0] : null;
}

// A column's name in words where it is not clear by itself.
const titleOf = (key) => (key === "best/value" && monitored.length === 1 ? `best ${monitored[0]}` : key);

function statusText(run) {
  const { status, all, values } = run;
  return status === "running" ? `running ${values.epochs ?? 0}/${all["train.epochs"] ?? "?"}` : status;
}

function statusMark(run) {
  return element("span", { className: `status ${run.status}`, textContent: statusText(run) });
}

// A filter's words and comparisons, all of which must hold -> {test(run), wrong: the part that is not understood, or null}.
function readFilter(text) {
  const [tests, joined] = [[], text.replace(/\s*(<=|>=|!=|==|=|<|>)\s*/g, "$1")];
  let wrong = null;
  for (const term of joined.split(/[\s,]+/).filter(Boolean)) {
    const [, name, sign, given] = /^([^<>=!]+)(<=|>=|!=|==|=|<|>)(.*)$/.exec(term) ?? [];
    const key = name && meant(name);
    if (/[<>=!]/.test(name ? given : term)) wrong = `${term} is not understood: one comparison is NAME<VALUE`;
    else if (key && given && sign !== "!=" && notANumber(key, given)) wrong = `${term}: ${key} is a number`;
    else if (!name) tests.push((run) => searched(run).includes(term.toLowerCase()));
    else if (!key) wrong = `no key or value is called ${name}`;
    else if (given) tests.push((run) => holds(valueOf(run, key), sign, given)); // else it is still being typed
  }
  return { test: (run) => tests.every((test) => test(run)), wrong };
}

// Whether a key has only numbers, and the text is none; null asks for missing values.
function notANumber(key, given) {
  const values = runs.map((run) => valueOf(run, key)).filter((value) => !missing(value));
  return given !== "null" && values.length > 0 && values.every(isNumber) && Number.isNaN(Number(given));
}

// `given` is text: a number where the value is one. A missing value only equals null.
function holds(value, sign, given) {
  const [has, wanted] = isNumber(value)
    ? [value, Number(given)]
    : [setting(value).toLowerCase(), given.toLowerCase()];
  const order = missing(value) || Number.isNaN(wanted) ? NaN : compare(has, wanted);
  const equal = order === 0 || (value === null && wanted === "null");
  if (sign === "!=") return !equal;
  return (sign.includes("=") && equal) || (sign[0] === "<" && order < 0) || (sign[0] === ">" && order > 0);
}

function searched(run) {
  run.searched ??= [...columns.map((column) => column.text(run)), run.error ?? ""].join("\n").toLowerCase();
  return run.searched;
}

// What is listed, in order, by the filter and the column that was clicked.
function listRuns() {
  const { test, wrong } = readFilter(byId("filter").value);
  state.listed = runs.filter(test);
  if (state.sort) {
    const { key, descending } = state.sort;
    state.listed.sort((a, b) => {
      const [x, y] = [valueOf(a, key), valueOf(b, key)];
      return descending && !missing(x) && !missing(y) ? compare(y, x) : compare(x, y);
    });
  }
  const all = state.listed.length === runs.length;
  const count = all ? counted(runs.length) : `${state.listed.length} of ${counted(runs.length)}`;
  byId("count").textContent = wrong ? `${count}; ${wrong}` : count;
  byId("count").classList.toggle("wrong", wrong !== null);
}

const counted = (count) => (count === 1 ? "1 run" : `${count} runs`);

// The best of a column among runs that ended well; undefined without values.
function bestOf(key, among) {
  const good = among.filter((run) => !BAD.has(run.status) && isNumber(valueOf(run, key)));
  return good.length < 2 ? undefined : extent(good.map((run) => valueOf(run, key)))[lowerIsBetter(key) ? 0 : 1];
}

const isBest = (run, key, best) => best !== undefined && valueOf(run, key) === best && !BAD.has(run.status);

function renderTable(colour) {
  const best = new Map(judged.map((key) => [key, bestOf(key, state.listed)]));
  const winner = best.has(main) ? state.listed.find((run) => isBest(run, main, best.get(main))) : undefined;
  const body = element("tbody", null, ...state.listed.map((run) => runRow(run, colour(run), best, run === winner)));
  if (!state.listed.length) {
    const none = "No run matches the filter.";
    body.append(row(element("td", { colSpan: columns.length + 1, className: "empty", textContent: none })));
  }
  byId("table").replaceChildren(element("thead", null, row(heading("Curve"), ...columns.map(columnHeading))), body);
}

function columnHeading({ key, numeric }, index) {
  const sorted = state.sort?.key === key ? (state.sort.descending ? "descending" : "ascending") : "none";
  const arrow = { none: "", ascending: " ▲", descending: " ▼" }[sorted];
  const button = element("button", { type: "button" }, key + arrow);
  if (key === "best/value" && monitored.length === 1) button.append(element("small", { textContent: monitored[0] }));
  if (key === data.metric) button.append(element("small", { textContent: "the sweep's metric" }));
  button.addEventListener("click", () => {
    state.sort = { key, descending: sorted === "ascending" };
    update();
    byId("table").querySelectorAll("thead button")[index].focus();
  });
  return element("th", { scope: "col", className: numeric ? "number" : "", "aria-sort": sorted }, button);
}

function runRow(run, colour, best, isWinner) {
  const label = `Curve of ${run.name}`;
  const shown = element("input", { type: "checkbox", checked: !state.hidden.has(run), "aria-label": label });
  shown.addEventListener("change", () => toggle([run], shown.checked));
  const name = element("button", { type: "button", className: "link", textContent: run.name, title: run.name });
  name.addEventListener("click", () => choose(run));
  if (isWinner) name.title += `, the best by ${titleOf(main)}`;
  const status = element("td", null, statusMark(run));
  if (run.error) status.append(element("span", { className: "reason", textContent: run.error, title: run.error }));
  const rest = columns.slice(2).map(({ key, text, numeric }) => {
    const made = cell(text(run), numeric ? "number" : "");
    if (isNumber(valueOf(run, key))) made.title = valueOf(run, key);
    made.classList.toggle("best", isBest(run, key, best.get(key)));
    return made;
  });
  const made = row(element("td", null, shown, swatch(colour)), element("th", { scope: "row" }, name), status, ...rest);
  made.dataset.run = run.index;
  made.classList.toggle("chosen", run === state.chosen);
  made.classList.toggle("winner", isWinner);
  made.addEventListener("pointerenter", () => emphasize([run]));
  made.addEventListener("pointerleave", () => emphasize([]));
  return made;
}

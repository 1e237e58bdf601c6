"use strict";
// The data, the choices on the page, and helpers. Text from runs only becomes text nodes.

const data = JSON.parse(document.getElementById("payload").textContent);
const named = (...objects) => Object.assign(Object.create(null), ...objects); // no run's key meets a built-in one
const runs = data.runs.map((run, index) => {
  const all = run.config ? named(data.config, run.config) : named(); // the whole configuration
  return { ...run, index, all, values: named(run.values), curves: named(run.curves) };
});
const state = {
  sort: null, // {key, descending}
  hidden: new Set(), // runs whose curve is switched off
  listed: runs, // those that the filter lets through, in the table's order
  chosen: runs[0],
  other: null,
};
const BAD = new Set(["diverged", "failed", "damaged"]);

const byId = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const isNumber = (value) => typeof value === "number";
const missing = (value) => value === undefined || value === null;
const extent = (values) => values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
const lowerIsBetter = (key) => data.lower.includes(key);

function element(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const row = (...cells) => element("tr", null, ...cells);
const cell = (textContent, className = "") => element("td", { textContent, className });
const heading = (textContent, scope = "col") => element("th", { textContent, scope });

function swatch(colour) {
  const made = element("span", { className: "swatch" });
  made.style.background = colour;
  return made;
}

function fill(id, names, value, labels = names) {
  byId(id).replaceChildren(...names.map((name, i) => element("option", { value: name, textContent: labels[i] })));
  byId(id).value = value ?? names[0] ?? "";
}

function on(ids, event, react) {
  for (const id of ids.split(" ")) byId(id).addEventListener(event, react);
}

// A run's value by the name that the filter, the table and the heat map use; undefined if missing.
function valueOf(run, key) {
  if (key === "name") return run.name;
  if (key === "status") return run.status;
  return key in run.values ? run.values[key] : run.all[key];
}

// Names of values that are not counts: their 1 is a 1.0000.
const fractional = new Set(runs.flatMap((run) => Object.keys(run.values).filter((key) => run.values[key] % 1)));

// A measurement: four digits after the point if useful.
function measured(value, key) {
  if (!isNumber(value)) return missing(value) ? "-" : String(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15 && !(fractional.has(key) && size < 10)) return String(value);
  if ((size < 1e-3 && size > 0) || size >= 1e6) return value.toExponential(3);
  return size < 10 ? value.toFixed(4) : value.toPrecision(5);
}

// A setting as given.
function setting(value) {
  if (value === undefined) return "-";
  return typeof value === "string" ? value : JSON.stringify(value);
}

// Numbers by size, texts in natural order (2 before 10), missing ones last.
function compare(a, b) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (isNumber(a) && isNumber(b)) return a - b;
  if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
  return setting(a).localeCompare(setting(b), "en", { numeric: true });
}

// The values of a key, each once, in order.
function valuesOf(key, among) {
  const values = among.map((run) => valueOf(run, key)).filter((value) => value !== undefined);
  return [...new Map(values.map((value) => [setting(value), value])).values()].sort(compare);
}

// Five colours of Viridis for areas; for lines, colours that show on white and on black.
const AREAS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const LINES = [[52, 108, 224], [122, 92, 214], [194, 74, 160], [232, 88, 92], [226, 140, 30]];
const PALETTE = [
  ...["#3b7dd8", "#e8743b", "#2a9d6f", "#d64570", "#8a63d2"],
  ...["#b58a1b", "#1f9fb5", "#8c6d5a", "#d36ec0", "#7c8a99"],
];

function ramp(colours, share) {
  const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const low = Math.min(Math.floor(at), colours.length - 2);
  return colours[low].map((c, i) => Math.round(c + (colours[low + 1][i] - c) * (at - low)));
}

// The colour of each run by its number or by a key, and the legend's entries [{label, runs}].
function colouring(key) {
  if (key === "run") {
    const few = runs.length <= PALETTE.length;
    const of = (run) => (few ? PALETTE[run.index] : `hsl(${(run.index * 137.508) % 360} 62% 52%)`); // the golden angle
    return { of, entries: state.listed.map((run) => ({ label: run.name, runs: [run] })) };
  }
  const values = valuesOf(key, runs);
  const ordered = values.length > 1 && values.every(isNumber); // by rank: values may be powers of each other
  const colours = values.map((_, i) =>
    ordered ? `rgb(${ramp(LINES, i / (values.length - 1))})` : PALETTE[i % PALETTE.length],
  );
  const byText = new Map(values.map((value, i) => [setting(value), colours[i]]));
  const entries = [...byText.keys(), setting(undefined)].map((text) => ({
    label: text === setting(undefined) ? `without ${key}` : `${key} = ${text}`,
    runs: state.listed.filter((run) => setting(valueOf(run, key)) === text),
  }));
  const of = (run) => byText.get(setting(valueOf(run, key))) ?? "#888888";
  return { of, entries: entries.filter((entry) => entry.runs.length) };
}

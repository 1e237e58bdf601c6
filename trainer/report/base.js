"use strict";
// The data, what the person has chosen, and small helpers. Text from runs becomes text nodes and nothing else.

const data = JSON.parse(document.getElementById("payload").textContent);
const runs = data.runs.map((run, index) => ({ ...run, index, all: run.config ? { ...data.config, ...run.config } : {} }));
const state = {
  filter: "",
  sort: null, // {key, descending}
  hidden: new Set(), // indices of runs whose curve is switched off
  listed: runs, // those that the filter lets through, in the table's order
  chosen: 0,
  other: null,
};
const BAD = new Set(["diverged", "failed", "damaged"]);

const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role" || key === "scope" || key === "colspan") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function fill(select, entries, value) {
  select.replaceChildren(...entries.map(([key, label]) => element("option", { value: key, textContent: label })));
  select.value = value;
}

// A run's value by the name that the filter, the table and the heat map use; undefined where it has none.
function valueOf(run, key) {
  if (key === "run") return run.name;
  if (key === "status") return run.status;
  return key in run.values ? run.values[key] : run.all[key];
}

const isNumber = (value) => typeof value === "number";
const missing = (value) => value === undefined || value === null;

// A measurement: four digits after the point where that says something.
function measured(value) {
  if (!isNumber(value)) return missing(value) ? "–" : String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? String(value) : value.toExponential(3);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(3);
  return size < 10 ? value.toFixed(4) : value.toPrecision(5);
}

// A setting: as it was given.
function setting(value) {
  if (value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

// Numbers by size, texts as people count them (2 before 10), what is missing last.
function compare(a, b) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (isNumber(a) && isNumber(b)) return a - b;
  if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
  return setting(a).localeCompare(setting(b), "en", { numeric: true });
}

const distinct = (values) =>
  [...new Map(values.filter((v) => v !== undefined).map((v) => [setting(v), v])).values()].sort(compare);

const lowerIsBetter = (key) => data.lower.includes(key);

// Viridis, from five of its colours.
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((c, i) => Math.round(c + (RAMP[low + 1][i] - c) * (at - low)));
}

const css = (rgb) => `rgb(${rgb.join(",")})`;

const PALETTE = ["#3b7dd8", "#e8743b", "#2a9d6f", "#d64570", "#8a63d2", "#b58a1b", "#1f9fb5", "#8c6d5a", "#d36ec0", "#7c8a99"];

// The share of the way from the lowest to the highest; over more than two powers of ten, in powers.
function scale(values) {
  const numbers = values.filter(isNumber);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  if (!(high > low)) return () => 0.5;
  if (low > 0 && high / low > 100) return (v) => Math.log(v / low) / Math.log(high / low);
  return (v) => (v - low) / (high - low);
}

// run -> its colour, and the legend's entries [{label, colour, runs}], for "run" or a key of the configuration.
function colouring(key) {
  if (key === "run") {
    const hue = (i) => (runs.length <= PALETTE.length ? PALETTE[i] : `hsl(${(i * 137.508) % 360} 62% 52%)`);
    return { of: (run) => hue(run.index), entries: state.listed.map((run) => ({ label: run.name, runs: [run] })) };
  }
  const values = distinct(runs.map((run) => valueOf(run, key)));
  const ordered = values.length > 1 && values.every(isNumber);
  const share = ordered ? scale(values) : null;
  const place = new Map(values.map((value, i) => [setting(value), i]));
  const of = (run) => {
    const value = valueOf(run, key);
    if (value === undefined) return "#888888";
    if (ordered) return css(ramp(0.88 * share(value)));
    return PALETTE[place.get(setting(value)) % PALETTE.length];
  };
  const groups = distinct(state.listed.map((run) => valueOf(run, key))).map((value) => ({
    label: `${key} = ${setting(value)}`,
    runs: state.listed.filter((run) => setting(valueOf(run, key)) === setting(value)),
  }));
  const without = state.listed.filter((run) => valueOf(run, key) === undefined);
  return { of, entries: without.length ? [...groups, { label: `without ${key}`, runs: without }] : groups };
}

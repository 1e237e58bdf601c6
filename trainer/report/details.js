"use strict";
// One run: its configuration and log as on disk, and its differences from another run.

// Each run's configuration and log, [[configuration, log], …], once they are unpacked.
const packed = Uint8Array.from(atob(byId("texts").textContent), (letter) => letter.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
const texts = new Response(unpacked).json();

async function renderTexts(run) {
  const [config, log] = (await texts)[run.index];
  if (run !== state.chosen) return; // another one meanwhile
  byId("config").textContent = config ?? "The configuration is missing.";
  byId("run-log").textContent = log ?? "train.log is missing.";
}

function renderDetails() {
  const [run, other] = [state.chosen, state.other];
  byId("chosen").value = run.index;
  byId("other").value = other ? other.index : "";
  for (const line of byId("table").querySelectorAll("[data-run]")) {
    line.classList.toggle("chosen", line.dataset.run === String(run.index));
  }
  const { "best/metric": metric, "best/value": value, "best/epoch": epoch } = run.values;
  byId("run-about").replaceChildren(
    statusMark(run),
    metric ? `best ${metric} ${measured(value, "best/value")} in epoch ${epoch}` : "",
    element("code", { textContent: run.path }),
    ...(run.error ? [element("span", { className: "reason", textContent: run.error })] : []),
  );
  renderTexts(run);
  byId("difference").replaceChildren(...(other ? [settingsTable(run, other), valuesTable(run, other)] : []));
}

// The keys in which two configurations differ. A _target_ that a choice determines is left out.
function differingKeys(a, b) {
  const all = named(a.all, b.all);
  const told = (key) => key.endsWith("._target_") && key.slice(0, -"._target_".length) in all;
  return Object.keys(all).filter((key) => setting(a.all[key]) !== setting(b.all[key]) && !told(key)).sort();
}

function table(id, headings, rows) {
  const head = element("thead", null, row(...headings.map((text) => heading(text))));
  const made = element("table", { id }, head, element("tbody", null, ...rows));
  return element("div", { className: "scroll", tabIndex: 0 }, made);
}

function settingsTable(a, b) {
  const keys = differingKeys(a, b);
  if (!keys.length) return element("p", { className: "hint", textContent: "The two configurations are equal." });
  const rows = keys.map((key) => row(heading(key, "row"), cell(setting(a.all[key])), cell(setting(b.all[key]))));
  return table("keys", ["differing key", a.name, b.name], rows);
}

function valuesTable(a, b) {
  const there = (name) => name in a.values || name in b.values;
  const names = unique([...judged, ...valueNames]).filter(there); // what is compared first, then the rest
  const rows = names.map((name) => {
    const [x, y] = [a.values[name], b.values[name]];
    const both = isNumber(x) && isNumber(y);
    const better = both && x !== y && (judged.includes(name) || /^final\/(train|val)\//.test(name));
    const first = x < y === lowerIsBetter(name); // is the better one, if one is
    const difference = both ? `${y > x ? "+" : ""}${measured(y - x, name)}` : "";
    const cells = [...[x, y].map((v) => cell(measured(v, name), "number")), cell(difference, "number")];
    if (better) cells[first ? 0 : 1].classList.add("best");
    return row(heading(name, "row"), ...cells);
  });
  return table("values", ["value", a.name, b.name, "difference"], rows);
}

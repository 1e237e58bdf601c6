"use strict";
// One run: its configuration and log as they lie on the disk, and what it differs in from another.

function renderDetails() {
  const run = runs[state.chosen];
  const other = state.other === null ? null : runs[state.other];
  byId("chosen").value = String(state.chosen);
  byId("other").value = state.other === null ? "" : String(state.other);
  for (const row of byId("table").querySelectorAll("tbody tr")) row.classList.toggle("chosen", Number(row.dataset.run) === state.chosen);

  const status = element("span", { className: `status ${run.status}`, textContent: run.status });
  const { "best/metric": metric, "best/value": value, "best/epoch": epoch } = run.values;
  const best = metric ? `best ${metric} ${measured(value)} in epoch ${epoch}` : "";
  byId("run-about").replaceChildren(status, best, element("code", { textContent: run.path }));
  if (run.error) byId("run-about").append(element("span", { className: "reason", textContent: run.error }));
  byId("config").textContent = run.yaml ?? "There is no configuration.";
  byId("run-log").textContent = run.log ?? "There is no train.log.";
  byId("difference").replaceChildren(...(other ? differences(run, other) : []));
}

// The keys in which two configurations differ. What a choice instantiates (_target_) goes without saying.
function differingKeys(a, b) {
  const keys = unique([...Object.keys(a.all), ...Object.keys(b.all)]);
  const chosenByGroup = (key) => key.endsWith("._target_") && key.slice(0, -"._target_".length) in { ...a.all, ...b.all };
  return keys.filter((key) => JSON.stringify(a.all[key]) !== JSON.stringify(b.all[key]) && !chosenByGroup(key)).sort();
}

const compared = (name) => name === "best/value" || /^(test|final\/(train|val))\//.test(name);

function differences(a, b) {
  const keys = differingKeys(a, b);
  const names = unique([...Object.keys(a.values), ...Object.keys(b.values)]);
  const title = (run) => element("th", { scope: "col", textContent: run.name });
  const head = (text, ...more) => element("thead", {}, element("tr", {}, element("th", { scope: "col", textContent: text }), title(a), title(b), ...more));
  const settings = keys.map((key) =>
    element("tr", { className: "key" }, element("th", { scope: "row", textContent: key }), ...[a, b].map((run) => element("td", { textContent: setting(run.all[key]) }))),
  );
  const metrics = names.map((name) => {
    const [x, y] = [a.values[name], b.values[name]];
    const better = !isNumber(x) || !isNumber(y) || x === y || !compared(name) ? null : x < y === lowerIsBetter(name) ? a : b;
    const cell = (run) => element("td", { className: run === better ? "number best" : "number", textContent: measured(run.values[name]) });
    const difference = element("td", { className: "number", textContent: isNumber(x) && isNumber(y) ? (y > x ? "+" : "") + measured(y - x) : "" });
    return element("tr", {}, element("th", { scope: "row", textContent: name }), cell(a), cell(b), difference);
  });
  const same = element("p", { className: "hint", textContent: "The two configurations say the same." });
  const wrapped = (...children) => element("div", { className: "scroll", tabIndex: 0 }, ...children);
  return [
    keys.length ? wrapped(element("table", { id: "keys" }, head("differing key"), element("tbody", {}, ...settings))) : same,
    wrapped(element("table", { id: "metrics" }, head("measured", element("th", { scope: "col", textContent: "difference" })), element("tbody", {}, ...metrics))),
  ];
}

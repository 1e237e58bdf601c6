"use strict";
// The heat map: a value over two keys in which the runs differ. A row or column for each of their values, so that
// numbers which are multiples of each other stand equally far apart.

const MOST = 60; // values of a key beyond which it makes no axis

const heatKeys = data.differing.filter((key) => {
  const count = distinct(runs.map((run) => valueOf(run, key))).length;
  return count >= 2 && count <= MOST;
});

function setUpHeat() {
  if (heatKeys.length < 2) return;
  byId("heat-section").hidden = false;
  const numbers = heatKeys.filter((key) => runs.every((run) => [undefined, null].includes(valueOf(run, key)) || isNumber(valueOf(run, key))));
  const preferred = unique([...numbers.filter((key) => key !== "seed"), ...heatKeys.filter((key) => key !== "seed"), ...heatKeys]);
  const entries = heatKeys.map((key) => [key, key]);
  fill(byId("heat-y"), entries, preferred[0]);
  fill(byId("heat-x"), entries, preferred[1]);
  const values = valueNames.filter((name) => runs.some((run) => isNumber(run.values[name])));
  fill(byId("heat-value"), values.map((key) => [key, key]), values.includes("best/value") ? "best/value" : values[0]);
}

// What one cell says of its runs: the mean of those that ended well, and how the others ended.
function summed(cellRuns, key) {
  const good = cellRuns.filter((run) => !BAD.has(run.status) && isNumber(valueOf(run, key)));
  const others = new Map();
  for (const run of cellRuns.filter((run) => !good.includes(run))) {
    const word = BAD.has(run.status) || run.status !== "finished" ? run.status : `no ${key}`;
    others.set(word, (others.get(word) ?? 0) + 1);
  }
  const mean = good.length ? good.reduce((sum, run) => sum + valueOf(run, key), 0) / good.length : null;
  return { mean, good, others };
}

function renderHeat() {
  if (heatKeys.length < 2) return;
  const [key, yKey, xKey] = ["heat-value", "heat-y", "heat-x"].map((id) => byId(id).value);
  const placed = state.listed.filter((run) => valueOf(run, yKey) !== undefined && valueOf(run, xKey) !== undefined);
  const [ys, xs] = [yKey, xKey].map((k) => distinct(placed.map((run) => valueOf(run, k))));
  const cells = new Map(); // both values' texts -> runs
  const name = (y, x) => JSON.stringify([setting(y), setting(x)]);
  for (const run of placed) {
    const at = name(valueOf(run, yKey), valueOf(run, xKey));
    cells.set(at, [...(cells.get(at) ?? []), run]);
  }
  const sums = new Map([...cells].map(([at, cellRuns]) => [at, { runs: cellRuns, ...summed(cellRuns, key) }]));
  const means = [...sums.values()].map((s) => s.mean).filter(isNumber);
  const share = scale(means);
  const lower = lowerIsBetter(key);
  const goodness = (mean) => (lower ? 1 - share(mean) : share(mean)); // bright is better
  const best = lower ? Math.min(...means) : Math.max(...means);

  const corner = element("th", { className: "corner", textContent: `${yKey} ↓   ${xKey} →` });
  const head = element("thead", {}, element("tr", {}, corner, ...xs.map((x) => element("th", { scope: "col", textContent: setting(x) }))));
  const body = ys.map((y) => {
    const row = xs.map((x) => heatCell(sums.get(name(y, x)), goodness, means.length > 1 ? best : null));
    return element("tr", {}, element("th", { scope: "row", textContent: setting(y) }), ...row);
  });
  byId("heat").replaceChildren(head, element("tbody", {}, ...body));
  heatNote(key, lower, means, state.listed.length - placed.length, [...sums.values()].some((s) => s.good.length > 1));
}

function heatCell(sum, goodness, best) {
  if (!sum) return element("td", { className: "nothing", "aria-label": "no run" });
  const cell = element("td");
  const button = element("button", { type: "button", title: sum.runs.map((run) => run.name).join("\n") });
  button.addEventListener("click", () => choose((sum.good[0] ?? sum.runs[0]).index));
  const others = [...sum.others].map(([word, count]) => (sum.runs.length > 1 ? `${count} ${word}` : word)).join(", ");
  if (sum.mean !== null) {
    const rgb = ramp(goodness(sum.mean));
    cell.style.background = css(rgb);
    cell.style.color = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 120 ? "#111" : "#fff";
    cell.classList.toggle("best", sum.mean === best);
    button.append(element("span", { textContent: measured(sum.mean) }));
  } else cell.classList.add("bad");
  if (others) button.append(element("small", { textContent: others }));
  cell.append(button);
  return cell;
}

function heatNote(key, lower, means, without, several) {
  const parts = [];
  if (key === "best/value") key = `best ${monitored.join(" or ")}`;
  if (means.length) {
    const [low, high] = [Math.min(...means), Math.max(...means)].map(measured);
    parts.push(`Bright is better: ${key} from ${lower ? high : low} (dark) to ${lower ? low : high} (bright).`);
  }
  if (several) parts.push("Cells with several runs show their mean over those that did not fail or diverge.");
  if (without) parts.push(`${without} listed runs have no value of these keys.`);
  byId("heat-note").textContent = parts.join(" ");
}

"use strict";
// The heat map: a value over two keys in which the runs differ. Each value has a row or a column of the same size, so
// that powers of ten are equally far apart.

const MOST = 60; // values of a key beyond which it makes no axis
const heatKeys = data.differing.filter((key) => {
  const values = valuesOf(key, runs);
  return key !== "seed" && values.length > 1 && values.length <= MOST && values.every((v) => v === null || isNumber(v));
});

function setUpHeat() {
  byId("heat-section").hidden = heatKeys.length < 2;
  const [y, x] = heatKeys;
  fill("heat-y", heatKeys, y);
  fill("heat-x", heatKeys, x);
  fill("heat-value", valueNames.filter((name) => runs.some((run) => isNumber(run.values[name]))), main);
}

// The text of a cell: the mean of its finished runs, and the status of the others.
function summed(cellRuns, key) {
  const good = cellRuns.filter((run) => !BAD.has(run.status) && isNumber(valueOf(run, key)));
  const rest = cellRuns.filter((run) => !good.includes(run));
  const others = rest.map((run) => (run.status === "finished" ? `no ${key}` : run.status));
  const counts = unique(others).map((word) => `${others.filter((other) => other === word).length} ${word}`);
  return {
    runs: cellRuns,
    good,
    mean: good.length ? good.reduce((sum, run) => sum + valueOf(run, key), 0) / good.length : null,
    others: cellRuns.length === 1 ? (others[0] ?? "") : counts.join(", "),
  };
}

function renderHeat() {
  const [key, yKey, xKey] = ["heat-value", "heat-y", "heat-x"].map((id) => byId(id).value);
  const placed = state.listed.filter((run) => valueOf(run, yKey) !== undefined && valueOf(run, xKey) !== undefined);
  const [ys, xs] = [yKey, xKey].map((k) => valuesOf(k, placed));
  const place = (y, x) => JSON.stringify([setting(y), setting(x)]);
  const cells = Object.groupBy(placed, (run) => place(valueOf(run, yKey), valueOf(run, xKey)));
  const sums = ys.map((y) => xs.map((x) => summed(cells[place(y, x)] ?? [], key)));
  const means = sums.flat().map((sum) => sum.mean).filter(isNumber);
  const [low, high] = extent(means);
  const lower = lowerIsBetter(key);
  const size = low > 0 && high / low > 10 ? Math.log : (v) => v; // over more than a power of ten, colours go by powers
  const goodness = (v) => (high > low ? Math.abs(size(v) - size(lower ? high : low)) / (size(high) - size(low)) : 0.5);
  const best = means.length > 1 ? (lower ? low : high) : null;
  const body = sums.map((line, i) => {
    return row(heading(setting(ys[i]), "row"), ...line.map((sum) => heatCell(sum, key, goodness, best)));
  });
  const corner = element("td", { className: "corner", textContent: `${yKey} ↓   ${xKey} →` });
  const head = row(corner, ...xs.map((x) => heading(setting(x))));
  byId("heat").replaceChildren(element("thead", null, head), element("tbody", null, ...body));

  const name = key === "best/value" ? `best ${monitored.join(" or ")}` : key;
  const [worst, top] = (lower ? [high, low] : [low, high]).map((v) => measured(v, key));
  const several = sums.flat().some((sum) => sum.good.length > 1);
  const without = state.listed.length - placed.length;
  byId("heat-note").textContent = [
    means.length ? `Bright is better: ${name} from ${worst} (dark) to ${top} (bright).` : "",
    several ? "A cell with several runs shows the mean of those that did not fail or diverge." : "",
    without ? `${counted(without)} without a value of these keys: not shown.` : "",
  ].join(" ");
}

function heatCell(sum, key, goodness, best) {
  if (!sum.runs.length) return cell("");
  const made = cell("", sum.mean === null ? "bad" : sum.mean === best ? "best" : "");
  const button = element("button", { type: "button", title: sum.runs.map((run) => run.name).join("\n") });
  button.addEventListener("click", () => choose(sum.good[0] ?? sum.runs[0]));
  if (sum.mean !== null) {
    const [r, g, b] = ramp(AREAS, goodness(sum.mean));
    made.style.background = `rgb(${r} ${g} ${b})`;
    made.style.color = 0.299 * r + 0.587 * g + 0.114 * b > 120 ? "#111" : "#fff";
    button.append(element("span", { textContent: measured(sum.mean, key) }));
  }
  if (sum.others) button.append(element("small", { textContent: sum.others }));
  made.append(button);
  return made;
}

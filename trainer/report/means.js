"use strict";
// Runs that differ only in their seed: a table of their means, and the mean of their curves.

const SEED = "seed";
const settingKeys = data.differing.filter((key) => key !== SEED);
const isGood = (run) => !BAD.has(run.status);
const deviation = (values, mean) => Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1));

// Number, mean and sample standard deviation of numbers; null if missing.
function spread(values) {
  const n = values.length;
  const mean = n ? values.reduce((sum, v) => sum + v, 0) / n : null;
  return { n, mean, sd: n > 1 ? deviation(values, mean) : null };
}

// The runs with equal settings, [{label, runs}].
function repeated(among) {
  const groups = Object.groupBy(among, (run) => JSON.stringify(settingKeys.map((key) => setting(valueOf(run, key)))));
  const label = (run) => settingKeys.map((key) => `${key}=${setting(valueOf(run, key))}`).join(", ") || "all runs";
  return Object.values(groups).map((equal) => ({ label: label(equal[0]), runs: equal }));
}

const isRepeated = data.differing.includes(SEED) && repeated(runs).some((group) => group.runs.length > 1);

function renderMeans() {
  byId("means-section").hidden = !isRepeated;
  if (!isRepeated) return;
  const groups = repeated(state.listed);
  const among = (group, key) => group.runs.filter(isGood).map((run) => valueOf(run, key)).filter(isNumber);
  const found = groups.map((group) => judged.map((key) => spread(among(group, key))));
  const best = judged.map((key, i) => {
    const means = found.map((line) => line[i].mean).filter(isNumber);
    return means.length > 1 ? extent(means)[lowerIsBetter(key) ? 0 : 1] : undefined;
  });
  const lines = groups.map((group, g) => {
    const settings = settingKeys.map((key) => cell(setting(valueOf(group.runs[0], key))));
    const values = found[g].map(({ n, mean, sd }, i) => {
      const fewer = n && n < group.runs.filter(isGood).length ? ` (n = ${n})` : "";
      const text = measured(mean, judged[i]) + (sd === null ? "" : ` ± ${beside(mean, sd, judged[i])}`) + fewer;
      return cell(text, mean !== null && mean === best[i] ? "number best" : "number");
    });
    const bad = group.runs.length - group.runs.filter(isGood).length;
    return row(...settings, cell(`${group.runs.length - bad}${bad ? ` (${bad} ✕)` : ""}`, "number"), ...values);
  });
  const heads = [...settingKeys, "n", ...judged].map((key) => heading(titleOf(key)));
  byId("means").replaceChildren(element("thead", null, row(...heads)), element("tbody", null, ...lines));
}

// A deviation with as many decimals as its mean, unless nothing would be left of it.
function beside(mean, sd, key) {
  const places = /^-?\d+\.(\d+)$/.exec(measured(mean, key));
  const text = places && sd.toFixed(places[1].length);
  return text && (sd === 0 || Number(text) > 0) ? text : measured(sd, key);
}

// The mean curve of each group at each epoch, over the runs that have it; other runs are curves of their own.
function meanCurves(among, metric, over, log) {
  const curves = repeated(among.filter(isGood)).map((group) => {
    const byEpoch = new Map();
    for (const run of group.runs) {
      pointsOf(run, metric, over, false).forEach(({ x, y }, i) => {
        if (y === null) return;
        const epoch = run.curves.epoch[i];
        byEpoch.set(epoch, [...(byEpoch.get(epoch) ?? []), [x, y]]);
      });
    }
    const run = { ...group.runs[0], name: `${group.label} (mean of ${group.runs.length})` };
    return [...byEpoch.entries()].sort(([a], [b]) => a - b).map(([, at]) => {
      const [x, y] = [0, 1].map((i) => spread(at.map((pair) => pair[i])));
      return { run, x: x.mean, y: log && y.mean <= 0 ? null : y.mean, sd: y.sd };
    });
  });
  return [...curves, ...among.filter((run) => !isGood(run)).map((run) => pointsOf(run, metric, over, log))];
}

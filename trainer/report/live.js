"use strict";
// A page of `report --serve`: it asks the server whether runs have changed, and loads itself again if so. What the
// person has chosen is kept in the browser's tab meanwhile.

const EVERY = 3000; // milliseconds between two questions
const CONTROLS = ["filter", "metric", "over", "colour", "log", "mean", "heat-value", "heat-x", "heat-y"];

function keep() {
  const controls = CONTROLS.map((id) => [id, byId(id).type === "checkbox" ? byId(id).checked : byId(id).value]);
  const hidden = [...state.hidden].map((run) => run.path);
  const kept = { controls, hidden, sort: state.sort, chosen: state.chosen?.path, other: state.other?.path, top: scrollY };
  sessionStorage.setItem("kept", JSON.stringify(kept));
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem("kept") ?? "null");
  if (!kept) return;
  sessionStorage.removeItem("kept");
  for (const [id, value] of kept.controls) {
    if (byId(id).type === "checkbox") byId(id).checked = value;
    else if (id === "filter" || [...byId(id).options].some((option) => option.value === value)) byId(id).value = value;
  }
  const at = (path) => runs.find((run) => run.path === path);
  state.hidden = new Set(kept.hidden.map(at).filter(Boolean));
  [state.sort, state.chosen, state.other] = [kept.sort, at(kept.chosen) ?? state.chosen, at(kept.other) ?? null];
  setTimeout(() => scrollTo(0, kept.top));
}

async function ask() {
  try {
    const stamp = await (await fetch("stamp", { cache: "no-store" })).text();
    if (stamp === data.stamp) return;
    keep();
    location.reload();
  } catch {
    byId("about").classList.add("wrong"); // the server has ended: the page stays as it is
  }
}

"""Makes docs/recipes.md from recorded runs, and records them: what docs/recipes.yaml lists, run by the command line.

    python docs/make_recipes.py record apartments sine_rnn    # runs these (or what is left of them), then the page
    python docs/make_recipes.py record                        # all recipes
    python docs/make_recipes.py page                          # the page alone, from docs/recipes/recorded.json

Runs go to outputs/recipes/NAME; what is finished there is only read again. MNIST and Fashion-MNIST are looked for in
``CONGA_DATA``.
"""

from __future__ import annotations

import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from trainer.rundir.records import RunRecord, find_runs, natural
from trainer.runs.columns import row

DOCS = Path(__file__).parent
LIST, PAGE, PICTURES = DOCS / "recipes.yaml", DOCS / "recipes.md", DOCS / "recipes"
RECORDED = PICTURES / "recorded.json"
RUNS = Path("outputs/recipes")

Recipe = dict[str, Any]  # an entry of docs/recipes.yaml, which explains its keys


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case ["page"]:
            pass
        case ["record", *names]:
            recipes = load()["recipes"]
            unknown = set(names) - {recipe["name"] for recipe in recipes}
            if unknown:
                sys.exit(f"no such recipe: {', '.join(sorted(unknown))}")
            for recipe in recipes:
                if not names or recipe["name"] in names:
                    record(recipe)
        case _:
            sys.exit(__doc__)
    PAGE.write_text(page(load(), json.loads(RECORDED.read_text())))


def load() -> dict[str, Any]:
    """docs/recipes.yaml: where the recipes come from, and the recipes."""
    return yaml.safe_load(LIST.read_text())


def parts(recipe: Recipe) -> list[Recipe]:
    """The recipe itself, and further sweeps that its section shows."""
    return [recipe, *recipe.get("more", [])]


def command(recipe: Recipe, part: Recipe) -> list[str]:
    """What records a part: the recipe over its seeds, or a sweep of its own."""
    over = part.get("sweep", "seed=0" if {"noise", "sentences"} & set(recipe) else "seed=range(0,5)")
    given = shlex.split(recipe["options"]) if "before" in recipe else []
    return ["-m", f"experiment={recipe['name']}", *given, *shlex.split(over)]


def folder(recipe: Recipe, part: Recipe) -> Path:
    """Where the runs of a part are."""
    return RUNS / recipe["name"] if part is recipe else RUNS / f"{recipe['name']}_{part['name']}"


def noise(classes: int, size: int, channels: int) -> list[str]:
    """Overrides for one training step on a folder of noise, an image for each class; makes the folder."""
    place = RUNS / f"noise_{classes}x{size}x{channels}"
    random = np.random.default_rng(0)
    for k in range(classes):
        file = place / f"{k:04}" / "0.jpg"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (size // 8, size // 8, channels), np.uint8).squeeze()
            Image.fromarray(pixels).resize((size, size)).save(file)
    one = ["data.batch_size=2", "data.val_fraction=0", "data.test_fraction=0", "train.max_steps=1", "logger=csv"]
    return [f"data.path={place}", *one]


def sentences(pairs: int) -> list[str]:
    """Overrides for one training step on a file of pairs of sentences of drawn words; makes the file."""
    file, random = RUNS / f"sentences_{pairs}.txt", np.random.default_rng(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = random.integers(0, 500, (pairs, 2, 8)).tolist()
    file.write_text("".join("\t".join(" ".join(f"w{k}" for k in side) for side in pair) + "\n" for pair in drawn))
    return [f"data.path={file}", "train.max_steps=1", "logger=csv"]


def record(recipe: Recipe) -> None:
    """Runs what is not there yet, and keeps its numbers and pictures."""
    if not recipe.get("recorded", True):
        print(f"{recipe['name']}: not recorded, since its data were not at hand")
        return
    found = {}
    for part in parts(recipe):
        place = folder(recipe, part)
        for first in recipe.get("before", []):
            run("-m", "trainer", *shlex.split(first))  # what is finished is only told
        given = noise(**recipe["noise"]) if "noise" in recipe else []
        given += sentences(recipe["sentences"]) if "sentences" in recipe else []
        run("-m", "trainer", *command(recipe, part), *given, f"hydra.sweep.dir={place}")
        records = [r for r in find_runs([place]) if r.status in ("finished", "diverged")]
        found[part["name"]] = measured(part, records)
        for picture in part.get("pictures", []):
            draw(picture, place, records)
    versions = records[0].summary["versions"]
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    recorded[recipe["name"]] = {"versions": versions, "parts": found}
    RECORDED.write_text(json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")


def run(*arguments: str) -> None:
    """Prints and runs a command; its failure ends the script."""
    print("$ python", shlex.join(arguments), flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


def draw(picture: Recipe, place: Path, records: list[RunRecord]) -> None:
    """Copies a picture of the first run (or the sweep), or draws one by a command."""
    PICTURES.mkdir(exist_ok=True)
    out = PICTURES / picture["file"]
    if "command" in picture:
        words = shlex.split(picture["command"].format(runs=place, all=RUNS))
        found = [sorted(map(str, Path().glob(word)), key=natural) if "*" in word else [word] for word in words]
        run("-m", *(word for several in found for word in several), "--out", str(out))
    else:
        source = place if picture["from"] == "sweep.png" else records[0].path / "evaluation"
        out.write_bytes((source / picture["from"]).read_bytes())
    Image.open(out).quantize(256).save(out, optimize=True)  # a third of the size, and no different to the eye


def measured(part: Recipe, records: list[RunRecord]) -> dict[str, Any]:
    """The numbers of a part: by name, and by the value of `by` if there is one, a list over the runs."""
    by = part.get("by")
    groups: dict[str, list[RunRecord]] = {}
    for r in records:
        groups.setdefault(str(row(r)[by]) if by else "", []).append(r)
    return {
        group: {
            number["what"]: [card(number["card"])] if "card" in number else [value(r, number["column"]) for r in runs]
            for number in part["numbers"]
        }
        for group, runs in groups.items()
    }


def card(arguments: str) -> int:
    """The parameters in a model's card."""
    command = [sys.executable, "-m", "trainer", "model-card", *shlex.split(arguments)]
    print("$", shlex.join(command), flush=True)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    [total] = re.findall(r"total[^\d]*([\d,]+)", text)
    return int(total.replace(",", ""))


def value(record: RunRecord, column: str) -> float | None:
    """A number of a run by its name; see docs/recipes.yaml."""
    kind, _, name = column.partition("/")
    if kind == "untrained":
        return record.summary["untrained"][name]
    if kind == "first":
        return float(record.curves[name][0])
    if kind == "report":
        found = json.loads((record.path / "evaluation" / "report.json").read_text())
        for key in name.split("/"):
            found = found[key]
        return found
    if kind == "diverged":
        return float(record.status == "diverged")
    found = row(record)
    if column not in found and record.status == "finished":
        raise KeyError(f"{record.path}: no {column}")
    return found.get(column)


def page(listed: dict[str, Any], recorded: dict[str, Any]) -> str:
    """docs/recipes.md."""
    lines = ["# Recipes", "", listed["introduction"].strip(), ""]
    lines += ["| recipe | from | what | reported | measured |", "| --- | --- | --- | --- | --- |"]
    for recipe in listed["recipes"]:
        name = recipe["name"]
        first = max(recipe["numbers"], key=importance)
        said = str(first.get("reported", ""))
        ours = "not run" if name not in recorded else short(recipe, first, recorded[name]["parts"][name])
        source = f"{listed['sources'][recipe['source']]['short']}, {recipe['where']}"
        lines.append(f"| [`{name}`](#{name}) | {source} | {first['what']} | {said} | {ours} |")
    for recipe in listed["recipes"]:
        lines += section(recipe, recorded.get(recipe["name"]), listed["data"])
    lines += ["", "## Sources", ""]
    lines += [f"- **{source['short']}**: {source['long']}" for source in listed["sources"].values()]
    return "\n".join(lines) + "\n"


def importance(number: Recipe) -> float:
    """The greatest number of a recipe stands in the overview."""
    return ("reported" in number) + ("within" in number or "at_least" in number) / 2 - 2 * ("card" in number)


def short(recipe: Recipe, number: Recipe, groups: dict[str, Any]) -> str:
    """The number in the overview; of a comparison the best."""
    texts = {group: shown(number, numbers[number["what"]]) for group, numbers in groups.items()}
    if not recipe.get("by"):
        return texts[""]
    means = {group: summed_up(number, numbers[number["what"]]) for group, numbers in groups.items()}
    best = max((m, group) for group, m in means.items() if m is not None)[1]
    return f"{texts[best]} ({best})"


def section(recipe: Recipe, recorded: dict[str, Any] | None, data: dict[str, str]) -> list[str]:
    """The section of one recipe."""
    lines = ["", f"## {recipe['name']}", "", recipe["about"].strip(), "", "```sh"]
    lines += [f"python -m trainer {first}" for first in recipe.get("before", [])]
    lines += [f"python -m trainer experiment={recipe['name']}" + recipe.get("options", ""), "```", ""]
    if "data" in recipe:
        lines += [f"Data: {data[recipe['data']].strip()}", ""]
    for part in parts(recipe):
        if part is not recipe and not recorded:
            continue
        if part is not recipe:
            lines += ["", part["about"].strip(), "", "```sh"]
            lines += ["python -m trainer " + shlex.join(command(recipe, part)), "```", ""]
        groups = recorded["parts"][part["name"]] if recorded else None
        lines += table(part, groups)
        if recorded and part is recipe and part.get("sweep") != "":
            cards = [number["card"] for number in part["numbers"] if "card" in number]
            if len(cards) < len(part["numbers"]):
                lines += ["", f"Measured by `python -m trainer {shlex.join(command(recipe, part))}`."]
            lines += [line for one in cards for line in ("", f"Parameters by `python -m trainer model-card {one}`.")]
        for picture in part.get("pictures", []):
            if recorded:
                if "command" in picture:
                    plain = picture["command"].format(runs=folder(recipe, part), all=RUNS)
                    lines += ["", f"`python -m {plain}`"]
                lines += ["", f"![{picture['shows']}](recipes/{picture['file']})"]
    if "note" in recipe:
        lines += ["", recipe["note"].strip()]
    return lines


def table(part: Recipe, groups: dict[str, Any] | None) -> list[str]:
    """The numbers of a part beside those reported, or one row for each choice of what it compares."""
    numbers = part["numbers"]
    if part.get("by") and groups:
        lines = [
            f"| {part['by']} | " + " | ".join(n["what"] for n in numbers) + " |",
            "| --- " * (len(numbers) + 1) + "|",
        ]
        for group, values in groups.items():
            lines.append(f"| {group} | " + " | ".join(shown(n, values[n["what"]]) for n in numbers) + " |")
        return lines
    lines = ["| | reported | measured |", "| --- | --- | --- |"]
    for number in numbers:
        ours = shown(number, groups[""][number["what"]]) if groups else "not run"
        lines.append(f"| {number['what']} | {number.get('reported', '')} | {ours} |")
    return lines


def summed_up(number: Recipe, values: list[float | None]) -> float | None:
    """The runs' numbers as one: their mean, or by `of`."""
    there = [v for v in values if v is not None]
    return {"mean": statistics.fmean, "max": max, "sum": sum}[number.get("of", "mean")](there) if there else None


def shown(number: Recipe, values: list[float | None]) -> str:
    """A number of the runs in its format, with the standard deviation of a mean."""
    there = [v for v in values if v is not None]
    if not there:
        return "diverged"
    form = number.get("format", ".4f")
    spread = format(statistics.stdev(there), form) if len(set(there)) > 1 and "of" not in number else ""
    text = format(there[0] if len(set(there)) == 1 else summed_up(number, there), form)
    return f"{text} ± {spread}" if spread.strip("0.") else text


if __name__ == "__main__":
    main()

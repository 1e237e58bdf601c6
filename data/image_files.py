"""Finds the pictures below a folder with their classes and splits, and counts other files."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data.pictures import ENDINGS
from data.storage import FORMS, file_error, nfc, one_line

SPLITS = {  # names of split folders, which may end in numbers, "set" or "data"
    "train": r"train(ing|val)?|tr|trn",
    "val": r"val|valid|validate|validation|dev|devel|development",
    "test": r"test(ing|s)?|tst|eval|evaluation|holdout|heldout",
}


@dataclass
class Found:
    """Pictures in a folder, and the number of other files by kind."""

    files: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def layout(path: Path, splits: str, *, new: bool = False) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split, or the whole as ``train``; and notes about ambiguous folders.

    Args:
        new: whether these are new data, none of which are for training.

    Raises:
        ValueError: the top folders look like splits, but are not.
    """
    tops = folders_in(path)
    named = {top: split for top in tops if (split := split_of(top))}
    others = [top.name for top in tops if top not in named and (splits != "auto" or pictures_in(top).files)]
    if splits == "classes" or not named:
        if splits == "folders":
            raise file_error(path, "data.splits=folders: holds no folder train")
        return {"train": path}, []
    if splits == "auto" and others:
        names, which = ", ".join(top.name for top in named), "is a class" if len(named) == 1 else "are classes"
        note = f"{names} {which} here, as {others[0]} is beside; data.splits=folders makes splits of such"
        return {"train": path}, [note]
    folders: dict[str, Path] = {}
    instead = "; data.splits=classes makes the folders classes"
    for top, split in named.items():
        if split in folders:
            raise file_error(path, f"{folders[split].name} and {top.name} are both for {split}; keep one{instead}")
        folders[split] = top
    if "train" not in folders and not new:
        raise file_error(path, f"has a folder {next(iter(named)).name} but no folder train{instead}")
    if not new and not folders_in(folders["train"]):
        raise file_error(folders["train"], f"holds no class folders{instead}")
    empty = [top for top in folders.values() if not folders_in(top)]
    left = [f"{top.name} (no split by its name)" for top in tops if top not in named]
    left += [f"{top.name} (no class folders, {len(pictures_in(top).files):,} pictures)" for top in empty]
    notes = [f"not read: {', '.join(left)}"] if left else []
    return {split: top for split, top in folders.items() if top not in empty}, notes


def split_of(folder: Path) -> str | None:
    """The split of a folder by its name, or by a word in it if it holds folders, such as seg_train."""
    if split := split_called(folder.name):
        return split
    words = [split_called(word) for word in re.findall(r"[a-z]+|[A-Z][a-z]+|[A-Z]+", folder.name)]
    found = [split for split in words if split]
    return found[0] if len(found) == 1 and folders_in(folder) else None


def split_called(name: str) -> str | None:
    """The split that a whole name means, or None."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next(
        (s for s, names in SPLITS.items() if re.fullmatch(rf"({names})(set|data|split|images|imgs)?", plain)), None
    )


def called(folder: Path) -> str:
    """The class of a folder, its name as text: bytes that are not UTF-8 are escaped."""
    return nfc(folder.name.encode("utf-8", "backslashreplace").decode())


def pictures_in(folder: Path, above: tuple[str, ...] = ()) -> Found:
    """The pictures in `folder` at any depth, sorted; links are followed, but not in circles."""
    found, real = Found(), os.path.realpath(folder)
    if real in above:
        found.others["link to a folder above"] += 1
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            lost = entry.is_symlink() and not os.path.exists(entry.path)
            if hidden(entry.name):
                found.others["hidden"] += files_in(entry.path)
            elif not lost and entry.is_dir():
                inside = pictures_in(Path(entry.path), (*above, real))
                found.files += inside.files
                found.others += inside.others
            elif entry.name.lower().endswith(ENDINGS) and (lost or entry.is_file()):
                found.files.append(entry.path)  # a broken link to a picture counts as one that cannot be decoded
            else:
                kind = kind_of(entry.name) if lost or entry.is_file() else "no file (a pipe, a device)"
                found.others["broken link" if lost else kind] += 1
    found.files.sort(key=nfc)
    found.others = +found.others  # except empty hidden folders
    return found


def beside(folder: Path) -> Counter[str]:
    """Kinds of the files directly in `folder`, where only folders are read."""
    found: Counter[str] = Counter()
    for entry in folder.iterdir():
        if hidden(entry.name):
            found["hidden"] += files_in(entry)
        elif not entry.is_dir():
            found[kind_of(entry.name)] += 1
    return +found  # except empty hidden folders


def files_in(path: str | Path) -> int:
    """The number of files of a path: for a folder those at any depth, links not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        return 1
    return sum(len(files) for _, _, files in os.walk(path))


def kind_of(name: str) -> str:
    """The kind of a file that is not read, for counts."""
    return Path(name).suffix.lower() or "without an ending"


def kinds(others: Counter[str]) -> str:
    """A count by kind, in words."""
    return one_line(", ".join(f"{n:,} {kind}" for kind, n in others.most_common()))


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, hidden ones left out."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and not hidden(f.name))


def class_folders(folder: Path) -> list[Path]:
    """The class folders in `folder`, sorted by name.

    Raises:
        ValueError: no folders, or two with one name.
    """
    found = sorted(folders_in(folder), key=called)
    if not found:
        raise file_error(folder, "holds no class folders")
    for one, other in itertools.pairwise(map(called, found)):
        if one == other:
            raise file_error(folder, f"has the class {one} twice{FORMS}")
    return found


def hidden(name: str) -> bool:
    """Whether a file is hidden, such as ._1.jpg and .ipynb_checkpoints of file managers and notebooks."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")

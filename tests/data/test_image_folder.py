"""Folders of images against Pillow and the arrays that the tests themselves wrote."""

import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
import torchvision
from conftest import COMMON as SHARED
from conftest import ROOT
from formats import draw, saved
from PIL import Image, ImageOps

from data.image_folder import ImageFolder, pictures_in

# What conf/config.yaml says, with no test and validation splits; and what conf/data/image_folder.yaml says.
COMMON = SHARED | {"test_fraction": 0.0, "val_fraction": 0.0, "normalize": "none"}
SPLIT = {"test_fraction": 0.2, "val_fraction": 0.1, "normalize": "standard"}
IMAGE = {"size": 8, "fit": "crop", "channels": 3, "memory_gb": 4.0, "workers": 0, "skip_bad": False}


def folder(path, **how):
    return ImageFolder(path=str(path), **IMAGE | COMMON | how)


def photos(path, classes=("cat", "dog"), n=6, ending=".png", sides=(8, 8)):
    """Returns the images (N, 3, 8, 8) in the order of the files' names."""
    arrays = draw(n * len(classes), *sides, 3, seed=n)
    for i, array in enumerate(arrays):
        file = path / classes[i // n] / f"{i % n}{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(file)
    return arrays.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_images_of_the_right_size_are_kept_bit_for_bit(tmp_path, memory_gb):
    """In a folder as they are: hidden and other files, nested folders, a link, capitals, blanks."""
    arrays = photos(tmp_path / "photos", ("My cats", "flöwers"))
    path = tmp_path / "photos"
    for file in (".DS_Store", "Thumbs.db", "My cats/.DS_Store", "My cats/notes.txt"):
        (path / file).write_bytes(b"\0")
    (path / ".git").mkdir()
    (path / "flöwers" / "more" / "even more").mkdir(parents=True)
    (path / "flöwers" / "5.png").rename(path / "flöwers" / "more" / "even more" / "Ä.PNG")
    (path / "My cats").rename(tmp_path / "elsewhere")
    (path / "My cats").symlink_to(tmp_path / "elsewhere")
    dataset = folder(path, memory_gb=memory_gb).load()
    x, y = dataset.batch("train", slice(0, 12))
    np.testing.assert_array_equal(x, arrays)
    assert y.tolist() == [0] * 6 + [1] * 6
    assert dataset.facts.class_names == ("My cats", "flöwers")


@pytest.mark.parametrize("hidden", ["cat/._0.png", "cat/.ipynb_checkpoints/0-checkpoint.png", ".trash/0.png"])
def test_hidden_images_are_left_out(tmp_path, hidden):
    photos(tmp_path)
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_bytes(b"\0\5\x16\7")  # as macOS leaves them on other file systems
    assert folder(tmp_path).load().facts.sizes == {"train": 12}


def decoded(tmp_path, save, name="x.png", **how):
    """The image, (H, W) or (H, W, 3), that `save(file)` wrote."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir(parents=True)
        save(tmp_path / label / name)
    x = folder(tmp_path, **how).load().splits["train"][0][0].numpy()
    return x[0] if how.get("channels") == 1 else x.transpose(1, 2, 0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 12), (40, 3)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("sides", [(20, 31), (1, 1)])
def test_images_are_resized_as_pillow_resizes(tmp_path, height, width, fit, mode, sides):
    image, how = Image.fromarray(draw(*sides, 3)), Image.Resampling.BILINEAR
    found = decoded(tmp_path, image.save, size=[height, width], fit=fit, channels=len(mode))
    image = image.convert(mode)
    expected = ImageOps.fit(image, (width, height), how) if fit == "crop" else image.resize((width, height), how)
    np.testing.assert_array_equal(found, expected)


TURNS = [  # what brings the stored image upright, for EXIF's orientations 1 to 8
    lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.swapaxes(0, 1),
    lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90,
]  # fmt: skip


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_images_of_every_kind(tmp_path):
    array, deep, alpha, bits = draw(8, 8, 3), draw(8, 8, dtype=np.uint16), draw(8, 8, 4), draw(8, 8) // 128
    palette = Image.fromarray(bits).convert("P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    cases = [
        (Image.fromarray(deep).save, "x.png", 1, deep),
        (Image.fromarray(deep).save, "x.png", 3, np.stack([deep] * 3, 2)),
        (Image.fromarray(alpha).save, "x.png", 3, alpha[..., :3]),
        (palette.save, "x.png", 3, np.array([[10, 20, 30], [200, 100, 50]])[bits]),
        (Image.fromarray(bits == 1).save, "x.PNG", 1, bits * 255),
        (Image.new("CMYK", (9, 9), (0, 100, 200, 0)).save, "x.JPG", 3, np.full((8, 8, 3), (255, 155, 55))),
    ]
    for i, turn in enumerate(TURNS, 1):
        cases.append((lambda f, i=i: Image.fromarray(array).save(f, exif=oriented(i)), "x.png", 3, turn(array)))
    for i, (save, name, channels, expected) in enumerate(cases):
        found = decoded(tmp_path / str(i), save, name, channels=channels)
        np.testing.assert_allclose(found, expected, atol=3 if name == "x.JPG" else 0, err_msg=str(i))


def test_an_image_with_an_odd_exif_tag_stands_upright(tmp_path):
    entries = struct.pack("<HHIHHHHI4s", 0x0112, 3, 1, 6, 0, 0x0122, 2, 4, b"odd\0")  # a number's tag holds a text
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + bytes(4)
    found = decoded(tmp_path, lambda f: Image.new("L", (8, 4), 90).save(f, exif=exif), "x.jpg", size=[8, 4])
    assert abs(found.astype(int) - 90).max() <= 2


def test_a_turned_photo_is_decoded_at_a_sufficient_scale(tmp_path):
    stripes = np.repeat((127 + 120 * np.sin(np.arange(256) / 3)).astype(np.uint8)[:, None], 1024, 1)
    save = lambda f: Image.fromarray(stripes).save(f, exif=oriented(6), quality=95)  # noqa: E731
    found = decoded(tmp_path, save, "x.jpg", size=[32, 128], channels=1)
    expected = ImageOps.fit(Image.fromarray(np.rot90(stripes, -1)), (128, 32), Image.Resampling.BILINEAR)
    assert abs(found - np.asarray(expected, int)).mean() < 5


def test_folders_of_splits(tmp_path):
    arrays = {part: photos(tmp_path / part, n=i + 2) for i, part in enumerate(("train", "val", "test"))}
    splits = folder(tmp_path, **SPLIT).load().splits
    assert list(splits) == ["train", "val", "test"]
    for part, (x, _) in splits.items():
        np.testing.assert_array_equal(x, arrays[part])
    assert folder(tmp_path, limit=2).load().facts.sizes == {"train": 2, "val": 2, "test": 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_are_those_in_memory(tmp_path, workers):
    photos(tmp_path, n=15, ending=".jpg", sides=(20, 31))
    kept, streamed = (folder(tmp_path, **SPLIT | {"memory_gb": gb, "workers": workers}).load() for gb in (1.0, 0.0))
    try:
        assert not kept.streamed
        assert streamed.streamed
        assert torch.equal(kept.facts.mean, streamed.facts.mean)
        assert torch.equal(kept.facts.std, streamed.facts.std)
        assert kept.facts.sizes == streamed.facts.sizes
        order = list(torch.randperm(kept.facts.sizes["train"]).split(4))
        next(streamed.batches("train", order))  # a pass that was left is no part of the next
        for split, indices in (("train", order), ("train", order[::-1]), ("val", [slice(0, 2)]), ("test", [slice(99)])):
            pairs = list(zip(kept.batches(split, indices), streamed.batches(split, indices), strict=True))
            assert len(pairs) == len(indices)
            assert all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
        gone = streamed.files[streamed.splits["train"][0][3]]
        Path(gone).unlink()
        with pytest.raises(OSError, match=gone):
            list(streamed.batches("train", order))
    finally:
        streamed._loader = None  # a failure keeps this frame, and with it workers that pytest would wait for


@pytest.mark.slow
def test_a_program_that_streamed_images_ends(tmp_path):
    photos(tmp_path)
    settings = IMAGE | COMMON | {"path": str(tmp_path), "memory_gb": 0.0, "workers": 1}
    script = f"from data.image_folder import ImageFolder\ndataset = ImageFolder(**{settings}).load()\n"
    script += 'list(dataset.batches("train", [slice(0, 6), slice(6, 12)]))\nprint("done", flush=True)'
    program = [sys.executable, "-c", script]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as process:
        try:
            assert process.stdout.readline() == "done\n"
            assert process.wait(timeout=120) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise


CUT_JPEG = saved(Image.fromarray(draw(64, 64, 3)).save, "JPEG")[:700]


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_an_image_that_cannot_be_decoded_can_be_left_out(tmp_path, memory_gb):
    arrays = photos(tmp_path)
    bad = tmp_path / "cat" / "2.jpg"
    bad.write_bytes(CUT_JPEG)
    dataset = folder(tmp_path, memory_gb=memory_gb, skip_bad=True).load()
    assert str(bad) in dataset.facts.notes[0]
    assert dataset.facts.sizes == {"train": 12}
    x, y = dataset.batch("train", slice(0, 12))
    np.testing.assert_array_equal(x, arrays)
    assert y.tolist() == [0] * 6 + [1] * 6


BAD = {
    "cat/x.jpg": {
        "cut": (CUT_JPEG, "cannot be decoded (truncated at byte 700); data.skip_bad=true"),
        "empty": (b"", "cannot be decoded (the file is empty)"),
        "html": (b"<html>", "(no picture of a format that is read)"),
        "streamed": (CUT_JPEG, "cannot be decoded", {"memory_gb": 0.0}),
    },
    "line\nbreak/x.png": {"empty": (b"", "cannot be decoded")},
    "eel/.DS_Store": {"empty class": (b"", "eel: an empty class folder")},
    "eel/0.png": {"rare class": (CUT_JPEG, "class 'eel' has 1 sample, too few", SPLIT)},
}  # fmt: skip


@pytest.mark.parametrize(("file", "what"), [(file, what) for file, cases in BAD.items() for what in cases])
def test_bad_input_is_refused_in_one_line(tmp_path, file, what):
    content, words, *how = BAD[file][what]
    photos(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        folder(tmp_path, **how[0] if how else {}).load()
    line = str(caught.value)
    assert words in line
    assert "too few" in line or file.removesuffix("/.DS_Store").rpartition("\n")[2] in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: (p.joinpath("x").mkdir(), folder(p / "x"))[1], "x: holds no class folders"),
        (lambda p: (photos(p), folder(p / "cat" / "0.png"))[1], "cat/0.png"),
        (lambda p: (photos(p / "train"), photos(p / "test", ["eel"]), folder(p))[2], "test/eel: a class that"),
        (lambda p: folder(p / "nowhere"), "nowhere"),
        (lambda p: (photos(p / "test"), folder(p))[1], "has a folder test but no folder train"),
        (lambda p: (photos(p, ["cat"]), folder(p))[1], "holds only one class folder, cat"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_line(tmp_path, make, words):
    with pytest.raises((ValueError, OSError)) as caught:
        make(tmp_path).load()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def counted(dataset):
    """The notes about files that were not read."""
    return [note for note in dataset.facts.notes if "not read" in note]


@pytest.mark.parametrize("seed", range(3))
def test_the_files_are_those_that_torchvision_reads(tmp_path, seed):
    """In every format that it knows, at any depth, behind links; what neither reads is counted by kind."""
    rng, endings = np.random.default_rng(seed), ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")
    others = {"heic": 0, "pdf": 0}
    for label in ("bee", "Ant", "cow"):
        for k in range(int(rng.integers(6, 12))):
            below = tmp_path / "photos" / label / "/".join(rng.choice(["x", "y z"], rng.integers(0, 3)))
            below.mkdir(parents=True, exist_ok=True)
            ending = endings[rng.integers(len(endings))]
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            (image.convert("L") if ending == "pgm" else image).save(below / f"{k}.{ending}")
        for ending in others:
            n = int(rng.integers(0, 3))
            others[ending] += n
            for k in range(n):
                (tmp_path / "photos" / label / f"{k}.{ending}").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "photos" / "bee" / "link").symlink_to(tmp_path / "elsewhere")
    theirs = torchvision.datasets.ImageFolder(tmp_path / "photos")
    expected = sorted((path, y, np.asarray(theirs.loader(path)).tobytes()) for path, y in theirs.samples)
    dataset = folder(tmp_path / "photos", memory_gb=0.0).load()
    numbers, y = dataset.splits["train"]
    decode = folder(tmp_path / "photos").decoder
    found = sorted(
        (p, c, decode(p).transpose(1, 2, 0).tobytes()) for p, c in zip(dataset.files[numbers], y.tolist(), strict=True)
    )
    assert found == expected
    assert dataset.facts.class_names == tuple(theirs.classes)
    left = {kind: n for kind, n in others.items() if n}
    words = ", ".join(f"{n} .{kind}" for kind, n in sorted(left.items(), key=lambda pair: -pair[1]))
    total = sum(left.values())
    were = "file was" if total == 1 else "files were"
    assert counted(dataset) == ([f"{total} {were} not read: {words}"] if left else [])


def test_links_in_a_circle_are_followed_once(tmp_path):
    photos(tmp_path)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "gone").symlink_to(tmp_path / "nowhere")
    dataset = folder(tmp_path).load()
    assert dataset.facts.sizes == {"train": 12}
    assert counted(dataset) == ["2 files were not read: 1 link to a folder above, 1 broken link"]


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        ("Training Testing", {"train": 12, "test": 12}),
        ("Train Test", {"train": 12, "test": 12}),
        ("train Test dev", {"train": 12, "val": 12, "test": 12}),
        ("TRAIN valid eval", {"train": 12, "val": 12, "test": 12}),
        ("train_set validation_set test-set", {"train": 12, "val": 12, "test": 12}),
        ("train2017 val2017", {"train": 12, "val": 12}),
    ],
)
def test_folders_called_like_splits_are_splits(tmp_path, names, sizes):
    for name in names.split():
        photos(tmp_path / name)
    dataset = folder(tmp_path).load()
    assert dataset.facts.sizes == sizes
    assert dataset.facts.class_names == ("cat", "dog")
    assert folder(tmp_path, splits="classes").load().facts.class_names == tuple(sorted(names.split()))


def test_a_folder_called_train_beside_others_is_a_class(tmp_path):
    photos(tmp_path, ["train", "cat"])
    dataset = folder(tmp_path).load()
    assert dataset.facts.class_names == ("cat", "train")
    assert dataset.facts.notes == ("train is a class here, as cat is beside; data.splits=folders makes splits of such",)
    with pytest.raises(ValueError, match=r"train: holds no class folders; data.splits=classes"):
        folder(tmp_path, splits="folders").load()


def test_folders_of_no_split_are_named(tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / "extra")
    (tmp_path / "test").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "test" / "0.png")
    dataset = folder(tmp_path, splits="folders").load()
    assert dataset.facts.sizes == {"train": 12}
    assert dataset.facts.notes == ("not read: extra (no split by its name), test (no class folders, 1 pictures)",)


def deep_png(path, array):
    """Writes 16 bits a channel, (H, W) or (H, W, 3), by hand: Pillow writes colours with 8 only."""
    h, w, *colours = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", w, h, 16, 2 if colours else 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, ending):
    twelve = draw(12, 8, 8, dtype=np.uint16) % 4096 + 500
    for k, array in enumerate(twelve):
        file = tmp_path / "ab"[k % 2] / f"{k:02}.{ending}"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(file, **({"irreversible": False} if ending == "jp2" else {}))
    for memory_gb in (1.0, 0.0):
        dataset = folder(tmp_path, channels=1, memory_gb=memory_gb).load()
        x = dataset.batch("train", slice(0, 12))[0]
        np.testing.assert_array_equal(x[:, 0].numpy(), np.concatenate([twelve[::2], twelve[1::2]]))
        assert dataset.facts.value_range == (0, 65_535)


def test_eight_and_sixteen_bits_are_brought_to_one_scale(tmp_path):
    colours, plain = draw(8, 8, 3, dtype=np.uint16, seed=1), draw(8, 8, 3, seed=2)
    deep_png(tmp_path / "a" / "0.png", colours)
    (tmp_path / "b").mkdir()
    Image.fromarray(plain).save(tmp_path / "b" / "0.png")
    x = folder(tmp_path).load().splits["train"][0].numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(x[0], colours)
    np.testing.assert_array_equal(x[1], plain.astype(int) * 257)  # 255 becomes 65,535


def test_what_is_not_in_the_pixels_is_said(tmp_path):
    photos(tmp_path)
    frames = [Image.new("L", (8, 8), v) for v in (0, 90, 200)]
    frames[0].save(tmp_path / "cat" / "a.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (8, 8), (9, 9, 9, 100)).save(tmp_path / "cat" / "b.png")
    Image.new("RGBA", (8, 8), (9, 9, 9, 255)).save(tmp_path / "cat" / "opaque.png")
    assert folder(tmp_path).load().facts.notes == (
        "1 of 15 images has several frames: the first was read",
        "1 of 15 images has transparent parts, which were read as opaque",
    )


def test_numbers_without_black_and_white_are_refused(tmp_path):
    photos(tmp_path)
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "cat" / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: cannot be decoded \(holds fractions"):
        folder(tmp_path).load()


def test_a_picture_of_too_many_pixels_says_so(tmp_path, monkeypatch):
    photos(tmp_path)
    Image.new("L", (50, 50)).save(tmp_path / "cat" / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"scan.png: .* \(too many pixels: 2,500, and Pillow's limit is 2,000"):
        folder(tmp_path).load()


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_the_same_picture_in_two_splits_is_counted(tmp_path, memory_gb):
    for part in ("train", "test"):
        photos(tmp_path / part, n=4)
    (tmp_path / "test" / "cat" / "0.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes())
    for i in range(1, 4):
        Image.fromarray(draw(8, 8, 3, seed=90 + i)).save(tmp_path / "test" / "cat" / f"{i}.png")
        Image.fromarray(draw(8, 8, 3, seed=80 + i)).save(tmp_path / "test" / "dog" / f"{i}.png")
    Image.fromarray(draw(8, 8, 3, seed=70)).save(tmp_path / "test" / "dog" / "0.png")
    notes = folder(tmp_path, memory_gb=memory_gb).load().facts.notes
    assert notes == ("1 of 8 test samples is in the train split, too",)


def test_kinds_of_tiff_that_pillow_reads_wrongly_are_refused(tmp_path):
    """12 bits, signed numbers, 0 for white with 16 bits: said, not guessed."""
    photos(tmp_path)
    deep = draw(8, 8, dtype=np.uint16)
    for tag, value, words in ((258, 12, "12 bits a sample"), (339, 2, "signed"), (262, 0, "0 for white")):
        file = tmp_path / "cat" / "x.tif"
        Image.fromarray(deep).save(file, tiffinfo={339: 1})
        file.write_bytes(with_tag(file.read_bytes(), tag, value))
        with pytest.raises(
            ValueError, match=rf"x\.tif: cannot be decoded \(a TIFF of a kind that is not read .*{words}"
        ):
            folder(tmp_path, channels=1).load()


def with_tag(content, tag, value):
    """A little-endian TIFF with another number in one of its tags."""
    [start] = struct.unpack_from("<I", content, 4)
    [count] = struct.unpack_from("<H", content, start)
    for k in range(count):
        place = start + 2 + 12 * k
        if struct.unpack_from("<H", content, place)[0] == tag:
            return content[: place + 8] + struct.pack("<H", value) + content[place + 10 :]
    raise AssertionError(f"no tag {tag}")


@pytest.mark.parametrize("exif", [b"Exif\0\0junkjunkjunk", b"Exif\0\0MM\0*\0\0"])
def test_damaged_exif_data_do_not_cost_a_picture(tmp_path, exif):
    arrays = photos(tmp_path)
    for ending in ("png", "webp"):
        Image.fromarray(arrays[0].transpose(1, 2, 0)).save(tmp_path / "cat" / f"x.{ending}", exif=exif, lossless=True)
    dataset = folder(tmp_path).load()
    assert dataset.facts.sizes == {"train": 14}
    assert any("damaged EXIF data" in note for note in dataset.facts.notes)


def test_pipes_are_no_pictures(tmp_path):
    photos(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cat" / "x.png").symlink_to(tmp_path / "pipe")
    os.mkfifo(tmp_path / "cat" / "y.png")
    (tmp_path / "cat" / "loop").symlink_to("loop")
    dataset = folder(tmp_path).load()
    assert dataset.facts.sizes == {"train": 12}
    assert "2 no file (a pipe, a device)" in counted(dataset)[0]


@pytest.mark.parametrize("names", ["seg_train seg_test", "MyTrain MyTest", "train_imgs test_imgs"])
def test_words_in_names_of_folders_of_folders(tmp_path, names):
    for name in names.split():
        photos(tmp_path / name)
    assert folder(tmp_path).load().facts.sizes == {"train": 12, "test": 12}
    for name in ("train", "test"):
        photos(tmp_path / "nested" / "train" / name)
    with pytest.raises(ValueError, match="holds splits, test, train, and no classes"):
        folder(tmp_path / "nested").load()


def test_a_class_that_a_test_split_lacks_is_said(tmp_path):
    photos(tmp_path / "train")
    photos(tmp_path / "test", ["cat"])
    assert folder(tmp_path).load().facts.notes[0] == "the test split has no sample of dog"


def test_files_of_hidden_folders_are_counted(tmp_path):
    photos(tmp_path)
    for file in (".git/a/b", ".git/c", "cat/.old/1.png", "cat/.old/deep/2.png", "cat/.DS_Store", "__MACOSX/._x"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    (tmp_path / "cat" / ".loop").symlink_to(tmp_path)
    (tmp_path / "dog" / ".empty").mkdir()
    assert folder(tmp_path).load().facts.notes == ("7 files were not read: 7 hidden",)
    found = pictures_in(tmp_path)
    assert (len(found.files), dict(found.others)) == (12, {"hidden": 7})


def test_classes_are_the_same_in_any_unicode_form(tmp_path):
    """As a ZIP file of macOS has them, in some folders or all; of one name in two forms neither can be meant."""
    forms = {"nfc": ("NFC", "NFC"), "nfd": ("NFD", "NFD"), "both": ("NFD", "NFC")}
    found = {}
    for name, of_parts in forms.items():
        for part, form in zip(("train", "test"), of_parts, strict=True):
            classes = [normalize(form, text) for text in ("u", "ü", "v")]
            photos(tmp_path / name / part, classes, n=4)
            for label in classes:
                inside = tmp_path / name / part / label
                (inside / "0.png").rename(inside / normalize(form, "0ü.png"))
                (inside / "1.png").rename(inside / "0v.png")
        found[name] = folder(tmp_path / name).load()
    for dataset in found.values():
        assert dataset.facts.class_names == ("u", "v", "ü")
        assert dataset.facts.fingerprint == found["nfc"].facts.fingerprint
    old = replace(found["nfc"].facts, class_names=("u", "v", "u\u0308"))  # of an earlier version
    assert folder(tmp_path / "nfc").load_like(old).facts.sizes == {"new": 24}
    photos(tmp_path / "both" / "train", ["ü"], n=1)
    with pytest.raises(ValueError, match=r"train: has the class ü twice, in two Unicode forms \(NFC and another\)"):
        folder(tmp_path / "both").load()

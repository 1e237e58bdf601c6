"""Datasets that are read from disk, against the arrays that the tests themselves wrote in the real formats."""

import gzip
import http.client
import os
import pickle
import shutil
import struct
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from conftest import COMMON as SHARED
from formats import Python2Pickler, draw

from data.cifar import Cifar
from data.mnist import Mnist

# What conf/config.yaml says, with no test and validation splits.
COMMON = SHARED | {"test_fraction": 0.0, "val_fraction": 0.0, "normalize": "none"}
SPLIT = {"test_fraction": 0.2, "val_fraction": 0.1, "normalize": "standard"}


def mnist(root, name="fashion_mnist", **how):
    return Mnist(name=name, **COMMON | {"root": str(root)} | how)


def cifar(root, name="cifar10"):
    return Cifar(name=name, **COMMON | {"root": str(root)})


def idx(array, kind=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_idx(path, gz=True, parts=("train", "t10k")):
    """Returns the arrays, by the files' names without .gz."""
    path.mkdir(parents=True, exist_ok=True)
    arrays = {f"{part}-images-idx3-ubyte": draw(20, 28, 28, seed=len(part)) for part in parts}
    arrays |= {f"{part}-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10 for part in parts}
    for name, array in arrays.items():
        (path / (name + ".gz" * gz)).write_bytes(gzip.compress(idx(array)) if gz else idx(array))
    return arrays


CIFAR = {  # batches, key of the labels, file and key of the names, classes
    "cifar10": ([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], "labels", "batches.meta", "label_names", 10),
    "cifar100": (["train", "test"], "fine_labels", "meta", "fine_label_names", 100),
}


def write_cifar(path, name="cifar10"):
    """Returns images (N, 3, 32, 32) and labels of all the batches, the last four of which are for testing."""
    files, labels, meta, names, classes = CIFAR[name]
    x, y = draw(4 * len(files), 3, 32, 32), np.arange(4 * len(files)) * 33 % classes
    contents = {meta: {names: [f"class {i}" for i in range(classes)], "num_vis": 3072}}
    for i, file in enumerate(files):
        part = slice(4 * i, 4 * i + 4)
        contents[file] = {labels: y[part].tolist(), "data": x[part].reshape(4, -1), "filenames": ["a.png"] * 4}
    path.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        with (path / file).open("wb") as opened:
            opened.write(Python2Pickler.dumps(content))
    return x, y


def write_archive(root):
    written = write_cifar(root / "packed")
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(root / "packed", "cifar-10-batches-py")
    return written


def test_idx_is_read_as_written_and_as_torchvision_reads_it(tmp_path):
    from torchvision.datasets import FashionMNIST

    for gz, where in ((True, "."), (False, "."), (True, "FashionMNIST/raw"), (False, "FashionMNIST/raw")):
        arrays = write_idx(tmp_path / str(gz) / where, gz)
        raw = mnist(tmp_path / str(gz)).read()
        for part, prefix in (("train", "train"), ("test", "t10k")):
            np.testing.assert_array_equal(raw.parts[part][0][:, 0], arrays[f"{prefix}-images-idx3-ubyte"])
            np.testing.assert_array_equal(raw.parts[part][1], arrays[f"{prefix}-labels-idx1-ubyte"])
            if not gz and where != ".":
                theirs = FashionMNIST(tmp_path / "False", train=part == "train", download=False)
                np.testing.assert_array_equal(raw.parts[part][0][:, 0], theirs.data)
                np.testing.assert_array_equal(raw.parts[part][1], theirs.targets)
        assert (raw.parts["train"][0].dtype, raw.num_outputs, raw.class_names[9]) == (np.uint8, 10, "Ankle boot")


def test_the_first_training_images_validate_and_the_published_test_split_stays(tmp_path, monkeypatch):
    arrays = write_idx(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path))
    splits = mnist("~/home", val_size=7, val_from="start", test_fraction=0.2).load().splits
    train, test = arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]
    for name, expected in {"val": train[:7], "train": train[7:], "test": test}.items():
        np.testing.assert_array_equal(splits[name][0][:, 0], expected)


def check_cifar(raw, written):
    x, y = written
    for part, cut in (("train", slice(-4)), ("test", slice(-4, None))):
        assert raw.parts[part][0].dtype == np.uint8
        np.testing.assert_array_equal(raw.parts[part][0], x[cut])
        np.testing.assert_array_equal(raw.parts[part][1], y[cut])
    assert raw.class_names == tuple(f"class {i}" for i in range(raw.num_outputs))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar_is_what_was_written(tmp_path, name, inside):
    own = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name] if inside else "."
    written = write_cifar(tmp_path / "new" / own, name)
    check_cifar(cifar(tmp_path / "new", name).read(), written)


def test_a_cifar_archive_is_extracted(tmp_path):
    written = write_archive(tmp_path)
    for _ in range(2):
        check_cifar(cifar(tmp_path).read(), written)
        assert len(list(tmp_path.iterdir())) == 3  # what was packed, the archive and what was extracted


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["data_batch_2", "batches.meta"])
def test_a_cifar_batch_executes_nothing(tmp_path, protocol, file):
    write_cifar(tmp_path / "root")
    marker = str(tmp_path / "marker")
    calls = [Call(os.system, f"touch {marker}"), Call(eval, f"open({marker!r}, 'w')"), Call(open, marker, "w")]
    for call in [*calls, Call(np.frombuffer, b"of NumPy, and yet no name that a batch needs")]:
        (tmp_path / "root" / file).write_bytes(pickle.dumps({"data": call}, protocol))
        with pytest.raises(ValueError, match=rf"root/{file}: .*\.{call.reduced[0].__name__}, which no such file"):
            cifar(tmp_path / "root").read()
        assert not Path(marker).exists()


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


IMAGES, LABELS, IDX = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", idx(draw(20, 28, 28))
ONE = {"data": draw(1, 3072), "labels": [0]}

# Kind of file -> what is wrong -> what it holds, what the one line says of it besides its name, settings.
BAD = {
    IMAGES: {
        "gzip cut": (gzip.compress(IDX)[:-900], "truncated"), "gzip header cut": (b"\x1f\x8b", "truncated"),
        "empty": (b"", ""), "not zipped": (IDX, "not a whole gzip"), "cut": (gzip.compress(IDX[:-5]), "truncated"),
        "header cut": (gzip.compress(IDX[:9]), "truncated"), "too long": (gzip.compress(IDX + b"x"), "too long"),
        "floats": (gzip.compress(idx(draw(20, 28, 28), kind=13)), "not an IDX file"),
        "1 axis": (gzip.compress(idx(draw(20))), "not an IDX file of 3 axes"),
    },
    LABELS: {
        "number": (gzip.compress(idx(draw(19))), "holds 19 labels for the 20 images"),
        "10": (gzip.compress(idx(np.arange(20, dtype=np.uint8))), "the label 10 (number 11) is out of range"),
    },
    "data_batch_2": {
        "empty": (b"", "not a readable batch"), "html": (b"<html>", "not a readable batch"),
        "cut": (pickle.dumps(ONE, 4)[:-300], "not a readable batch"), "list": ([1], "not a batch"),
        "line break": (b"\x80\x04\x8c\x04os\nx\x8c\x01x\x93.", "not a readable batch"), "nothing": ({}, "no array"),
        "3071 bytes": (ONE | {"data": draw(1, 3071)}, "no array"), "label 10": (ONE | {"labels": [10]}, "out of range"),
        "number": (ONE | {"labels": [0, 1]}, "2 labels for 1 images"), "label 1e30": (ONE | {"labels": [10**30]}, ""),
        "label -1": (ONE | {"labels": [-1]}, "out of range"),
    },
    "cifar-10-python.tar.gz": {
        "cut": (lambda c: c[: len(c) // 2], "not a whole archive"), "empty": (lambda c: b"", "not a whole archive"),
        "html": (lambda c: b"<html>" * 99, "not a whole archive"),
        "damaged": (lambda c: c[:3000] + b"\xff" * 500 + c[3500:], ""),
        # Stored, so that it still unpacks: only the checksum at its end can tell.
        "a pixel": (lambda c: flip(gzip.compress(gzip.decompress(c), 0), 12000), ""),
    },
}  # fmt: skip


def source_with(path, file, content):
    """A source that reads `file`, which holds `content`, in the folder `path`."""
    if file in (IMAGES, LABELS):
        write_idx(path)
    elif file == "data_batch_2":
        write_cifar(path)
        content = content if isinstance(content, bytes) else pickle.dumps(content, 4)
    else:
        write_archive(path)
        content = content((path / file).read_bytes())
    (path / file).write_bytes(content)
    return (mnist if file in (IMAGES, LABELS) else cifar)(path)


@pytest.mark.parametrize(("file", "what"), [(file, what) for file, cases in BAD.items() for what in cases])
def test_bad_input_is_refused_in_one_line(tmp_path, file, what):
    content, words = BAD[file][what]
    with pytest.raises((ValueError, OSError)) as caught:
        source_with(tmp_path, file, content).load()
    line = str(caught.value)
    assert words in line
    assert file in line
    assert "\n" not in line
    assert not list(tmp_path.rglob(".extract-*"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: (write_idx(p, parts=["train"]), mnist(p))[1], "t10k-images-idx3-ubyte: missing"),
        (lambda p: (write_cifar(p), (p / "test_batch").unlink(), cifar(p))[2], "test_batch: missing"),
        (lambda p: (write_archive(p), (p / "cifar-10-batches-py/x").mkdir(parents=True), cifar(p))[2], "batches-py"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_line(tmp_path, make, words):
    with pytest.raises((ValueError, OSError)) as caught:
        make(tmp_path).load()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ".extract-" not in str(caught.value)  # a folder that has gone again says nothing to anybody


def test_a_cifar_archive_writes_nowhere_else(tmp_path):
    (tmp_path / "root").mkdir()
    with tarfile.open(tmp_path / "root" / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../marker"))
    with pytest.raises(ValueError, match=r"python\.tar\.gz: .* outside"):
        cifar(tmp_path / "root").read()
    assert [p.name for p in tmp_path.rglob("*")] == ["root", "cifar-10-python.tar.gz"]


@pytest.fixture
def internet(monkeypatch):
    """internet(answer) -> the list of what is asked for; `answer(url)` gives bytes, or an error after half a file."""
    import torchvision.datasets.utils

    def install(answer):
        asked = []

        def download_url(url, root, filename=None, md5=None, max_redirect_hops=3):
            asked.append(url)
            path = Path(root) / (filename or url.rpartition("/")[2])
            path.write_bytes(b"half a file")
            content = answer(url)
            if not isinstance(content, bytes):
                raise content
            path.write_bytes(content)

        monkeypatch.setattr(torchvision.datasets.utils, "download_url", download_url)
        return asked

    return install


MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
ERRORS = [URLError("no\nnetwork"), TimeoutError(), RuntimeError("corrupted"), http.client.IncompleteRead(b"half")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_without_a_network(tmp_path, internet, error):
    asked = internet(lambda url: error)
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    own = tmp_path / "new" / "MNIST" / "raw"
    with pytest.raises(ValueError, match="cannot be downloaded") as caught:
        mnist(tmp_path / "new", "mnist").read()
    assert all(part in str(caught.value) for part in [*names, *MIRRORS, str(own)])
    assert "\n" not in str(caught.value)
    assert asked == [mirror + names[0] for mirror in MIRRORS]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_second_mirror_is_used_and_only_for_what_is_missing(tmp_path, internet, error):
    arrays, own = write_idx(tmp_path / "written"), tmp_path / "new" / "MNIST" / "raw"
    write_idx(own, gz=False, parts=["train"])

    def answer(url):
        name = url.rpartition("/")[2]
        assert not (own / name).exists()  # or half of it would stand there
        return (tmp_path / "written" / name).read_bytes() if url.startswith(MIRRORS[1]) else error

    asked = internet(answer)
    raw = mnist(tmp_path / "new", "mnist").read()
    np.testing.assert_array_equal(raw.parts["test"][0][:, 0], arrays["t10k-images-idx3-ubyte"])
    names = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    assert asked == [mirror + name for name in names for mirror in MIRRORS]
    assert sorted(p.name for p in own.iterdir()) == [*names, "train-images-idx3-ubyte", "train-labels-idx1-ubyte"]


def test_an_interrupted_download_leaves_nothing(tmp_path, internet):
    internet(lambda url: KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cifar(tmp_path).read()
    assert list(tmp_path.iterdir()) == []


def test_a_cifar_archive_is_downloaded_once(tmp_path, internet):
    written = write_archive(tmp_path / "server")
    asked = internet(lambda url: (tmp_path / "server" / url.rpartition("/")[2]).read_bytes())
    for _ in range(2):
        check_cifar(cifar(tmp_path / "root").read(), written)
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]


@pytest.mark.parametrize("root", ["file", "file/below", "/proc/nowhere", "~nobody-of-this-name/x"])
@pytest.mark.parametrize("source", [mnist, cifar])
def test_roots_that_cannot_be(tmp_path, internet, root, source):
    internet(lambda url: URLError("no network"))
    (tmp_path / "file").touch()
    root = root if root[0] in "/~" else str(tmp_path / root)
    with pytest.raises((ValueError, OSError)) as caught:
        source(root).read()
    assert root in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_in_a_cifar_batch_is_one_of_bytes(tmp_path):
    """A type that the file describes itself could make NumPy take bytes for pointers."""
    write_cifar(tmp_path)
    for array in (np.array([{}, []], dtype=object), np.zeros(3072), np.zeros(4, "S3072")):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": array, "labels": [0]}, 4))
        with pytest.raises(ValueError, match=r"data_batch_1: not a readable batch .* and only bytes"):
            cifar(tmp_path).read()


def test_two_runs_may_unpack_at_once(tmp_path, monkeypatch):
    written, replace = write_archive(tmp_path), os.replace

    def slower(source, target):
        if Path(target).name == "cifar-10-batches-py" and not Path(target).exists():
            shutil.copytree(source, target)  # the other run
        replace(source, target)

    monkeypatch.setattr("os.replace", slower)
    check_cifar(cifar(tmp_path).read(), written)

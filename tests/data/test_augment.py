"""Augmentation against loops over samples, torchvision's own transforms, and its promises."""

import numpy as np
import pytest
import torch
from conftest import COMMON
from torchvision.transforms.v2 import functional as theirs

from data import Augment
from data.augment import affine, crop, erase, flip
from data.digits import Digits

DTYPES = [torch.uint8, torch.float32]


def images(*shape, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, shape, generator=generator, dtype=torch.uint8).to(dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pad", ["zero", "reflect"])
@pytest.mark.parametrize("shape", [(9, 1, 8, 8), (5, 3, 6, 11), (1, 2, 7, 5)])
def test_a_crop_is_a_window_of_the_padded_image(dtype, pad, shape):
    x, p = images(*shape, dtype=dtype), 3
    down, across = torch.rand(2, shape[0], generator=generator())
    result = crop(x, p, pad, down, across)
    assert result.dtype == dtype
    for i, image in enumerate(x.numpy()):
        padded = np.pad(image, ((0, 0), (p, p), (p, p)), mode="constant" if pad == "zero" else pad)
        top, left = int(down[i] * 7), int(across[i] * 7)
        window = padded[:, top : top + shape[2], left : left + shape[3]]
        np.testing.assert_array_equal(result[i], window)


def test_the_corners_of_a_crop_are_reached_and_not_passed():
    x = images(2, 1, 4, 4)
    nearly_one = torch.tensor([0.0, 1.0 - 2**-24])
    result = crop(x, 1, "zero", nearly_one, nearly_one)
    np.testing.assert_array_equal(result[0, 0, 1:, 1:], x[0, 0, :3, :3])
    np.testing.assert_array_equal(result[1, 0, :3, :3], x[1, 0, 1:, 1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flip_mirrors_those_it_is_told_to(dtype):
    x, mirror = images(6, 3, 4, 5, dtype=dtype), torch.tensor([True, False, True, True, False, False])
    before = x.clone()
    result = flip(x, mirror)
    for i in range(6):
        np.testing.assert_array_equal(result[i], np.flip(x[i].numpy(), -1) if mirror[i] else x[i])
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 16, 24)])
def test_affine_is_torchvisions(shape):
    x = images(*shape, dtype=torch.float32)
    x[..., [0, -1], :] = x[..., [0, -1]] = 0  # torchvision blends a border with its fill in another way
    degrees = torch.tensor([0.0, 30.0, -12.5, 90.0])
    across, down = torch.tensor([0.25, 0.0, 0.125, 0.0]), torch.tensor([0.0, 0.25, -0.125, 0.0])
    result = affine(x, degrees, across, down)
    for i in range(4):
        shift = [across[i].item() * shape[3], down[i].item() * shape[2]]
        expected = theirs.affine(
            x[i], degrees[i].item(), shift, 1.0, [0.0, 0.0], interpolation=theirs.InterpolationMode.BILINEAR, fill=0
        )
        torch.testing.assert_close(result[i], expected, atol=0.02, rtol=1e-3)


def test_erasing_wipes_one_rectangle_of_the_stated_area():
    x = torch.ones(2000, 2, 32, 32)
    u = torch.rand(5, 2000, generator=generator())
    result = erase(x, 0.5, u)
    erased = result[:, 0] == 0
    assert torch.equal(result[:, 0], result[:, 1])
    hit = erased.flatten(1).any(1)
    assert abs(hit.float().mean() - 0.5) < 0.05
    for mask in erased[hit]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert all(side.nonzero().diff(dim=0).eq(1).all() for side in (rows, columns))
    share = erased[hit].float().mean((1, 2))
    assert 0.005 < share.min() < 0.04  # the borders of a rectangle fall between pixels
    assert 0.29 < share.max() < 0.36
    assert (erase(x, 0.0, u) == 1).all()
    assert (erase(x, 1.0, u) == 0).flatten(1).any(1).all()


def test_every_shift_and_both_sides_are_equally_likely():
    x = torch.zeros(30_000, 1, 5, 5, dtype=torch.uint8)
    x[:, 0, 2, 2], x[:, 0, 2, 3] = 200, 100  # a spot with a mark at its right
    augment = Augment(crop=1, flip=True)
    moved = augment.move(x, augment.draw(len(x), generator()))[:, 0]
    spots = (moved == 200).nonzero()
    assert len(spots) == 30_000
    counts = torch.bincount(spots[:, 1] * 5 + spots[:, 2], minlength=25)
    assert (counts > 0).sum() == 9
    assert counts[counts > 0].min() > 30_000 / 9 * 0.9
    to_the_right = (moved[:, :, :-1] == 200) & (moved[:, :, 1:] == 100)
    assert abs(to_the_right.flatten(1).any(1).float().mean() - 0.5) < 0.02


def digits(**augment):
    return Digits(**COMMON | {"augment": augment}).load()


def test_nothing_happens_unless_asked_for():
    plain = digits()
    assert not plain.augment.active
    index = torch.arange(50)
    expected = plain.batch("train", index)
    for a, b in zip(plain.batch("train", index, generator()), expected, strict=True):
        assert torch.equal(a, b)
    moving = digits(crop=2, flip=True, rotate=10, translate=0.1, erase=0.5, mixup=0.2)
    for a, b in zip(moving.batch("train", index), expected, strict=True):  # no generator: not for training
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "augment",
    [{"crop": 1}, {"crop": 2, "pad": "reflect"}, {"flip": True}, {"rotate": 15}, {"translate": 0.2}, {"erase": 0.9}],
    ids=str,
)
def test_it_repeats_from_the_generator_and_leaves_data_and_targets_alone(augment):
    dataset, index = digits(**augment), torch.arange(200)
    raw, (plain, y) = dataset.splits["train"][0].clone(), dataset.batch("train", index)
    first, again, other = (dataset.batch("train", index, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], plain)
    assert first[0].shape == plain.shape
    assert first[0].dtype == torch.float32
    assert torch.equal(first[1], y)
    assert torch.equal(dataset.splits["train"][0], raw)


@pytest.mark.parametrize("together", [1, 64 * 7, 64 * 64, 2**19])
def test_an_epoch_is_the_same_wherever_it_goes_on(monkeypatch, together):
    """And however many small batches are augmented at once."""
    dataset, cut = digits(crop=2, flip=True, erase=0.3, rotate=9), torch.arange(95).split(10)
    expected = list(dataset.batches("train", cut, seed=7))
    assert [len(x) for x, _ in expected] == [10] * 9 + [5]
    assert not torch.equal(expected[0][0], dataset.batch("train", cut[0])[0])
    assert not torch.equal(expected[0][0], next(dataset.batches("train", cut, seed=8))[0])
    same_images = list(dataset.batches("train", (cut[0], cut[0]), seed=7))
    assert not torch.equal(same_images[0][0], same_images[1][0])  # each batch draws anew
    monkeypatch.setattr("data.dataset.AUGMENTED", together)
    for start in (0, 1, 6, 9):
        got = list(dataset.batches("train", cut, seed=7, start=start))
        assert len(got) == 10 - start
        for (x, y), (u, v) in zip(got, expected[start:], strict=True):
            assert torch.equal(x, u)
            assert torch.equal(y, v)


def test_mixup_is_a_convex_combination():
    digits(mixup=1, cutmix=1).batch("train", torch.arange(8), generator())  # whole numbers will do
    dataset, index = digits(mixup=0.8), torch.arange(64)
    plain, labels = dataset.batch("train", index)
    torch.manual_seed(3)
    x, y = dataset.batch("train", index, generator())
    assert y.shape == (64, 10)
    torch.testing.assert_close(y.sum(1), torch.ones(64))
    own = y.gather(1, labels[:, None])[:, 0]
    mixed = labels != labels.roll(1)
    weight = own[mixed][0]
    assert 0 < weight < 1
    torch.testing.assert_close(x, weight * plain + (1 - weight) * plain.roll(1, 0))


def test_cutmix_mixes_labels_by_area():
    dataset, index = digits(cutmix=1.0), torch.arange(64)
    plain, labels = dataset.batch("train", index)
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = dataset.batch("train", index, generator())
        foreign = ((x == plain.roll(1, 0)) & (x != plain)).any(0)[0]  # pixels from the other image, in any of the batch
        mixed = labels != labels.roll(1)
        weight = y.gather(1, labels[:, None])[:, 0][mixed][0].item()
        assert 1 - weight == pytest.approx(foreign.float().mean().item(), abs=0.1)  # pixels that never change hide


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"crop": -1}, r"augment.crop=-1: must be in \[0, 32768\]"),
        ({"rotate": 181.0}, r"augment.rotate=181.0: must be in \[0, 180\]"),
        ({"translate": 1.0}, r"augment.translate=1.0: must be in \[0, 1\)"),
        ({"erase": 1.5}, r"augment.erase=1.5: must be in \[0, 1\]"),
        ({"mixup": -1.0}, "augment.mixup=-1.0: must be at least 0"),
        ({"cutmix": float("nan")}, "augment.cutmix=nan: must be at least 0"),
        ({"crop": 9}, "augment.crop=9: must be at most the image's shorter side, 8"),
        ({"crop": 8, "pad": "reflect"}, "augment.crop=8: reflects at most 7 pixels of such an image"),
    ],
)
def test_bad_values(augment, message):
    with pytest.raises(ValueError, match=message):
        digits(**augment)


def test_it_is_for_images_and_classes():
    from data.tables import SklearnTable

    with pytest.raises(ValueError, match=r"augment.flip=true: augmentation is for images .* not for 4"):
        SklearnTable(name="iris", **COMMON | {"augment": {"flip": True}}).load()
    with pytest.raises(ValueError, match=r"mixup=0\.5: mixes classes; the task is regression"):
        Augment(mixup=0.5).check("regression", (1, 8, 8))

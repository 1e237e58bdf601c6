"""Files of pictures as arrays: raster formats that Pillow decodes, with one size, depth and scale.

Shapes: C channels, H height, W width.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.TiffImagePlugin import TiffImageFile

from data.fingerprint import file_hash
from data.storage import one_line

# Only these, so that no file starts another program, as EPS does in Pillow.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
READ = ", ".join(endings[0] for endings in FORMATS.values())  # for messages
DEEP = (".png", *FORMATS["TIFF"], *FORMATS["PPM"], *FORMATS["JPEG2000"])  # may have 16 bits
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2, Pillow's weights of colours

# Pillow's warnings about many pixels, transparency and EXIF data are remarks or errors here.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Undecodable:
    """Why a file is no picture."""

    why: str


@dataclass(frozen=True)
class Picture:
    """A decoded picture (C, H, W), a hash of its file, and remarks about what was not read."""

    array: np.ndarray
    hash: int
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Decoder:
    """Decodes a file to an array: (C, H, W), uint8 from 0 to 255, or float32 from 0 to 65,535.

    Args:
        height, width: of the result.
        channels: 3 is colour, 1 is grey.
        fit: ``crop`` cuts the longer side at both ends, so that shapes keep their proportions; ``stretch`` does not.
        bits: 8 or 16 per channel; pictures of the other depth are scaled.
    """

    height: int
    width: int
    channels: int
    fit: str
    bits: int = 8

    def __call__(self, path: str) -> np.ndarray | Undecodable:
        """The picture in a file."""
        found = self.look(path)
        return found.array if isinstance(found, Picture) else found

    def look(self, path: str) -> Picture | Undecodable:
        """The picture in a file, with remarks."""
        content = b""
        try:
            content = Path(path).read_bytes()
            with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
                array, remarks = self._deep(image, content) if self.bits == 16 else self._plain(image)
        except Exception as error:  # damage raises many types
            return Undecodable(why_not(error, content))
        return Picture(array, file_hash(content), remarks)

    def _plain(self, image: Image.Image) -> tuple[np.ndarray, tuple[str, ...]]:
        """(C, H, W) uint8, and remarks."""
        mode, longer = "RGB" if self.channels == 3 else "L", max(self.width, self.height)
        remarks = seen_before(image)
        deep = bits_of(image) > 8
        # A JPEG is decoded at the smallest sufficient scale, also if it must still be rotated.
        image.draft(mode, (longer, longer))
        image.load()
        remarks += transparency(image)
        image, turned = upright(image)
        remarks += turned
        if image.mode.startswith("I"):  # Pillow would clip at 255
            image = Image.fromarray((sixteen_bits(image) >> 8).astype(np.uint8))
        if deep:
            remarks += ("16 bits, of which 8 were read",)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        array = np.asarray(self._sized(image.convert(mode)))
        return array.reshape(self.height, self.width, self.channels).transpose(2, 0, 1), remarks

    def _deep(self, image: Image.Image, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
        """(C, H, W) float32 from 0 to 65,535, and remarks."""
        remarks = seen_before(image)
        deep = bits_of(image) > 8
        image.load()
        remarks += transparency(image)
        array = upright_colours(image, content) if deep and not image.mode.startswith("I") else None
        if array is None:
            image, turned = upright(image)
            remarks += turned
            if image.mode.startswith("I"):
                array = sixteen_bits(image)[:, :, None].astype(np.float32)
            else:
                if deep:
                    remarks += ("16 bits per colour, of which 8 were read",)
                if image.mode == "P" and "transparency" in image.info:
                    image = image.convert("RGBA")
                colours = image.convert("RGB" if self.channels == 3 else "L")
                array = np.asarray(colours, np.float32).reshape(image.height, image.width, -1) * 257
        if self.channels == 1 and array.shape[2] == 3:
            array = (array @ GREY)[:, :, None]
        planes = [np.asarray(self._sized(Image.fromarray(np.ascontiguousarray(p)))) for p in array.transpose(2, 0, 1)]
        return np.stack(planes if len(planes) == self.channels else planes * self.channels), remarks

    def _sized(self, image: Image.Image) -> Image.Image:
        size, how = (self.width, self.height), Image.Resampling.BILINEAR
        return ImageOps.fit(image, size, how) if self.fit == "crop" else image.resize(size, how)


def bits_of(image: Image.Image) -> int:
    """Bits per channel of a picture that is opened and not yet loaded: 8 or more.

    Raises:
        ValueError: the numbers have no black and white, or Pillow would read them wrongly.
    """
    if isinstance(image, TiffImageFile):
        return bits_of_tiff(image)
    if isinstance(image, Jpeg2KImageFile):
        return bits_of_jpeg2000(image)
    tiles = str([tile.args for tile in getattr(image, "tile", ())])
    of_ppm = max((int(n) for n in re.findall(r", (\d+)\)", tiles)), default=0) if image.format == "PPM" else 0
    return 16 if image.mode.startswith("I") or of_ppm > 255 or (image.format == "PNG" and ";16" in tiles) else 8


def bits_of_tiff(image: TiffImageFile) -> int:
    """As :func:`bits_of`; for TIFF; accepts only kinds with more than 8 bits that Pillow reads correctly."""
    tags = image.tag_v2  # the numbers below are those of TIFF 6.0
    bits, samples, white_is_0 = max(tags.get(258, (1,))), tags.get(277, 1), tags.get(262, 1) == 0
    kind = max(tags.get(339, (1,)))
    if image.mode == "F" or kind == 3:
        raise ValueError("holds fractions, which have no black and white; give them as arrays, data=npz")
    odd = kind == 2 or bits not in (1, 2, 4, 8, 16, 32)
    if odd or (bits > 8 and (white_is_0 or (samples > 1 and tags.get(284, 1) == 2))):
        what = f"{bits} bits a sample" + (", signed" if kind == 2 else ", 0 for white" if white_is_0 else "")
        raise ValueError(f"a TIFF of a kind that is not read ({what}, {samples} samples); save it as PNG")
    return bits


def bits_of_jpeg2000(image: Jpeg2KImageFile) -> int:
    """As :func:`bits_of`, from the marker SIZ of the code stream (ISO 15444-1, A.5.1)."""
    file = image.fp
    assert file is not None  # before loading
    place = file.tell()
    file.seek(0)
    head = file.read(4096)
    file.seek(place)
    at = head.find(b"\xff\x51")
    return 8 if at < 0 or at + 40 >= len(head) else (head[at + 40] & 127) + 1


def sixteen_bits(image: Image.Image) -> np.ndarray:
    """The numbers of a grey picture of more than 8 bits (H, W), 0 to 65,535.

    Raises:
        ValueError: it has more than 16.
    """
    array = np.asarray(image).astype(np.int64)
    if array.min() < 0 or array.max() > 65_535:
        raise ValueError(f"holds {array.min():,} to {array.max():,}, more than 16 bits; give it as an array")
    return array


def upright_colours(image: Image.Image, content: bytes) -> np.ndarray | None:
    """A PNG with 16 bits per colour as (H, W, 3) float32; Pillow reads 8 bits. None for other formats."""
    if image.format != "PNG":
        return None
    import torch
    from torchvision.io import ImageReadMode, decode_image

    tensor = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
    turned = [np.asarray(upright(_plane(p.numpy(), image))[0]) for p in tensor.to(torch.float32)]
    return np.stack(turned, 2)


def _plane(values: np.ndarray, image: Image.Image) -> Image.Image:
    """One colour as a picture with the orientation of `image`."""
    plane = Image.fromarray(values)
    plane.getexif().update(image.getexif())
    return plane


def is_deep(path: str) -> bool:
    """Whether a file holds a picture of 16 bits, by its first bytes."""
    if not path.lower().endswith(DEEP):
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(25)
            if head.startswith(b"\x89PNG"):
                return head[24] == 16
            file.seek(0)
            with Image.open(file, formats=tuple(FORMATS)) as image:
                return bits_of(image) > 8
    except Exception:  # decoding it reports the mistake
        return False


def seen_before(image: Image.Image) -> tuple[str, ...]:
    """A remark about a file with several pictures; the second picture of a phone's photo is a preview."""
    several = image.format != "MPO" and getattr(image, "is_animated", False)
    if several:
        image.seek(0)
    return ("several frames: the first was read",) if several else ()


def transparency(image: Image.Image) -> tuple[str, ...]:
    """A remark about a picture with transparent parts."""
    if not (image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info):
        return ()
    opaque = image.convert("RGBA").getchannel("A").getextrema()[0] == 255
    return () if opaque else ("transparent parts, which were read as opaque",)


def upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """The image rotated by its EXIF data, and a remark if these are damaged."""
    try:
        image.getexif()  # the image keeps it
        image.info.pop("exif", None)  # else Pillow rewrites it, which may fail for other tags
        return ImageOps.exif_transpose(image), ()
    except Exception:  # damage raises many types
        return image, ("damaged EXIF data, and may be rotated",)


def why_not(error: Exception, content: bytes) -> str:
    """Why a file could not be decoded, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not content:
        return "the file is empty"
    if isinstance(error, Image.DecompressionBombError):
        has, limit = (int(number) for number in re.findall(r"\d+", str(error))[:2])
        return f"too many pixels: {has:,}, and Pillow's limit is {limit:,}"
    ends = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82", b"GIF8": b";"}
    cut = any(content.startswith(head) and end not in content[-64:] for head, end in ends.items())
    if cut or "truncated" in str(error):
        return f"truncated at byte {len(content):,}"
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a format that is read"
    return one_line(error) or type(error).__name__

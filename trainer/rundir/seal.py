"""A seal for zip files: with it, every byte of a file is covered by a check.

The CRC-32 of a zip file covers the content of its members. Nothing covers headers, padding and directory, where one bit
can turn a tensor into a folder. The seal is a hash of all those bytes; it is the file's comment, which other readers of
zip files ignore.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from typing import BinaryIO

LENGTHS = 26  # place of the lengths of name and extra field in a member's header
HEADER = 30  # bytes of a member's header before its name
LABEL = b"seal sha256 "
DIGITS = 64
COMMENT = len(LABEL) + DIGITS


def seal(file: BinaryIO) -> None:
    """Adds the seal to a whole zip file, open for reading and writing, that has no comment."""
    size = file.seek(0, 2)
    file.seek(size - 2)
    file.write(struct.pack("<H", COMMENT) + LABEL)
    with zipfile.ZipFile(file) as archive:
        digest = _digest(file, archive, size + len(LABEL))
    file.seek(size + len(LABEL))
    file.write(digest)


def check_seal(file: BinaryIO) -> bool:
    """Checks a zip file; returns whether it has a seal. Without one, only the content of its members is checked.

    Raises:
        ValueError, zipfile.BadZipFile, …: something is damaged.
    """
    size = file.seek(0, 2)
    if size == 0:
        raise ValueError("the file is empty")
    file.seek(max(0, size - COMMENT - 2))
    end = file.read()
    sealed = end[: 2 + len(LABEL)] == struct.pack("<H", COMMENT) + LABEL
    with zipfile.ZipFile(file) as archive:
        if sealed and _digest(file, archive, size - DIGITS) != end[-DIGITS:]:
            raise ValueError("a header or the directory of the file is damaged")
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("a member is compressed, which torch never does")  # and could expand to terabytes
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
    return sealed


def _digest(file: BinaryIO, archive: zipfile.ZipFile, end: int) -> bytes:
    """The hash, in hexadecimal digits, of all bytes up to `end` that are not content of a member."""
    found, at = hashlib.sha256(), 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        file.seek(member.header_offset + LENGTHS)
        content = member.header_offset + HEADER + sum(struct.unpack("<HH", file.read(4)))
        file.seek(at)
        found.update(file.read(content - at))
        at = content + member.compress_size
    file.seek(at)
    found.update(file.read(end - at))
    return found.hexdigest().encode()

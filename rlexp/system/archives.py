"""`.npz` and `.keras` files: their sizes are read, and compared with what is on the disk, before anything is unpacked.

What rlexp, NumPy and Keras write is stored and not compressed, so that an archive holds what its size says; one that
unpacks to more than that is not theirs.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

MAX_JSON = 16 * 2**20  # bytes of a model's config.json or metadata.json
KERAS_FILES = ("metadata.json", "config.json", "model.weights.h5")


@contextlib.contextmanager
def open_npz(path: Path, most: int | None = None) -> Iterator[Any]:
    """`numpy.load` of an npz file, once the shape, the type and the size of each array in it are known to be right.

    Args:
        path: the file.
        most: bytes that an array may have at most.

    Raises:
        ValueError: says what is wrong with it.
    """
    with path.open("rb") as file:
        with _archive(file) as archive:
            for member in archive.infolist():
                _check_array(archive, member, most)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays


def check_keras(path: Path) -> dict[str, Any]:
    """Look into a `.keras` file without making anything of it; its config.

    Raises:
        ValueError: for compressed or foreign members, weights that are larger than their file or lie in another one,
            and JSON that is too large.
    """
    import h5py

    with path.open("rb") as file, _archive(file) as archive:
        names = archive.namelist()
        for name in KERAS_FILES:
            if name not in names:
                raise ValueError(f"there is no {name} in it")
        for name in set(names) - set(KERAS_FILES):
            parts = PurePosixPath(name).parts
            if parts[:1] != ("assets",) or ".." in parts or "\\" in name:
                raise ValueError(f"it holds {name[:80]!r}, which no Keras model does")
        config: dict[str, Any] = _json(archive, "config.json")
        weights = archive.read("model.weights.h5")  # stored, so no more than the file
    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            _check_group(file, len(weights))
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"weights that are no HDF5 file: {error}") from error
    return config


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON member of a `.keras` file; raises ValueError."""
    with path.open("rb") as file, _archive(file) as archive:
        return _json(archive, name)


def num_weights(path: Path) -> int:
    """Numbers that the weights of a checked `.keras` file hold."""
    import h5py

    total = 0

    def add(name: str, node: Any) -> None:
        nonlocal total
        total += int(node.size or 0) if isinstance(node, h5py.Dataset) else 0

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        file.visititems(add)
    return total


@contextlib.contextmanager
def _archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    with archive:
        members, size = archive.infolist(), file.seek(0, 2)
        if len({member.filename for member in members}) < len(members):
            raise ValueError("an archive with two files of one name")
        for member in members:
            if member.flag_bits & 1:
                raise ValueError("an archive that is encrypted")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise ValueError(
                    f"{member.filename[:80]!r} is compressed, {member.file_size:,} bytes if it is unpacked"
                )
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise ValueError(f"an archive of {size:,} bytes that would be {unpacked:,} unpacked")
        yield archive


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"there is no {name} in it") from None
    if member.file_size > MAX_JSON:
        raise ValueError(f"{name} has {member.file_size:,} bytes")
    try:
        value = json.loads(archive.read(member))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds no mapping but {type(value).__name__}")
    return value


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int | None) -> None:
    name = member.filename[:80]
    try:
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"version {version} of the npy format")
            shape, _, dtype = read[version](file)
            header = file.tell()
    except (zipfile.BadZipFile, SyntaxError, TypeError, EOFError) as error:
        raise ValueError(f"{name}: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"{name} has the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size != member.file_size - header:
        raise ValueError(f"{name} has {member.file_size - header:,} bytes where its shape {shape} needs {size:,}")
    if most is not None and size > most:
        raise ValueError(f"{name} has {size:,} bytes, where this job's has at most {most:,}")


def _check_group(file: Any, size: int) -> None:
    """No links of any kind out of an HDF5 file, and no data that is larger than the file."""
    import h5py

    left, groups = size, [file]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"a link to elsewhere, {name[:80]!r}, among the weights")
            node = group[name]
            if isinstance(node, h5py.Group):
                left -= 8  # so that groups which hold each other come to an end
                groups.append(node)
            else:
                _check_dataset(node, name)
                left -= int(node.size or 0) * node.dtype.itemsize
            if left < 0:
                raise ValueError(f"weights larger than their file of {size:,} bytes")


def _check_dataset(node: Any, name: str) -> None:
    import h5py

    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{name[:80]!r} among the weights is no array")
    if node.external or node.is_virtual:
        raise ValueError(f"the weights {name[:80]!r} lie in another file")
    if node.dtype.hasobject:
        raise ValueError(f"the weights {name[:80]!r} hold no numbers")

"""Checks of `.npz` and `.keras` files before anything is unpacked: declared sizes must match the bytes on the disk.

rlexp, NumPy and Keras store their archives uncompressed, so an archive that would unpack to more than its own size was
not written by them.
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
    """Check the shape, the type and the size of each array in an npz file, then open it with `numpy.load`.

    Args:
        path: the file.
        most: the largest permitted size of an array in bytes; None: no limit.

    Raises:
        ValueError: if an array is not what its header declares, or too large; the message says why.
    """
    with path.open("rb") as file:
        with _archive(file) as archive:
            for member in archive.infolist():
                _check_array(archive, member, most)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays


def check_keras(path: Path) -> dict[str, Any]:
    """Check a `.keras` file without building its model, and return its config.

    Raises:
        ValueError: for compressed or foreign members, weights that are larger than their file or stored in another
            one, and JSON that is too large.
    """
    import h5py

    with path.open("rb") as file, _archive(file) as archive:
        names = archive.namelist()
        for name in KERAS_FILES:
            if name not in names:
                raise ValueError(f"it contains no {name}")
        for name in set(names) - set(KERAS_FILES):
            parts = PurePosixPath(name).parts
            if parts[:1] != ("assets",) or ".." in parts or "\\" in name:
                raise ValueError(f"it contains {name[:80]!r}, which is no part of a Keras model")
        config: dict[str, Any] = _json(archive, "config.json")
        weights = archive.read("model.weights.h5")  # uncompressed, so no larger than the file
    try:
        with h5py.File(io.BytesIO(weights), "r") as file:
            _check_group(file, len(weights))
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"its weights are not an HDF5 file: {error}") from error
    return config


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The mapping in a JSON member of a `.keras` file; raises ValueError."""
    with path.open("rb") as file, _archive(file) as archive:
        return _json(archive, name)


def num_weights(path: Path) -> int:
    """The number of scalars in the weights of a checked `.keras` file."""
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
            raise ValueError("an archive that contains two files of one name")
        for member in members:
            if member.flag_bits & 1:
                raise ValueError("an archive that is encrypted")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise ValueError(
                    f"{member.filename[:80]!r} is compressed, and {member.file_size:,} bytes when unpacked"
                )
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise ValueError(f"an archive of {size:,} bytes that would unpack to {unpacked:,}")
        yield archive


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"it contains no {name}") from None
    if member.file_size > MAX_JSON:
        raise ValueError(f"{name} has {member.file_size:,} bytes")
    try:
        value = json.loads(archive.read(member))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds {type(value).__name__}, not a mapping")
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
        raise ValueError(f"{name} has {member.file_size - header:,} bytes, but its shape {shape} needs {size:,}")
    if most is not None and size > most:
        raise ValueError(f"{name} has {size:,} bytes; this job's has at most {most:,}")


def _check_group(file: Any, size: int) -> None:
    """Raise ValueError for links out of an HDF5 file, and for data that is larger than the file."""
    import h5py

    left, groups = size, [file]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"the weights {name[:80]!r} are a link")
            node = group[name]
            if isinstance(node, h5py.Group):
                left -= 8  # ends the walk over groups that contain each other
                groups.append(node)
            else:
                _check_dataset(node, name)
                left -= int(node.size or 0) * node.dtype.itemsize
            if left < 0:
                raise ValueError(f"weights larger than their file of {size:,} bytes")


def _check_dataset(node: Any, name: str) -> None:
    import h5py

    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"the weights {name[:80]!r} are not an array")
    if node.external or node.is_virtual:
        raise ValueError(f"the weights {name[:80]!r} are stored in another file")
    if node.dtype.hasobject:
        raise ValueError(f"the weights {name[:80]!r} are not numbers")

"""The modules that a stored configuration may name: those of this package and of installed distributions.

Any other module on `sys.path` (in the working directory, PYTHONPATH, a folder beside the job) may have come with the
folder that names it. The check imports nothing; `importlib.util.find_spec("a.b")` would import `a`.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.metadata
import json
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from rlexp.system import packages, search_path
from rlexp.system.errors import refusal
from rlexp.system.text import clean

ENTRY_POINTS = (("algo", "name", "rlexp.algos"), ("network", "name", "rlexp.networks"), ("env", "id", "rlexp.envs"))

WRITING = ("RecordVideo",)  # wrappers of Gymnasium that write to a path in their arguments


def check_config(config: Any, where: str, allow: bool = False) -> None:
    """Refuse a stored configuration that names modules outside installed distributions; imports nothing.

    Args:
        config: the nested mapping, not yet checked.
        where: the file it was read from, for the message.
        allow: skip the check, because the user has agreed to run the modules.

    Raises:
        Refusal: for the first such module; names it and its file. Also for wrappers that write files.
    """
    if not allow:
        check(named_modules(config), where)
        for entry in _list(_get(config, "env", "wrappers")):
            if _wrapper(entry).rpartition(".")[2].rpartition(":")[2] in WRITING:
                raise refusal(
                    f"{where}: env.wrappers", "wrappers that write no files", repr(_wrapper(entry)),
                    "If you trust it: --allow-imports (in Python: allow_imports=True) takes it.",
                )  # fmt: skip


def named_modules(config: Any) -> list[str]:
    """The modules that a configuration names, directly or through another package's entry point."""
    found = [str(name) for name in _list(_get(config, "env", "imports"))]
    for entry in _list(_get(config, "env", "wrappers")):
        path = _wrapper(entry)
        if "." in path or ":" in path:  # a bare name is one of Gymnasium's own
            found.append(path.partition(":")[0] if ":" in path else path.rpartition(".")[0])
    for group, key, points in ENTRY_POINTS:
        name = _get(config, group, key)
        if not isinstance(name, str):
            continue
        if group != "algo" and ":" in name:
            found.append(name.partition(":")[0])
        found += [point.module for point in importlib.metadata.entry_points(group=points) if point.name == name]
    return [*found, *_registering_modules(str(_get(config, "env", "id")))]


def _registering_modules(env_id: str) -> list[str]:
    """The modules that `rlexp.envs.plugins` imports because they may register an id."""
    namespace = env_id.partition("/")[0] if "/" in env_id else "__root__"
    points = importlib.metadata.entry_points(group="gymnasium.envs")
    known = [module for start, module in packages.IDS.items() if env_id.startswith(start) and origin(module)]
    return [*(point.module for point in points if point.name == namespace), *known]


def _wrapper(entry: Any) -> str:
    """The class path in an entry of `env.wrappers`."""
    return str(entry.get("name") if isinstance(entry, dict) else entry)


def _get(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def check(names: Iterable[str], where: str, allow: bool = False) -> None:
    """Refuse names of modules ("a.b", "a.b:attribute") that belong to no installed distribution; imports nothing."""
    for name in [] if allow else names:
        module = name.partition(":")[0]
        if not installed(module):
            file = origin(module)
            source = f"which would come from {file}" if file else "which is not found here"
            raise refusal(
                where,
                "modules of installed distributions only",
                f"{clean(module, newlines=False)!r}, {source}",
                "If you trust it: --allow-imports (in Python: allow_imports=True) imports it and runs its code.",
            )


def installed(module: str) -> bool:
    """Whether a module, as Python would import it now, belongs to this package or an installed distribution."""
    places = _places(module)
    return bool(places) and all(_is_distributed(module, place) for place in places)


def origin(module: str) -> str | None:
    """The file or folder from which a module would be imported with `--allow-imports`; None if there is none."""
    return next(iter(map(str, _places(module, search_path.left_out) or _places(module))), None)


def _places(module: str, first: str | None = None) -> list[Path]:
    """The file of a module, or the folders of a namespace package; empty if there is no such module."""
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    spec = importlib.machinery.PathFinder.find_spec(parts[0], [first]) if first else _find_top(parts[0])
    if spec is None:
        return []
    file, folders = _where(spec)
    for end in range(2, len(parts) + 1):
        try:
            spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:end]), list(map(str, folders)))
        except KeyError:  # a namespace package inside another one that is not imported
            file, folders = None, [place / parts[end - 1] for place in folders if (place / parts[end - 1]).is_dir()]
            continue
        if spec is None:
            return []
        file, folders = _where(spec)
    return [file] if file else folders


def _where(spec: importlib.machinery.ModuleSpec) -> tuple[Path | None, list[Path]]:
    """The file of a module, if it has one, and the folders of a package."""
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if spec.has_location and spec.origin:
        return Path(spec.origin), folders
    return (None, folders) if folders else (Path(str(spec.origin or spec.name)), [])  # built in


def _find_top(name: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of a top-level module; finding one imports nothing."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None)
        except (ImportError, AttributeError, ValueError):
            continue
        if spec is not None:
            return spec
    return None


def _is_distributed(module: str, place: Path) -> bool:
    """Whether a module's file or folder belongs to this package or to an installed distribution."""
    try:
        place = place.resolve()
    except (OSError, RuntimeError):
        return False
    if place.is_relative_to(Path(search_path.PACKAGE).resolve()):
        return module.partition(".")[0] == "rlexp"
    roots = [root for root in site_folders() if place.is_relative_to(root)]
    if any(_listed(place.relative_to(root).as_posix(), root) for root in roots):
        return True
    return any(place in (base / f"{top}.py", base / top) or place.is_relative_to(base / top)
               for top, base in _editable() if top == module.partition(".")[0])  # fmt: skip


@functools.cache
def site_folders() -> tuple[Path, ...]:
    """The folders in which distributions are installed; never the working directory or an entry of PYTHONPATH."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return tuple(dict.fromkeys(Path(place).resolve() for place in found if place and Path(place).is_dir()))


@functools.cache
def _distributions() -> dict[Path, list[Distribution]]:
    return {root: list(importlib.metadata.distributions(path=[str(root)])) for root in site_folders()}


@functools.cache
def _listed(relative: str, root: Path) -> bool:
    """Whether a distribution lists a file, or a file in a folder. Old distributions list only their packages."""
    top = relative.partition("/")[0].removesuffix(".py")
    for distribution in _distributions()[root]:
        record = distribution.read_text("RECORD")
        if record is not None:
            if re.search(rf'^"?{re.escape(relative)}["/,]', record, re.MULTILINE):
                return True
        elif top in (distribution.read_text("top_level.txt") or "").split():
            return True
    return False


@functools.cache
def _editable() -> tuple[tuple[str, Path], ...]:
    """The top-level names of distributions installed in place (`pip install -e`), with the folders around them."""
    found: list[tuple[str, Path]] = []
    for root, distributions in _distributions().items():
        for distribution in distributions:
            project = _project(distribution)
            if project is not None:
                found += [
                    (top, base)
                    for top, base in _editable_modules(distribution, root)
                    if base == project or project in base.parents
                ]
    return tuple(found)


def _project(distribution: Distribution) -> Path | None:
    """The project folder of a distribution installed in place; None for others."""
    try:
        source = json.loads(distribution.read_text("direct_url.json") or "{}")
        if source["dir_info"]["editable"] is not True:
            return None
        return Path(unquote(urlsplit(source["url"]).path)).resolve()
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None


def _editable_modules(distribution: Distribution, root: Path) -> Iterator[tuple[str, Path]]:
    """The top-level names from a distribution's `.pth` files and setuptools' finders, with their folders."""
    name = re.sub(r"[-_.]+", "_", str(distribution.metadata["Name"]))
    tops = (distribution.read_text("top_level.txt") or "").split() or [name, name.lower()]
    for file in distribution.files or []:
        if len(file.parts) > 1:
            continue
        path = root / file.name
        if file.suffix == ".pth" and path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    yield from ((top, (root / line.strip()).resolve()) for top in tops)
        finder: ModuleType | None = sys.modules.get(path.stem) if file.name.startswith("__editable__") else None
        for top, place in getattr(finder, "MAPPING", {}).items():
            yield str(top), Path(place).resolve().parent

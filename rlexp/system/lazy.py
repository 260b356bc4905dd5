"""Modules of a package as its attributes, imported when they are asked for: `rlexp.report.study.write(...)`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from typing import Any


def modules_of(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: its name.
    """

    def found() -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(sys.modules[package].__path__))
        return sorted(name for name in names if not name.startswith("_"))

    def get(name: str) -> Any:
        if name in found():
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(sys.modules[package]), *found()})

"""Paths of the shipped configuration files."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """The folder `conf`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def configured(group: str) -> list[str]:
    """The sorted names of the YAML files in one group, e.g. `configured("env")`."""
    root = conf_dir() / group
    return sorted(str(Path(p).relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))

"""What fastconv finds on this machine: ``fastconv info``."""

from __future__ import annotations

import json
import platform
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from . import __version__, dispatch

__all__ = ["gather", "render"]

PACKAGES = ("numpy", "cffi", "numba")


def gather() -> dict[str, Any]:
    """Versions, processor, instruction sets, backends, threads. Where something is unusable, its value is the reason."""
    backends = dispatch.backends()
    return {
        "versions": {
            "fastconv": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "isas": _isas(backends["c"]),
        "backends": backends,
        "forced_backend": dispatch.forced_backend(),
        "threads": import_module(f"{__package__}.threads").get_num_threads(),
    }


def render(info: dict[str, Any], as_json: bool = False) -> str:
    """``gather()``'s result as text, or as JSON."""
    if as_json:
        return json.dumps(info, indent=2)
    current = info["isas"]["current"]
    sections = {
        "versions": {name: version or "not installed" for name, version in info["versions"].items()},
        "machine": {"platform": info["platform"], "cpu": info["cpu"], "threads": info["threads"]},
        "instruction sets": {
            name: (reason or "usable") + (", in use" if name == current else "")
            for name, reason in info["isas"]["known"].items()
        }
        or {"c": info["backends"]["c"]},
        "backends": {
            name: (reason or "usable") + (", forced" if name == info["forced_backend"] else "")
            for name, reason in info["backends"].items()
        },
    }
    width = max(len(name) for section in sections.values() for name in section)
    return "\n".join(
        line
        for title, section in sections.items()
        for line in (title, *(f"  {name:<{width}}  {value}" for name, value in section.items()))
    )


def cpu_model() -> str:
    """The processor's name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _isas(unusable: str | None) -> dict[str, Any]:
    if unusable:
        return {"current": None, "known": {}}
    c = import_module(f"{__package__}.backends.c")
    return {"current": c.current_isa(), "known": c.isas()}

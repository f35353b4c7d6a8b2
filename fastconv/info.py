"""What fastconv finds on this machine: ``fastconv info``."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

from ._threads import get_num_threads
from ._version import __version__
from .backends import backend, backends, usable
from .backends.base import isa_of
from .machine import cpu_model
from .settings import settings

__all__ = ["gather", "problems", "render"]

PACKAGES = ("numpy", "cffi", "numba")


def gather() -> dict[str, Any]:
    """Versions, processor, threads; instruction sets and backends, each with None if usable and the reason if not.

    ``"isa"`` and ``"backend"`` name the instruction set in use and the forced backend; ``"problems"`` says what the
    environment forces that cannot run here.
    """
    isas = backend("c").isas()
    isa, wrong_isa = _attempt(lambda: isa_of(isas, settings().isa) if isas else None)
    forced, wrong_backend = _attempt(_forced_backend)
    threads, wrong_threads = _attempt(get_num_threads)
    return {
        "versions": {
            "fastconv": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        },
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "threads": threads,
        "isas": isas,
        "isa": isa,
        "backends": backends(),
        "backend": forced,
        "problems": [problem for problem in (wrong_isa, wrong_backend, wrong_threads) if problem],
    }


def problems() -> list[str]:
    """What the environment forces that cannot run here; empty if all is well."""
    return gather()["problems"]


def render(info: dict[str, Any], as_json: bool = False) -> str:
    """``gather()``'s result as text, or as JSON."""
    if as_json:
        return json.dumps(info, indent=2)
    sections = {
        "versions": {name: version or "not installed" for name, version in info["versions"].items()},
        "machine": {name: info[name] for name in ("platform", "cpu", "threads") if info[name] is not None},
        "instruction sets of the c backend": _usability(info["isas"], info["isa"], "in use"),
        "backends": _usability(info["backends"], info["backend"], "forced"),
        "problems": {f"{i}.": problem for i, problem in enumerate(info["problems"], 1)},
    }
    lines = []
    for title, section in sections.items():
        if section:
            lines += [title, *(f"  {name:<10} {value}" for name, value in section.items())]
    return "\n".join(lines)


def _usability(reasons: dict[str, str | None], chosen: str | None, mark: str) -> dict[str, str]:
    return {
        name: (f"not usable: {reason}" if reason else "usable") + (f", {mark}" if name == chosen else "")
        for name, reason in reasons.items()
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _attempt(question: Callable[[], Any]) -> tuple[Any, str | None]:
    """The answer and None, or None and what is wrong."""
    try:
        return question(), None
    except (ValueError, RuntimeError) as error:
        return None, str(error)


def _forced_backend() -> str | None:
    """RuntimeError if it cannot run here."""
    name = settings().backend
    return name if name is None else usable(name).name

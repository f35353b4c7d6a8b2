"""What this process finds on its machine: the processor, and where the user's caches lie."""

from __future__ import annotations

import os
import platform
import stat
import sys
from pathlib import Path

__all__ = ["cache_directory", "cpu_model", "private_directory"]


def cpu_model(cpuinfo: str | Path = "/proc/cpuinfo") -> str:
    """The processor's name as the operating system gives it.

    For ARM cores Linux has no name but numbers (implementer, part, variant, revision): those of each kind of core.
    """
    try:
        text = Path(cpuinfo).read_text(errors="replace")
    except OSError:
        text = ""
    architecture = platform.processor() or platform.machine()
    cores = []
    for core in text.split("\n\n"):
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in core.splitlines())}
        if name := fields.get("model name"):
            return name
        numbers = [f"{key} {fields[f'CPU {key}']}" for key in _ARM if f"CPU {key}" in fields]
        if numbers:
            cores.append(", ".join(numbers))
    return "; ".join([architecture, *dict.fromkeys(cores)])


_ARM = ("implementer", "part", "variant", "revision")


def cache_directory() -> Path | None:
    """Where this user's caches of fastconv lie: ``FASTCONV_CACHE``, else the platform's place. None: that is ``off``.

    Whatever fastconv keeps from one process to the next is below it.
    """
    own = os.environ.get("FASTCONV_CACHE")
    if own == "off":
        return None
    if own:
        return Path(own)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(root) / "fastconv"


def private_directory(path: Path) -> None:
    """Make ``path`` if it is not there; PermissionError if anybody but this user could put files into it.

    Code that is loaded from a directory must not be anybody else's.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):
        return
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}, who runs this process")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written to by others (mode {stat.S_IMODE(found.st_mode):o})")

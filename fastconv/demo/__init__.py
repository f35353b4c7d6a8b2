"""``fastconv demo``: photographs filtered, digits learned, backends compared, in under two minutes."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from .. import info

__all__ = ["Unusable", "run"]

#: Packages by the name that they are imported under.
PACKAGES = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "safetensors": "safetensors",
}


class Unusable(Exception):
    """The demo cannot start; the message says why, and what to do."""


def run(output: Path, seed: int = 0, epochs: int | None = None) -> list[str]:
    """Run the demo, write its files into ``output``, and return what went wrong: nothing, if all is well.

    ``epochs=None`` is as many as the required accuracy needs. Raises ``Unusable``, before any work, if a package is
    missing, ``output`` cannot be written to, or the environment forces what this machine does not have.
    """
    if problems := info.problems():
        raise Unusable("; ".join(problems))
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise Unusable(f'missing packages: {", ".join(missing)}; install them with: pip install "fastconv[demo]"')
    _prepare(output)
    from .story import tell

    return tell(output, seed, epochs)


def _prepare(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise Unusable(f"cannot write into the output directory {str(output)!r}: {error.strerror}") from error

"""The numbers by which an algorithm of the convolution is taken or passed over, as ``heuristics.def`` has them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

__all__ = ["HEURISTICS"]


def _numbers() -> dict[str, int]:
    text = Path(__file__).with_suffix(".def").read_text(encoding="utf-8")
    return {name: int(value) for name, value in re.findall(r"^FC_HEURISTIC\((\w+), (\d+)\)", text, re.MULTILINE)}


#: One attribute a number: ``HEURISTICS.WINOGRAD_CHANNELS``.
HEURISTICS = SimpleNamespace(**_numbers())

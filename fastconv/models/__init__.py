"""Networks, built from ``fastconv.nn``."""

from .lenet import lenet5

__all__ = ["lenet5"]

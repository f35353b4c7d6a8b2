"""Pooling. ``kernel``: the operator; ``blocks``: compiled, blocks of channels of an image; ``windows``: vectors of
windows, of which they are made.
"""

from .kernel import pool_kernel

__all__ = ["pool_kernel"]

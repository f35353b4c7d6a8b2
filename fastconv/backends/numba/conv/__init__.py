"""Convolution in its three directions. ``kernel``: the operator, which takes an algorithm; ``layer``: the sizes, phases
and address steps that all of them begin with.

``implicit_gemm``: products; ``winograd``: fewer products; ``direct``, ``depthwise_strips`` and ``depthwise_pixels``:
taps that weigh rows, by the register tiles of ``tiles`` and the jobs of ``walk``; ``strips``: rows of pixels as vectors
of channels.
"""

from .kernel import ConvKernel

__all__ = ["ConvKernel"]

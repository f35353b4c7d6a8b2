"""Matrix products. ``kernel``: the operator; ``product``: products of matrices that are described by strides, which
convolutions run on, too; ``operands``: those descriptions; ``multiply``: the compiled blocks; ``packing``: panels of an
operand; ``tiles``: the register tiles.
"""

from .kernel import GemmKernel

__all__ = ["GemmKernel"]

"""Winograd's algorithms. ``schemes``: which layers they compute, by which tiles, and whether it pays; ``plan``: one for
arrays of given steps; ``multiply``: compiled, its pieces; ``transforms``, of ``square`` and ``line``: to values and
back; ``range``: which values of a call the tiles cannot be trusted with.
"""

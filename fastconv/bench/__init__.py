"""``fastconv bench``: fastconv beside its peers, layer by layer, every contender in a process of its own.

``layers``: what is measured. ``peers``: who. ``measure``: how, on ``clock``. ``report`` and ``plots``: what is shown.
"""

"""``fastconv bench``: fastconv beside its peers, layer by layer, every contender in a process of its own.

``layers``: what is measured. ``peers``: who. ``measure``: how, on ``clock``. ``report`` and ``plots``: what is shown.
"""

#: What the command line says of it, without importing the rest.
HELP = "speed, layer by layer, beside other packages (pip install 'fastconv[bench]')"

"""The backends, one folder each; ``base.py`` is their contract. Nothing is imported until dispatch asks for it."""

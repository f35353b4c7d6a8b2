"""The version, on the ground floor: the build and the caches' names read it."""

__version__ = "0.1.0"

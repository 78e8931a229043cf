"""ipymini: a Jupyter kernel for Python, in Python. This file names the version and imports nothing."""

__version__ = "0.1.0"

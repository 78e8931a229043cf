"""ipython: IPython's shell as a kernel needs it."""

"""cellfile: the file name that a cell is compiled under, which debuggers, numba and tracebacks agree on.

Knows the hash and the compiler's cache; writes no files (the debugger's dumpCell does).
"""

import os
import tempfile

from IPython.core.compilerop import CachingCompiler

HASH_SEED = 0xC70F6907  # frontends compute the same names: debugInfo tells them the seed
_MASK, _M = 0xFFFFFFFF, 0x5BD1E995


def murmur2(data: bytes, seed: int = HASH_SEED) -> int:
    """Return the 32-bit MurmurHash2 of the data. Austin Appleby's public-domain algorithm."""
    length = len(data)
    value = (seed ^ length) & _MASK
    whole = length & ~3
    for start in range(0, whole, 4):
        k = (int.from_bytes(data[start : start + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        value = ((value * _M) & _MASK) ^ k
    if whole < length:
        value = ((value ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    value = ((value ^ (value >> 13)) * _M) & _MASK
    return value ^ (value >> 15)


def prefix() -> str:
    """Return the directory of this process's cells, with a separator at its end.

    Its name is the one that numba, joblib and stack_data recognise as a notebook's.
    """
    return os.path.join(tempfile.gettempdir(), f"ipykernel_{os.getpid()}") + os.sep


def name(code: str) -> str:
    """Return the file name of a cell; the environment's IPYKERNEL_CELL_NAME overrides it."""
    return os.environ.get("IPYKERNEL_CELL_NAME") or f"{prefix()}{murmur2(code.encode('utf-8', 'replace'))}.py"


class CellCompiler(CachingCompiler):
    """IPython's compiler, with our file names; linecache gets each cell's text as in IPython."""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """Return the file name for a cell: equal code, equal name."""
        return name(raw_code)

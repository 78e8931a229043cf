"""Three subshells for a test."""

from collections.abc import Iterator

import pytest
from harness import KernelUnderTest
from subshells import create, delete, gone, listed


@pytest.fixture
def subshells(kernel: KernelUnderTest) -> Iterator[list[str]]:
    """Three subshells, deleted after the test; nothing of them must be left."""
    ids = [create(kernel) for _ in range(3)]
    yield ids
    for one in listed(kernel):
        delete(kernel, one)
    gone(kernel)

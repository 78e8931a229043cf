"""conftest: the kernel that tests share, and one of their own for those that end or wound it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import KernelUnderTest, start_kernel


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[KernelUnderTest]:
    """One kernel for a module's tests."""
    with start_kernel() as kernel:
        yield kernel


@pytest.fixture
def kernel(shared_kernel: KernelUnderTest) -> Iterator[KernelUnderTest]:
    """The module's kernel, checked to be alive and right after the test."""
    yield shared_kernel
    assert shared_kernel.execute("40 + 2")[1] == ["execute_result:42"]


@pytest.fixture
def own_kernel() -> Iterator[KernelUnderTest]:
    """A kernel of the test's own."""
    with start_kernel() as kernel:
        yield kernel

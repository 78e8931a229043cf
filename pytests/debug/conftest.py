"""conftest: clients that are attached to a kernel."""

from collections.abc import Iterator

import pytest
from debug_client import Client
from harness import KernelUnderTest


@pytest.fixture
def client(kernel: KernelUnderTest) -> Iterator[Client]:
    """An attached client of the module's kernel; detached afterwards."""
    client = Client(kernel)
    client.start()
    yield client
    client.ask("disconnect")
    client.ask("setExceptionBreakpoints", filters=[])


@pytest.fixture
def own_client(own_kernel: KernelUnderTest) -> Client:
    """An attached client of a kernel that the test may wound."""
    client = Client(own_kernel)
    client.start()
    return client

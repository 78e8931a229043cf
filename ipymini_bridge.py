"""ipymini_bridge: the comm manager's surface, for tests and tools. Re-exports only."""

from comm import create_comm, get_comm_manager

from ipymini.comms import Comm, Comms

__all__ = ["Comm", "Comms", "create_comm", "get_comm_manager"]

"""ipymini_bridge: the comm manager's surface for tests of other packages. Re-exports, no logic."""

from comm import create_comm, get_comm_manager

from ipymini.ipython.comms import Comm

__all__ = ["Comm", "create_comm", "get_comm_manager"]

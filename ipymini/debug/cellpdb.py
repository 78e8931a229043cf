"""cellpdb: IPython's pdb, which walks through cells and never stops in the kernel around them. Prompts for nothing.

pdb steps by trace events, and after the last line of a cell the next event is the kernel's: it shows the result,
makes a message of it, waits for the next cell. None of that is the user's; user code that it calls (a repr) is.
"""

import sys
from types import FrameType
from typing import Any

from IPython.core.debugger import InterruptiblePdb

from ipymini.debug.pydevd_workarounds import is_kernels, module_of

# Events of the frames that run a cell. Lines are seen in those only that were there when the stop came.
STATEMENT_ENDS = ("line", "IPython.core.interactiveshell", "run_ast_nodes")
CELL_ENDS = [("line", "ipymini.bridge", "_run_cell"), ("call", "ipymini.debug.requests", "enter_cell")]  # of the next


class CellPdb(InterruptiblePdb):
    """An interrupt at its prompt ends the cell, as it does at any other prompt; IPython's Pdb would ask again."""

    _in_kernel = False  # whether the kernel itself is what is debugged: `breakpoint()` in its code

    _interrupt: KeyboardInterrupt | None = None  # the one that met the prompt

    def cmdloop(self, intro: Any = None) -> None:
        """Ask for commands, until one lets the program go on, or an interrupt ends the debugger."""
        try:
            super().cmdloop(intro)
        except KeyboardInterrupt as interrupt:
            self._interrupt = KeyboardInterrupt(*interrupt.args)  # without the debugger's frames
            raise

    def interaction(self, *where: Any) -> None:
        """Stop, and ask for commands; raise the interrupt that met the prompt: IPython only says that there was one."""
        super().interaction(*where)
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt

    def set_trace(self, frame: FrameType | None = None, **kwargs: Any) -> None:
        """Stop at `frame`, or in the caller."""
        frame = frame or sys._getframe(1)
        self._in_kernel = is_kernels(frame)
        super().set_trace(frame, **kwargs)

    def trace_dispatch(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Take a trace event; those of the kernel's frames end no step."""
        if self._in_kernel or not is_kernels(frame):
            if event == "call" and frame.f_lineno == 0:
                return self.trace_dispatch  # a statement of a cell begins: stop at its first line
            return super().trace_dispatch(frame, event, arg)
        where = event, module_of(frame), frame.f_code.co_name
        if where in CELL_ENDS:
            self.set_continue()  # the next cell runs freely
            return None
        if where == STATEMENT_ENDS and self.stopframe not in (None, self.botframe):
            self.set_step()  # `next` at the end of a statement with `await` waits for a frame that never runs again
        return None if event == "call" else self.trace_dispatch

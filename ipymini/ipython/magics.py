"""magics: the magic commands that need a kernel, or do something else in one. Imported at first use.

Their texts follow what users of notebooks know; the docstrings are what `%magic?` shows.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from IPython.core import page
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magics.code import CodeMagics, MacroToEdit
from IPython.utils._process_common import arg_split


@magics_class
class KernelMagics(Magics):
    """Magics that need a frontend, or the kernel."""

    shell: Any

    @line_magic
    def edit(self, parameter_s: str = "", last_call: Any = ("", "")) -> None:
        """Ask the frontend to open an editor on a file, a function's source or some history.

        %edit [-p] [-r] [-n LINE] [FILE | OBJECT | RANGE]

        -p edits what was edited last, -r takes the raw input, -n starts at that line.
        """
        options, arguments = self.parse_options(parameter_s, "prn:")
        remembered = list(last_call)
        try:
            filename, line, _ = CodeMagics._find_edit_target(self.shell, arguments, options, remembered)
        except MacroToEdit:
            print("Macro editing not yet implemented in 2-process model.")
            return
        if filename is None:
            return
        payload = {"source": "edit_magic", "filename": str(Path(filename).absolute()), "line_number": line}
        self.shell.payload_manager.write_payload(payload)

    @line_magic
    def gui(self, arg_s: str) -> None:
        """Serve the windows of a GUI toolkit between cells and while a cell waits: `%gui qt`; `%gui` ends it.

        %gui [tk | qt | qt5 | qt6 | asyncio | none]

        Do not start the toolkit's own loop; if a cell does, the kernel waits for it, and an interrupt ends it.
        """
        try:
            self.shell.enable_gui(arg_s.strip() or None)
        except UsageError as error:
            print(f"ERROR:root:{error}", file=sys.stderr)  # as IPython does it: the cell succeeds

    @line_magic
    def clear(self, arg_s: str) -> None:
        """Clear the frontend, if it is a terminal."""
        self.shell.system("clear" if os.name == "posix" else "cls")

    @line_magic
    def less(self, arg_s: str) -> None:
        """Show a file in the frontend's pager: `%less FILE`. Python files are highlighted."""
        if not arg_s:
            raise UsageError("Missing filename.")
        path = Path(arg_s).expanduser()
        content = path.read_text(encoding="utf-8", errors="replace")
        page.page(self.shell.pycolorize(content) if path.suffix == ".py" else content)

    @line_magic
    def more(self, arg_s: str) -> None:
        """Show a file in the frontend's pager: `%more FILE`."""
        self.shell.run_line_magic("less", arg_s)

    @line_magic
    def man(self, arg_s: str) -> None:
        """Show a manual page in the frontend's pager: `%man TOPIC`."""
        page.page(self.shell.getoutput(f"man {arg_s} | col -b", split=False))

    @line_magic
    def connect_info(self, arg_s: str) -> None:
        """Show how other clients can connect to this kernel."""
        file = str(self.shell.config.get("IPKernelApp", {}).get("connection_file", ""))
        if not file:
            print("This kernel has no connection file.", file=sys.stderr)
            return
        print(json.dumps(json.loads(Path(file).read_text(encoding="utf-8")), indent=2) + "\n")
        print(
            "Paste the above JSON into a file, and connect with:\n"
            "    $> jupyter <app> --existing <file>\n"
            "or, if you are local, you can connect with just:\n"
            f"    $> jupyter <app> --existing {os.path.basename(file)}\n"
            "or even just:\n"
            "    $> jupyter <app> --existing\n"
            "if this is the most recent Jupyter kernel you have started."
        )

    @line_magic
    def qtconsole(self, arg_s: str) -> None:
        """Open a qtconsole that is connected to this kernel. Arguments are passed on to it."""
        from subprocess import DEVNULL, Popen

        file = str(self.shell.config.get("IPKernelApp", {}).get("connection_file", ""))
        command = [sys.executable, "-m", "qtconsole", "--existing", file, *arg_split(arg_s, os.name == "posix")]
        try:
            Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
        except OSError as error:
            print(f"Could not start qtconsole: {error}", file=sys.stderr)

    @line_magic
    def subshell(self, arg_s: str) -> None:
        """Show which subshell this cell runs in, and which there are."""
        subshells = getattr(self.shell.kernel, "subshells", None)
        here = threading.current_thread()
        print(f"subshell id: {self.shell.run.subshell_id}")
        print(f"thread id: {here.ident}")
        print(f"main thread id: {threading.main_thread().ident}")
        print(f"pid: {os.getpid()}")
        print(f"thread count: {threading.active_count()}")
        print(f"subshell list: {list(subshells.lanes) if subshells is not None else []}")

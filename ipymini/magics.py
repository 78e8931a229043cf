"""magics: what a kernel adds to IPython's magics, or does another way than a terminal. Speaks through the shell."""

import json
import os
import sys
import threading
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magics import CodeMagics, MacroToEdit

_SET_AUTOSAVE = "if (window.IPython && IPython.notebook) IPython.notebook.set_autosave_interval({})"


@magics_class
class KernelMagics(Magics):
    """Magics that need a frontend."""

    @line_magic
    def edit(self, parameter_s: str = "", last_call: Any = None) -> None:
        """Ask the frontend to open an editor on a file, an object's source, or earlier input.

        %edit [name | file | range]: options as in IPython's terminal; the cell goes on at once.
        """
        last_call = last_call or ["", ""]
        options, arguments = self.parse_options(parameter_s, "prn:")
        try:
            filename, line_number, _ = CodeMagics._find_edit_target(self.shell, arguments, options, last_call)
        except MacroToEdit:
            print("Macro editing is not available: the editor belongs to the frontend.", file=sys.stderr)
            return
        except (TypeError, UsageError) as error:
            print(error, file=sys.stderr)
            return
        if filename is None:
            return
        payload = {"source": "edit_magic", "filename": os.path.abspath(filename), "line_number": line_number or 0}
        self.shell.payload_manager.write_payload(payload)

    @line_magic
    def clear(self, line: str = "") -> None:
        """Clear the terminal that shows the output: prints the escape sequence."""
        sys.stdout.write("\033[H\033[2J")

    @line_magic
    def less(self, line: str = "") -> None:
        """Show a file in the frontend's pager."""
        if not line.strip():
            raise UsageError("expected a file name: %less FILE")
        with open(os.path.expanduser(line.strip()), encoding="utf-8", errors="replace") as file:
            text = file.read()
        self._page(text)

    more = line_magic("more")(less)

    @line_magic
    def man(self, line: str = "") -> None:
        """Show a manual page in the frontend's pager."""
        if not line.strip():
            raise UsageError("expected a topic: %man TOPIC")
        self._page(self.shell.getoutput(f"man {line} | col -b", split=False))

    def _page(self, text: str) -> None:
        self.shell.payload_manager.write_payload({"source": "page", "data": {"text/plain": text}, "start": 0})

    @line_magic
    def connect_info(self, line: str = "") -> None:
        """Print the connection file's content and the ways to connect another client."""
        kernel = self.shell.kernel
        file = str(kernel.connection_file or "")
        print(json.dumps(kernel.connection.as_dict(), indent=2))
        print(
            "\nPaste the above JSON into a file, and connect with:\n"
            "    $> jupyter <app> --existing <file>\n"
            "or, if you are local, you can connect with just:\n"
            f"    $> jupyter <app> --existing {os.path.basename(file)}\n"
            "or even just:\n    $> jupyter <app> --existing\n"
            "if this is the most recent Jupyter kernel you have started."
        )

    @line_magic
    def qtconsole(self, line: str = "") -> None:
        """Open a Qt console on this kernel; arguments are handed on to it."""
        import shlex
        import subprocess

        command = [sys.executable, "-m", "qtconsole", "--existing", str(self.shell.kernel.connection_file), *shlex.split(line)]
        subprocess.Popen(command, start_new_session=True)

    @line_magic
    def autosave(self, line: str = "") -> None:
        """Set how often the classic notebook saves itself: %autosave SECONDS, 0 for never."""
        try:
            seconds = int(line)
        except ValueError:
            raise UsageError(f"expected a number of seconds, {line!r} came: %autosave 120") from None
        self.shell.display_pub.publish({"application/javascript": _SET_AUTOSAVE.format(seconds * 1000)})
        print(f"Autosaving every {seconds} seconds" if seconds else "Autosave disabled")

    @line_magic
    def subshell(self, line: str = "") -> None:
        """Print which subshell this cell runs in, and which there are."""
        kernel = self.shell.kernel
        request = self.shell.get_parent().get("header", {})
        print(f"subshell id: {request.get('subshell_id') or None}")
        print(f"thread id: {threading.get_ident()}")
        print(f"main thread id: {threading.main_thread().ident}")
        print(f"pid: {os.getpid()}")
        print(f"thread count: {threading.active_count()}")
        print(f"subshell list: {kernel.subshell_ids()}")

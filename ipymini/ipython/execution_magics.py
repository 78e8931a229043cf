"""execution_magics: `%time` and `%timeit` of code that awaits; `%prun` and `%debug` that show lines. Runs no cells.

IPython's `%time` and `%timeit` are functions, which cannot await. In a cell whose `%time` has code that awaits,
`awaited` makes the call an awaited one, and the rest of the cell is as it was: `x = %time await f()`, in `async def`
too. So the code runs on the loop of the cell, in its task, and an interrupt ends it as it ends the cell.
"""

import ast
import itertools
import os
import time
import timeit
from collections.abc import Iterator
from inspect import CO_COROUTINE
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.magics import execution

_TIMER = """async def inner(_it, _timer):
    pass
    _start = _timer()
    for _i in _it:
        pass
    return _timer() - _start
"""
_SETUP, _LOOP = 0, 2  # indices of the two statements that the user's replace


class ExecutionMagics(execution.ExecutionMagics):
    """IPython's magics that run code."""

    shell: Any

    def awaits(self, name: str, line: str, cell: str | None = None) -> bool:
        """Whether the code of this magic awaits."""
        if name not in ("time", "timeit"):
            return False
        run, transform = self.shell.should_run_async, self.shell.transform_cell
        return any(run(one, transformed_cell=transform(one)) for one in (self._options(name, line)[1], cell) if one)

    def _options(self, name: str, line: str) -> tuple[Any, str]:
        """Split the line of a magic into its options and the code."""
        if name == "time":
            code = line.removeprefix("--no-raise-error")
            return code != line, code.strip()
        known = "n:r:tcp:qov:"  # as IPython's
        found: tuple[Any, str] = self.parse_options(line, known, posix=False, strict=False, preserve_non_opts=True)
        return found

    async def await_time(self, names: tuple[Any, Any], line: str, cell: str | None) -> Any:
        """`%time` and `%%time`: print the times, also of what fails; return the value of the last expression.

        `names`: the globals and locals of the code.
        """
        __tracebackhide__ = True
        is_quiet, code = self._options("time", line)
        code = code if cell is None else cell
        tree = self._parse(code)
        last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        parts = [self._compile(tree, "exec"), *([self._compile(last, "eval")] if last else [])]
        value = None
        before, began = os.times(), time.perf_counter()
        try:
            for part in parts:
                value = eval(part, *names)
                if part.co_flags & CO_COROUTINE:
                    value = await value
        except Exception:
            if not is_quiet:
                raise
        finally:
            wall, after = time.perf_counter() - began, os.times()
            spent = after.user - before.user, after.system - before.system
            user, system, total = (execution._format_time(one) for one in (*spent, sum(spent)))
            print(f"CPU times: user {user}, sys: {system}, total: {total}")
            print(f"Wall time: {execution._format_time(wall)}")
        return None if DisplayHook.semicolon_at_end_of_expression(code) else value

    async def await_timeit(self, names: tuple[Any, Any], line: str, cell: str | None) -> Any:
        """`%timeit` and `%%timeit`: print how long the code takes on average; with -o, return IPython's result."""
        __tracebackhide__ = True
        options, code = self._options("timeit", line)
        timer = ast.parse(_TIMER)
        inner: Any = timer.body[0]
        setup, statement = (self._parse(one).body for one in (("", code) if cell is None else (code, cell)))
        inner.body[_LOOP].body = statement
        inner.body[_SETUP : _SETUP + 1] = setup
        made: dict[str, Any] = {}
        visible, local = names
        exec(self._compile(timer, "exec"), visible if local is visible else {**visible, **local}, made)
        clock = time.time if "t" in options else time.process_time if "c" in options else timeit.default_timer
        number = int(options.get("n", 0))
        if not number:
            for number in (10**power for power in range(10)):  # until it is long enough to be measured
                if await made["inner"](itertools.repeat(None, number), clock) >= 0.2:
                    break
        runs = [await made["inner"](itertools.repeat(None, number), clock) for _ in range(int(options.get("r", 7)))]
        precision = int(options.get("p", 3))
        result = execution.TimeitResult(number, len(runs), min(runs) / number, max(runs) / number, runs, 0, precision)
        if "q" not in options:
            print(result)
        if "v" in options:
            self.shell.user_ns[options["v"]] = result
        return result if "o" in options else None

    def _parse(self, code: str) -> Any:
        with self.shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            return self.shell.transform_ast(self.shell.compile.ast_parse(self.shell.transform_cell(code)))

    def _compile(self, tree: Any, mode: str) -> Any:
        with self.shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            return self.shell.compile(ast.fix_missing_locations(tree), "<timed>", mode)

    def _run_with_profiler(self, code: Any, *arguments: Any, **options: Any) -> Any:
        return super()._run_with_profiler(self._with_lines(code), *arguments, **options)

    def _run_with_debugger(self, code: Any, *arguments: Any, **options: Any) -> Any:
        return super()._run_with_debugger(self._with_lines(code), *arguments, **options)

    def _with_lines(self, code: Any) -> Any:
        if not isinstance(code, str):
            return code
        try:
            return self.shell.compile(self.shell.compile.ast_parse(code), "<string>", "exec")
        except SyntaxError:
            return code  # to fail when it runs


def awaited(shell: Any, code: str) -> str:
    """Return a cell, as IPython has translated it, with `%time` and `%timeit` awaited where their code awaits."""
    try:
        with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            calls = list(_calls(shell.compile.ast_parse(code)))
    except (SyntaxError, ValueError):
        return code
    lines = [line.encode() for line in code.splitlines(keepends=True)]
    for call in reversed(calls):
        name, *rest = (argument.value for argument in call.args)
        magics = getattr(shell.find_line_magic(name), "__self__", None)  # or it is somebody else's
        if isinstance(magics, ExecutionMagics) and magics.awaits(name, *rest):
            row, start, end = call.lineno - 1, call.col_offset, call.func.end_col_offset
            lines[row] = lines[row][:start] + b"await get_ipython().await_magic" + lines[row][end:]
    return b"".join(lines).decode()


def _calls(node: ast.AST) -> Iterator[Any]:
    """Yield the calls of magics, in order, that could be awaited where they stand."""
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(one, ast.Call) and all(isinstance(argument, ast.Constant) for argument in one.args):
            if ast.unparse(one.func) in ("get_ipython().run_line_magic", "get_ipython().run_cell_magic"):
                yield one
        yield from _calls(one)

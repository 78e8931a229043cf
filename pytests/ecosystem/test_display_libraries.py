"""Libraries that show things: what they look for is there, and what they send arrives, in the right cell."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness import KernelUnderTest, start_kernel

pytestmark = pytest.mark.peers

DEADLINE = 60.0  # seconds: imports of large libraries, on a machine that does other things too
VIEW = "application/vnd.jupyter.widget-view+json"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[KernelUnderTest]:
    """One kernel for all of them, as in a long notebook."""
    with start_kernel() as kernel:
        yield kernel


def run(kernel: KernelUnderTest, code: str, **header: Any) -> list[dict[str, Any]]:
    """Run a cell that must succeed; return what iopub said of it, without busy, execute_input and idle."""
    msg_id = kernel.send("execute_request", code=code, header=header)
    reply = kernel.reply(msg_id, DEADLINE)
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
    said = kernel.iopub(msg_id, DEADLINE)
    return [message for message in said if message["msg_type"] not in ("status", "execute_input")]


def bundles(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mime bundles among messages."""
    return [message["content"]["data"] for message in messages if "data" in message["content"] and is_shown(message)]


def is_shown(message: dict[str, Any]) -> bool:
    return message["msg_type"] in ("display_data", "execute_result", "update_display_data")


def text_of(messages: list[dict[str, Any]], name: str = "stdout") -> str:
    return "".join(
        message["content"]["text"]
        for message in messages
        if message["msg_type"] == "stream" and message["content"]["name"] == name
    )


def only(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the one bundle of a cell that has said nothing else."""
    assert [is_shown(message) for message in messages] == [True], messages
    return dict(messages[0]["content"]["data"])


def opened(messages: list[dict[str, Any]], name: str) -> str:
    """Return the comm of the model of this name."""
    for message in messages:
        if message["msg_type"] == "comm_open":
            state = message["content"]["data"].get("state", {})
            if state.get("_model_name") == name or state.get("_anywidget_id", "").endswith(name):
                return str(message["content"]["comm_id"])
    raise AssertionError(f"no {name} among {[message['msg_type'] for message in messages]}")


def from_frontend(
    kernel: KernelUnderTest, comm_id: str, data: dict[str, Any], buffers: list[bytes] | None = None
) -> list[dict[str, Any]]:
    """Send a comm_msg as a frontend does; return what the kernel said of it."""
    msg_id = kernel.send("comm_msg", comm_id=comm_id, data=data, buffers=buffers)
    return [message for message in kernel.iopub(msg_id, DEADLINE) if message["msg_type"] != "status"]


def update(kernel: KernelUnderTest, comm_id: str, **state: Any) -> list[dict[str, Any]]:
    return from_frontend(kernel, comm_id, {"method": "update", "state": state, "buffer_paths": []})


def result(kernel: KernelUnderTest, expression: str) -> Any:
    """Return the value of an expression, by way of JSON."""
    said = run(kernel, f"import json; print(json.dumps({expression}))")
    return json.loads(text_of(said))


# ---- widgets ------------------------------------------------------------------------------


def test_a_sliders_observers_print_to_the_message_that_moved_it(kernel: KernelUnderTest) -> None:
    said = run(
        kernel,
        "import ipywidgets\nslider = ipywidgets.IntSlider()\n"
        "slider.observe(lambda change: print('moved to', change.new), 'value')\nslider",
    )
    assert VIEW in bundles(said)[-1]

    answered = update(kernel, opened(said, "IntSliderModel"), value=7)

    assert text_of(answered) == "moved to 7\n"
    assert result(kernel, "slider.value") == 7
    echoes = [message for message in answered if message["content"].get("data", {}).get("method") == "echo_update"]
    assert [echo["content"]["data"]["state"] for echo in echoes] == [{"value": 7}]


def test_interact_shows_what_the_function_says_in_its_output(kernel: KernelUnderTest) -> None:
    said = run(
        kernel,
        "import ipywidgets\n"
        "def square(x=3):\n    print('squared', x * x)\n    return x * x\nipywidgets.interact(square)\nNone",
    )
    slider, output = opened(said, "IntSliderModel"), opened(said, "OutputModel")
    assert "squared 9\n" in text_of(said)

    answered = update(kernel, slider, value=4)

    captured = [
        message["content"]["data"]["state"]["msg_id"]
        for message in answered
        if message["msg_type"] == "comm_msg"
        and message["content"]["comm_id"] == output
        and "msg_id" in message["content"]["data"].get("state", {})
    ]
    parent = answered[0]["parent_header"]["msg_id"]
    assert captured == [parent, ""]  # the frontend takes what comes in between, of that parent
    types = [message["msg_type"] for message in answered if message["msg_type"] != "comm_msg"]
    assert types == ["clear_output", "stream", "display_data"]


def test_an_output_widget_takes_what_a_thread_says(kernel: KernelUnderTest) -> None:
    said = run(
        kernel,
        "import ipywidgets, threading\nout = ipywidgets.Output()\n"
        "def work():\n    with out:\n        print('from a thread')\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()",
    )
    output = opened(said, "OutputModel")
    parent = said[0]["parent_header"]["msg_id"]
    states = [
        message["content"]["data"]["state"].get("msg_id")
        for message in said
        if message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == output
    ]
    assert [state for state in states if state is not None] == [parent, ""]
    kinds = [message["msg_type"] for message in said]
    assert kinds.index("comm_msg") < kinds.index("stream") < len(kinds) - 1 - kinds[::-1].index("comm_msg")
    assert text_of(said) == "from a thread\n"


def test_anywidget_exchanges_values_and_binary_messages(kernel: KernelUnderTest) -> None:
    said = run(
        kernel,
        "import anywidget, traitlets\n"
        "class Counter(anywidget.AnyWidget):\n"
        "    _esm = 'export default { render() {} }'\n"
        "    count = traitlets.Int(0).tag(sync=True)\n"
        "    def __init__(self):\n        super().__init__(); self.on_msg(self.heard)\n"
        "    def heard(self, _, content, buffers):\n"
        "        self.send({'echo': content['say']}, [bytes(buffers[0])[::-1]])\n"
        "counter = Counter(); counter",
    )
    comm_id = opened(said, "Counter")
    assert VIEW in bundles(said)[-1]

    update(kernel, comm_id, count=5)
    assert result(kernel, "counter.count") == 5

    answered = from_frontend(kernel, comm_id, {"method": "custom", "content": {"say": "hello"}}, [b"abc"])
    custom = [message for message in answered if message["content"]["data"].get("method") == "custom"]
    assert [message["content"]["data"]["content"] for message in custom] == [{"echo": "hello"}]
    assert [bytes(buffer) for buffer in custom[0]["buffers"]] == [b"cba"]


# ---- matplotlib -----------------------------------------------------------------------------


def size(png: str) -> tuple[int, int]:
    raw = base64.b64decode(png)
    assert raw.startswith(SIGNATURE)
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"


def test_each_cell_shows_its_own_figures_and_closes_them(kernel: KernelUnderTest) -> None:
    run(kernel, "%matplotlib inline")
    for _ in range(2):
        first, second = bundles(run(kernel, f"{PLOT}plt.figure(); plt.plot([2, 1]); None"))
        assert "image/png" in first and "image/png" in second
    assert result(kernel, "plt.get_fignums()") == []
    said = run(kernel, f"{PLOT}plt.show(); print('after'); plt.plot([3]); None")
    assert [message["msg_type"] for message in said] == ["display_data", "stream", "display_data"]


def test_a_failing_cell_shows_its_figure_too(kernel: KernelUnderTest) -> None:
    run(kernel, "%matplotlib inline")
    reply, outputs = kernel.execute(f"{PLOT}1/0", timeout=DEADLINE)
    assert reply["ename"] == "ZeroDivisionError"
    assert sorted(line.partition(":")[0] for line in outputs) == ["display_data", "error"]
    assert only(run(kernel, f"{PLOT}None"))["image/png"]


def test_rcparams_and_formats_hold(kernel: KernelUnderTest) -> None:
    run(kernel, "%matplotlib inline\nimport matplotlib.pyplot as plt; plt.rcParams['figure.figsize'] = (2, 1)")
    bare = {"bbox_inches": None}
    run(kernel, f"%config InlineBackend.print_figure_kwargs = {bare}")
    try:
        small = size(only(run(kernel, f"{PLOT}None"))["image/png"])
        assert small[0] == 2 * small[1]

        run(kernel, "%config InlineBackend.figure_formats = ['retina']")
        shown = run(kernel, f"{PLOT}None")
        assert size(only(shown)["image/png"]) == (2 * small[0], 2 * small[1])
        assert shown[0]["content"]["metadata"]["image/png"] == {"width": small[0], "height": small[1]}

        run(kernel, "%config InlineBackend.figure_formats = ['svg']")
        assert "<svg" in only(run(kernel, f"{PLOT}None"))["image/svg+xml"]
    finally:
        run(kernel, "%config InlineBackend.figure_formats = ['png']\nplt.rcdefaults()")
        run(kernel, "%config InlineBackend.print_figure_kwargs = {'bbox_inches': 'tight'}")


def test_a_subshells_figure_goes_to_the_subshells_cell(kernel: KernelUnderTest) -> None:
    run(kernel, "%matplotlib inline")
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    try:
        for name, where in (("here", None), ("there", subshell)):  # not at once: pyplot's figures are the process's
            code = f"{PLOT}plt.title('{name}'); None"
            msg_id = kernel.send("execute_request", code=code, header={"subshell_id": where})
            assert kernel.reply(msg_id, DEADLINE)["status"] == "ok"
            shown = [message for message in kernel.iopub(msg_id, DEADLINE) if is_shown(message)]
            assert ["image/png" in message["content"]["data"] for message in shown] == [True]
    finally:
        kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_ipympl_draws_into_binary_messages(kernel: KernelUnderTest) -> None:
    try:
        said = run(kernel, f"%matplotlib widget\n{PLOT}plt.show()")
        canvas = opened(said, "MPLCanvasModel")
        assert any(VIEW in bundle for bundle in bundles(said))
        ready = [{"type": kind} for kind in ("initialized", "send_image_mode", "draw")]
        drawn = [
            one for event in ready for one in from_frontend(kernel, canvas, {"method": "custom", "content": event})
        ]
        images = [bytes(buffer) for message in drawn for buffer in message["buffers"]]
        assert any(image.startswith(SIGNATURE) for image in images), [message["content"] for message in drawn]
    finally:
        run(kernel, "import matplotlib.pyplot as plt; plt.close('all')\n%matplotlib inline")


# ---- plots of other kinds ---------------------------------------------------------------------


def test_plotly_sends_its_figure_and_not_its_library(kernel: KernelUnderTest) -> None:
    run(kernel, "import plotly.graph_objects as go; figure = go.Figure(go.Scatter(y=[1, 3, 2]))")
    for code in ("figure.show()", "figure"):
        shown = only(run(kernel, code))
        drawing = shown.pop("application/vnd.plotly.v1+json")
        assert drawing["data"][0]["type"] == "scatter"
        assert len(json.dumps(shown)) < 100_000  # megabytes of JavaScript otherwise, in every notebook

    said = run(kernel, "widget = go.FigureWidget(figure); widget")
    comm_id = opened(said, "FigureWidget")
    assert VIEW in bundles(said)[-1]
    changed = run(kernel, "widget.data[0].y = [4, 5, 6]")
    assert {message["content"]["comm_id"] for message in changed if message["msg_type"] == "comm_msg"} == {comm_id}


def test_bokeh_pushes_changes_into_a_plot_that_is_shown(kernel: KernelUnderTest) -> None:
    loaded = run(kernel, "from bokeh.io import output_notebook, push_notebook, show\noutput_notebook()")
    assert any("application/vnd.bokehjs_load.v0+json" in bundle for bundle in bundles(loaded))
    said = run(
        kernel,
        "from bokeh.plotting import figure\nplot = figure(height=200); line = plot.line([1, 2], [3, 4])\n"
        "handle = show(plot, notebook_handle=True)",
    )
    assert any("application/vnd.bokehjs_exec.v0+json" in bundle for bundle in bundles(said))
    comm_ids = [message["content"]["comm_id"] for message in said if message["msg_type"] == "comm_open"]
    assert len(comm_ids) == 1

    pushed = run(kernel, "line.data_source.data = {'x': [1, 2], 'y': [9, 9]}; push_notebook(handle=handle)")

    messages = [message for message in pushed if message["msg_type"] == "comm_msg"]
    assert {message["content"]["comm_id"] for message in messages} == set(comm_ids)
    assert any("9" in str(message["content"]["data"]) for message in messages)


def test_panel_and_hvplot_hear_the_frontend(kernel: KernelUnderTest) -> None:
    run(kernel, "import panel as pn; pn.extension(comms='default')")
    said = run(
        kernel,
        "slider = pn.widgets.IntSlider(name='how many', start=0, end=10)\n"
        "slider.param.watch(lambda event: print('moved to', event.new), 'value')\nslider",
    )
    shown = bundles(said)[-1]
    assert "application/vnd.holoviews_exec.v0+json" in shown
    # The page opens a comm to the target that panel names there, and sends bokeh's patches through it.
    talking = re.findall(r'"client_comm_id":"(\w+)"', shown["text/html"])[0]
    model = re.findall(r'"name":"Slider","id":"([\w-]+)"', shown["text/html"])[0]
    change = {"kind": "ModelChanged", "model": {"id": model}, "attr": "value", "new": 6}
    patch = {"header": {"msgid": "1", "msgtype": "PATCH-DOC"}, "metadata": {}, "content": {"events": [change]}}
    kernel.send("comm_open", comm_id="from-the-page", target_name=talking, data={})

    answered = from_frontend(kernel, "from-the-page", patch)

    assert result(kernel, "slider.value") == 6
    acknowledged = [message["content"] for message in answered if message["msg_type"] == "comm_msg"]
    assert [content["comm_id"] for content in acknowledged] == ["from-the-page"]

    plotted = run(kernel, "import hvplot.pandas, pandas; pandas.DataFrame({'a': [1, 2]}).hvplot()")
    assert "application/vnd.holoviews_exec.v0+json" in bundles(plotted)[-1]


def test_altair_sends_vega_lite(kernel: KernelUnderTest) -> None:
    chart = "altair.Chart(pandas.DataFrame({'a': [1, 2]})).mark_point().encode(x='a:Q')"
    assert "vegaEmbed" in only(run(kernel, f"import altair, pandas\n{chart}"))["text/html"]
    shown = only(run(kernel, f"altair.renderers.enable('mimetype')\n{chart}"))
    vega_lite = [data for mime, data in shown.items() if mime.startswith("application/vnd.vegalite.")]
    assert [drawing["mark"]["type"] for drawing in vega_lite] == ["point"]


# ---- text, tables, progress ---------------------------------------------------------------------


def test_tqdm_picks_its_widget_and_moves_it(kernel: KernelUnderTest) -> None:
    said = run(kernel, "from tqdm.auto import tqdm\nfor _ in tqdm(range(3), desc='counting', mininterval=0): pass")
    assert "tqdm.notebook" in result(kernel, "[kind.__module__ for kind in tqdm.__mro__]")
    assert VIEW in bundles(said)[0]
    values = [
        message["content"]["data"]["state"]["value"]
        for message in said
        if message["msg_type"] == "comm_msg" and "value" in message["content"]["data"].get("state", {})
    ]
    assert 3.0 in values
    assert text_of(said, "stderr") == ""


def test_rich_prints_html_and_updates_what_is_live(kernel: KernelUnderTest) -> None:
    shown = only(run(kernel, "import rich; rich.print('[bold red]loud[/]')"))
    assert "font-weight: bold" in shown["text/html"] and shown["text/plain"].endswith("\n")

    said = run(
        kernel,
        "from rich.progress import track\nfor _ in track(range(3), description='Counting'): pass",
    )
    drawn = [bundle["text/plain"] for bundle in bundles(said) if "Counting" in bundle["text/plain"]]
    assert "100%" in drawn[-1]

    run(kernel, "import rich.traceback; undo = rich.traceback.install()")
    try:
        reply, outputs = kernel.execute("def fails(): 1/0\nfails()", timeout=DEADLINE)
        assert (reply["status"], reply["ename"]) == ("error", "ZeroDivisionError")
        assert any("ZeroDivisionError" in line for line in outputs)
    finally:
        run(
            kernel,
            "from IPython.core.interactiveshell import InteractiveShell\nip = get_ipython()\nip.__dict__.pop('_showtraceback', None); ip.__dict__.pop('showtraceback', None); ip.__dict__.pop('showsyntaxerror', None)",
        )


@pytest.mark.parametrize(
    ("code", "mimes", "part"),
    [
        ("import pandas; pandas.DataFrame({'a': [1]})", {"text/plain", "text/html"}, "<table"),
        ("import pandas; pandas.DataFrame({'a': [1]}).style.highlight_max()", {"text/plain", "text/html"}, "<style"),
        ("import polars; polars.DataFrame({'a': [1]})", {"text/plain", "text/html"}, "<table"),
    ],
)
def test_tables_are_html(kernel: KernelUnderTest, code: str, mimes: set[str], part: str) -> None:
    shown = only(run(kernel, code))
    assert set(shown) == mimes and part in shown["text/html"]


@pytest.mark.parametrize(
    ("code", "mime", "part"),
    [
        ("Audio([0.0, 0.5, -0.5] * 100, rate=8000)", "text/html", "data:audio/wav;base64,"),
        ("Video(b'0000', embed=True, mimetype='video/mp4')", "text/html", "data:video/mp4;base64,"),
        ("HTML('<b>bold</b>')", "text/html", "<b>bold</b>"),
        ("JSON({'a': [1]})", "application/json", "{'a': [1]}"),
        ("Markdown('*starred*')", "text/markdown", "*starred*"),
        ("Latex('$x$')", "text/latex", "$x$"),
        ("Math('x')", "text/latex", "x"),
        ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')", "image/svg+xml", "<svg"),
        ("Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(30), format='png')", "image/png", "iVBOR"),
        ("Javascript('1')", "application/javascript", "1"),
        ("IFrame('about:blank', 100, 100)", "text/html", "<iframe"),
        ("Code('a = 1', language='python')", "text/html", "highlight"),
        ("GeoJSON({'type': 'Point', 'coordinates': [1, 2]})", "application/geo+json", "Point"),
    ],
)
def test_ipythons_displays_send_their_type(kernel: KernelUnderTest, code: str, mime: str, part: str) -> None:
    shown = only(run(kernel, f"from IPython.display import *\n{code}"))
    assert part in str(shown[mime])


def test_displays_are_updated_and_cleared_in_order(kernel: KernelUnderTest) -> None:
    said = run(
        kernel,
        "from IPython.display import ProgressBar, clear_output, display, update_display\n"
        "for _ in ProgressBar(2): pass\n"
        "handle = display('first', display_id=True); handle.update('second')\n"
        "display('named', display_id='mine'); update_display('renamed', display_id='mine')\n"
        "clear_output(wait=True); print('at last')",
    )
    of_bar = [bundle for bundle in bundles(said) if "progress" in bundle.get("text/html", "")]
    assert "value='2'" in of_bar[-1]["text/html"]
    later = said[len(of_bar) :]
    assert [message["msg_type"] for message in later] == [
        "display_data", "update_display_data", "display_data", "update_display_data", "clear_output", "stream",
    ]  # fmt: skip
    ids = [message["content"]["transient"]["display_id"] for message in later[:4]]
    assert ids[0] == ids[1] != "mine" and ids[2:] == ["mine", "mine"]

"""What is on a page: the parts of a notebook, and what a person does with them."""

from time import monotonic

from playwright.sync_api import expect

from ipymini.tools import kernelspec

DEADLINE = 30.0


def listen(page, msg_type):
    """Return a function that waits until a websocket opened from now on has brought a message of this type."""
    came = []

    def look(frame):
        if (frame if isinstance(frame, bytes) else frame.encode()).find(f'"{msg_type}"'.encode()) >= 0:
            came.append(frame)

    page.on("websocket", lambda websocket: websocket.on("framereceived", look))

    def wait():
        end = monotonic() + DEADLINE
        while not came:
            assert monotonic() < end, f"no {msg_type}"
            page.wait_for_timeout(20)

    return wait


def press_button(button):
    """Press one of JupyterLab's buttons once it is enabled: Playwright does not see it of them, and the click is lost."""
    expect(button).not_to_have_attribute("disabled", "")
    button.click()


class Notebook:
    """An open notebook: what a person does with it, and what a person sees of it."""

    def __init__(self, page, *, has_status_bar=True):
        self.page, self.has_status_bar = page, has_status_bar
        self.panel = page.locator(".jp-NotebookPanel:visible")

    def cell(self, number):
        """The cell with this number, from 0."""
        return self.panel.locator(".jp-Notebook-cell").nth(number)

    def click(self, number):
        """Put the cursor into a cell."""
        self.cell(number).locator(".cm-content").click()

    def run(self, number):
        """Run one cell with Shift+Enter."""
        self.click(number)
        self.page.keyboard.press("Shift+Enter")

    def output(self, number):
        """The output area of a cell."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def prompt(self, number):
        """The [1]: before a cell."""
        return self.cell(number).locator(".jp-InputPrompt")

    def press(self, command):
        """Press a button of the notebook's toolbar."""
        press_button(self.panel.locator(f'[data-jp-item-name="{command}"]').locator("jp-button, button").first)

    def wait_until_idle(self):
        """Wait until the kernel is there and has nothing to do."""
        self.panel.locator(".jp-KernelName", has_text=kernelspec.DISPLAY_NAME).wait_for()
        self.panel.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
        if self.has_status_bar:
            self.page.locator("#jp-main-statusbar", has_text=f"{kernelspec.DISPLAY_NAME} | Idle").wait_for()

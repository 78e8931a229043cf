"""A cell drives a browser itself: Playwright's async API, in a plain `await`."""

import shutil

import pytest
from harness import KernelUnderTest, start_kernel

pytestmark = pytest.mark.browser

DEADLINE = 60.0


def test_playwrights_async_api_works_in_cells() -> None:
    with start_kernel() as kernel:
        assert run(
            kernel,
            "from playwright.async_api import async_playwright\n"
            "playwright = await async_playwright().start()\n"
            f"browser = await playwright.chromium.launch(executable_path={shutil.which('chromium')!r}, args=['--no-sandbox'])\n"
            "page = await browser.new_page()",
        ) == []  # fmt: skip
        clicked = (
            "await page.set_content('<button onclick=\"this.textContent = 2\">1</button>'); await page.click('button')"
        )
        assert run(kernel, f"{clicked}\nawait page.inner_text('button')") == ["execute_result:'2'"]
        run(kernel, "await browser.close(); await playwright.stop()")


def run(kernel: KernelUnderTest, code: str) -> list[str]:
    reply, outputs = kernel.execute(code, timeout=DEADLINE)
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
    return outputs

"""Make the two PNG logos of logo-svg.svg with a headless Chromium (needs `playwright` and `chromium`)."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parents[1] / "share" / "jupyter" / "kernels" / "ipymini"


def main() -> None:
    """Render each size on a transparent page, beside the SVG."""
    svg = (HERE / "logo-svg.svg").read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for size in (32, 64):
            page = browser.new_page(viewport={"width": size, "height": size})
            sized = svg.replace('width="64" height="64"', f'width="{size}" height="{size}"', 1)
            page.set_content(f'<body style="margin:0;line-height:0;background:transparent">{sized}</body>')
            page.screenshot(path=str(HERE / f"logo-{size}x{size}.png"), omit_background=True)
        browser.close()


if __name__ == "__main__":
    main()

"""axe-core on pages: accessibility violations at 1280 and 400 pixels, light and dark.

    npm install axe-core                             # outside of the repository
    python benchmarks/axe.py node_modules/axe-core/axe.min.js report.html review.html

Pages are files or addresses. Prints what each violates in each look; ends with 1 if anything is.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from selenium import webdriver

RUN = (
    "const done = arguments[arguments.length - 1];"
    "axe.run(document).then(r => done(r.violations.map(v => [v.id, v.nodes.map(n => n.html)])));"
)
WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def browser() -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    return webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )


def look(driver: Any, page: str, axe: str, width: int, scheme: str) -> int:
    """Violations of one page, printed."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page if "://" in page else Path(page).resolve(strict=True).as_uri())
    time.sleep(1)
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # around the page's policy
    found = driver.execute_async_script(RUN)
    beyond = driver.execute_script(WIDE)
    print(f"{page} {width} {scheme}: {len(found)} violations, {beyond} px wider than the window")
    for name, nodes in found:
        print(f"  {name}: {len(nodes)}, as {nodes[0][:120]}")
    return len(found)


def main(script: str, *pages: str) -> int:
    driver = browser()
    try:
        axe = Path(script).read_text("utf-8")
        looks = [(w, s) for w in (1280, 400) for s in ("light", "dark")]
        return sum(look(driver, p, axe, *how) for p in pages for how in looks)
    finally:
        driver.quit()


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))

"""Pages as a person gets them: in a real browser without a window, for the tests that look at pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def open_browser(folder: Path) -> Iterator[Chrome]:
    """Chromium, driven by selenium; the test is skipped where either program is missing.

    Args:
        folder: Empty, for the browser's own files.
    """
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if not path]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    os.environ["SE_OFFLINE"] = "true"  # selenium would look for a driver on the network
    options = ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*_FLAGS.split(), f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(programs["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


def console_errors(driver: Chrome) -> list[str]:
    """What the browser complained of since this was last asked: scripts that failed, policies that were broken."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def set_theme(driver: Chrome, theme: str) -> None:
    """`light` or `dark`, as the system of a person would say."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def set_width(driver: Chrome, width: int) -> None:
    """Of the page in CSS pixels: 390 is a phone, 1280 a desk."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

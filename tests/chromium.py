"""Headless Chromium for the tests that look at pages."""

import contextlib
import shutil
import tempfile

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
is_here = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver on this machine")
LIMIT = 900  # seconds: no measure of a machine; only what never happens takes so long
SWITCHES = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --disable-dev-shm-usage
--allow-file-access-from-files"""


@contextlib.contextmanager
def opened(width: int, height: int):
    """A browser with a profile of its own whose page is width × height pixels."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for switch in [*SWITCHES.split(), f"--user-data-dir={profile}"]:
            options.add_argument(switch)
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        driver.command_executor.client_config.timeout = LIMIT  # else a slow page ends the session
        driver.set_page_load_timeout(LIMIT)
        driver.set_script_timeout(LIMIT)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # As a window in front of a reader: some versions give a headless one no focus before the first click.
        driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
        try:
            yield driver
        finally:
            driver.quit()

"""JupyterLab as a reader meets it: lesson 1 opened in a real browser and run from the menu."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import books
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver on this machine"
)
LESSON = "01_glove_algebra_and_pca.ipynb"


@pytest.fixture
def lab(tmp_path):
    """JupyterLab with the course's own settings over a copy of lesson 1 without outputs."""
    book = books.read(books.NOTEBOOKS / LESSON)
    for cell in books.code(book):
        cell.outputs, cell.execution_count = [], None
    import nbformat

    nbformat.write(book, tmp_path / LESSON)
    tracker = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}))  # every cell in the page at once
    env = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "HOME": str(tmp_path),
    }
    config = books.ROOT / "jupyter" / "jupyter_lab_config.py"
    log = open(tmp_path / "log", "w+")  # noqa: SIM115
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            f"--config={config}",
            "--no-browser",
            f"--ServerApp.root_dir={tmp_path}",
            "--ServerApp.port=0",
        ],
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=books.ROOT,
    )
    address = None
    for _ in range(150):
        found = re.findall(r"http://127\.0\.0\.1:(\d+)/lab\S*\?token=(\w+)", (tmp_path / "log").read_text())
        if found:
            address = f"http://127.0.0.1:{found[0][0]}/lab/tree/{LESSON}?token={found[0][1]}"
            break
        time.sleep(0.2)
    assert address, (tmp_path / "log").read_text()
    yield address
    server.terminate()
    server.wait(20)
    log.close()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
        f"--window-size=1400,1000 --user-data-dir={tmp_path}/profile"
    ).split():
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_lesson_1_from_the_menu(lab, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(seconds, what):
        return WebDriverWait(browser, seconds, poll_frequency=0.5).until(what)

    browser.get(lab)
    wait(60, lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    wait(
        60,
        lambda b: "Idle" in (b.find_element(By.CSS_SELECTOR, ".jp-NotebookPanel").get_attribute("innerHTML")),
    )
    assert not browser.find_elements(By.CSS_SELECTOR, ".jp-Dialog")  # no question stands in the way

    def prompts(b):
        return [e.text for e in b.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt")]

    menu = "//div[text()='Run' and contains(@class,'MenuBar')]"
    run_all = "li[data-command='runmenu:run-all']"
    wait(60, lambda b: "| Idle" in b.find_element(By.ID, "jp-main-statusbar").text)
    time.sleep(2)
    for _ in range(6):  # a kernel that has only just connected may refuse the first request
        for dismiss in browser.find_elements(By.CSS_SELECTOR, ".jp-Dialog button.jp-mod-accept"):
            dismiss.click()
            time.sleep(1)
        wait(10, lambda b: b.find_element(By.XPATH, menu)).click()
        wait(10, lambda b: b.find_element(By.CSS_SELECTOR, run_all)).click()
        time.sleep(5)
        if any(re.search(r"[\d*]", p) for p in prompts(browser)):
            break

    figures = sum(
        "image/png" in o.get("data", {})
        for c in books.code(books.read(books.NOTEBOOKS / LESSON))
        for o in c.outputs
    )
    cells = len(books.code(books.read(books.NOTEBOOKS / LESSON)))

    def finished(b):
        assert not b.find_elements(By.CSS_SELECTOR, "[data-mime-type*='error']")
        return len(prompts(b)) == cells and all(re.search(r"\d", p) for p in prompts(b))

    wait(240, finished)
    images = browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea img[alt]")
    seen = [i.get_attribute("alt") for i in images if i.get_property("naturalWidth") > 300]
    assert len(seen) == figures and all(len(alt) > 30 for alt in seen)
    assert browser.find_elements(By.CSS_SELECTOR, ".jupyter-widgets"), "the widgets are not there"
    if shots := os.environ.get("COURSE_SCREENSHOTS"):
        browser.save_screenshot(f"{shots}/lab_top.png")
        for n, image in enumerate(images):
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
            time.sleep(0.5)
            browser.save_screenshot(f"{shots}/lab_{n}.png")

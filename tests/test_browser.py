"""JupyterLab as a reader meets it: lesson 1 opened in a real browser and run from the menu.

Whatever is waited for here is an event: a line that the server prints, a prompt on the page. LIMIT is
no measure of a machine; only what never happens takes so long.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import books
import chromium
import nbformat
import psutil
import pytest

LESSON = books.path("01")
LIMIT = chromium.LIMIT  # seconds


def wait(for_what, say=lambda: ""):
    """What for_what() gives once it is something; say() is what to show if that never comes."""
    end = time.monotonic() + LIMIT
    while not (found := for_what()):
        assert time.monotonic() < end, say()
        time.sleep(0.2)
    return found


def end(process):
    """End a process with all that it has started: asked first, killed if it does not go."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid)
        family = [family, *family.children(recursive=True)]
        process.terminate()
        for left in psutil.wait_procs(family, timeout=60)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
    process.wait()


def answers(address):
    """Whether a server answers at this address."""
    try:
        urllib.request.urlopen(f"{address}/api", timeout=LIMIT).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def serving(folder):
    """JupyterLab with the course's own settings over a folder: (address, token, process), ended after."""
    log = folder / "log"
    tracker = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}), encoding="utf-8")  # every cell in the page
    command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
    command += [f"--config={books.ROOT / 'jupyter' / 'jupyter_lab_config.py'}"]
    command += [f"--ServerApp.root_dir={folder}", "--ServerApp.port=0"]
    env = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "HOME": str(folder)}
    with open(log, "w", encoding="utf-8") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, cwd=books.ROOT)
    try:
        said = lambda: log.read_text(encoding="utf-8")
        line = r"(http://127\.0\.0\.1:\d+)/lab\S*\?token=(\w+)"
        wait(lambda: re.search(line, said()) or server.poll() is not None, said)
        assert server.poll() is None, said()
        address, token = re.search(line, said()).groups()
        wait(lambda: answers(address), said)  # the line is written before anyone listens
        yield address, token, server
    finally:
        end(server)


@contextlib.contextmanager
def without_outputs(path, folder):
    """The address of a lesson in JupyterLab whose outputs were taken away."""
    book = books.read(path)
    for cell in books.code(book):
        cell.outputs, cell.execution_count = [], None
    nbformat.write(book, folder / path.name)
    with serving(folder) as (address, token, _):
        yield f"{address}/lab/tree/{path.name}?token={token}"


@pytest.fixture
def lab(tmp_path):
    with without_outputs(LESSON, tmp_path) as address:
        yield address


@pytest.fixture
def browser():
    with chromium.opened(1400, 1000) as driver:
        yield driver


@chromium.is_here
def test_lesson_1_from_the_menu(lab, browser):
    from selenium.webdriver.common.by import By

    def seen(*how):
        return browser.find_elements(*how)

    def prompts():
        return [e.text for e in seen(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt")]

    def began():
        """Run all from the menu, again if a kernel that has only just connected refused it."""
        for dismiss in seen(By.CSS_SELECTOR, ".jp-Dialog button.jp-mod-accept"):
            dismiss.click()
        wait(lambda: seen(By.XPATH, menu))[0].click()
        wait(lambda: seen(By.CSS_SELECTOR, "li[data-command='runmenu:run-all']"))[0].click()
        refused = lambda: seen(By.CSS_SELECTOR, ".jp-Dialog button.jp-mod-accept")
        wait(lambda: refused() or any(re.search(r"[\d*]", p) for p in prompts()))
        return not refused()

    cells = books.code(books.read(LESSON))
    figures = sum("image/png" in o.get("data", {}) for c in cells for o in c.outputs)
    menu = "//div[text()='Run' and contains(@class,'MenuBar')]"

    def finished():
        assert not seen(By.CSS_SELECTOR, "[data-mime-type*='error']")
        return len(prompts()) == len(cells) and all(re.search(r"\d", p) for p in prompts())

    browser.get(lab)
    wait(lambda: len(seen(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")) == len(cells))
    wait(lambda: "| Idle" in "".join(e.text for e in seen(By.ID, "jp-main-statusbar")))
    assert not seen(By.CSS_SELECTOR, ".jp-Dialog")  # no question is in the way
    wait(began)
    wait(finished, lambda: str(prompts()))
    images = seen(By.CSS_SELECTOR, ".jp-OutputArea img[alt]")
    alts = [i.get_attribute("alt") for i in images if i.get_property("naturalWidth") > 300]
    assert len(alts) == figures and all(len(alt) > 30 for alt in alts)
    assert seen(By.CSS_SELECTOR, ".jupyter-widgets"), "the widgets are not there"
    if shots := os.environ.get("COURSE_SCREENSHOTS"):
        browser.save_screenshot(f"{shots}/lab_top.png")
        for n, image in enumerate(images):
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
            time.sleep(0.5)
            browser.save_screenshot(f"{shots}/lab_{n}.png")


@chromium.is_here
def test_lesson_0_with_the_keyboard_alone(tmp_path, browser):
    """Shift+Enter runs a cell and goes to the next; Tab and Enter reach and open an option of a question."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    path = books.path("00")
    cells = books.read(path).cells
    counts = lambda: [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell .jp-InputPrompt")]
    with without_outputs(path, tmp_path) as address:
        browser.get(address)
        wait(lambda: len(counts()) == len(books.code(books.read(path))))
        wait(lambda: "| Idle" in "".join(e.text for e in browser.find_elements(By.ID, "jp-main-statusbar")))
        for _ in cells:
            ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
        wait(lambda: all(re.search(r"\d", prompt) for prompt in counts()[:-1]), lambda: str(counts()))
        assert not browser.find_elements(By.CSS_SELECTOR, "[data-mime-type*='error']")
        option = browser.find_elements(By.CSS_SELECTOR, ".jp-MarkdownCell details")[0]
        assert not option.get_property("open")
        browser.execute_script("arguments[0].querySelector('summary').focus()", option)
        ActionChains(browser).send_keys(Keys.SPACE).perform()
        wait(lambda: option.get_property("open"))


def test_nothing_is_left_of_a_server_whose_test_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), serving(tmp_path) as (address, token, server):
        request = urllib.request.Request(f"{address}/api/kernels?token={token}", b"{}", method="POST")
        urllib.request.urlopen(request, timeout=LIMIT).close()
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(family) >= 2  # the server and a kernel
        print(1 / 0)
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

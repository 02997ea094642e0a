"""A hub, its proxy and its readers, for the load test."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import nbformat
import psutil
import requests
import websocket
from jupyter_client.jsonutil import json_default
from jupyter_client.session import Session

from helpers import ROOT

HUB = ROOT / ".scratch" / "hub" / "bin" / "jupyterhub"
PROXY = ROOT / "deploy" / "node_modules" / ".bin" / "configurable-http-proxy"
CONFIG = ROOT / "deploy" / "jupyterhub_config.py"
LESSON = "notebooks/03_cross_encoder_scoring.ipynb"
PASSWORD = "chalk"
MINUTES = 60
# what a class shares; originals that somebody downloaded stay where they are
COURSE = ("notebooks", "helpers", "shared_data", "docs", "jupyter", "models/bundled", "models/adapters")
COURSE += ("models/recipes", "models/models.toml", "models/README.md")


def missing() -> str | None:
    """One sentence where the hub or its proxy is not installed."""
    for program, command in ((HUB, "make hub"), (PROXY, "npm ci --prefix deploy")):
        if not (program.exists() or shutil.which(program.name)):
            return f"{program.name} is not installed: {command}"
    return None


def program(path: Path) -> str:
    return str(path) if path.exists() else shutil.which(path.name)


def copy_course(folder: Path) -> None:
    """A course of the test's own, that nobody else works in, with this one's environment."""
    for name in COURSE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / name, folder / name, ignore=leave)
        else:
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")


class Server:
    """A hub and its proxy on loopback, two processes as on a server; `room` is a folder of the test's."""

    def __init__(self, room: Path):
        self.room, self.processes = room, {}
        self.course, self.cache = room / "course", room / "cache"
        copy_course(self.course)
        self.cache.mkdir()
        ports = free_ports(3)
        self.url = f"http://127.0.0.1:{ports[0]}"
        (room / "state").mkdir()
        self.environment = os.environ | {
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(16),
            "CLASS_STATE": str(room / "state"),
            "CLASS_COURSE": str(self.course),
            "COURSE_CACHE": str(self.cache),
            "CLASS_TEST_ROOM": str(room),
            "CLASS_TEST_PORTS": " ".join(map(str, ports)),
            "CLASS_TEST_CONFIG": str(CONFIG),
        }
        self.commands = {
            "proxy": [
                program(PROXY),
                *("--ip=127.0.0.1", f"--port={ports[0]}", "--api-ip=127.0.0.1", f"--api-port={ports[1]}"),
                f"--error-target=http://127.0.0.1:{ports[2]}/hub/error",
            ],
            "hub": [program(HUB), "-f", str(Path(__file__).with_name("loopback_config.py"))],
        }

    def start(self, name: str) -> None:
        with (self.room / f"{name}.log").open("a", encoding="utf-8") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], env=self.environment, cwd=self.room, stdout=log, stderr=log
            )

    def stop(self, name: str) -> None:
        self.processes[name].terminate()
        self.processes[name].wait(timeout=60)

    def wait(self) -> None:
        """Until the hub answers through the proxy."""
        wait_for(lambda: answers(f"{self.url}/hub/api"), 60, f"no hub: {self.said('hub')}")

    def said(self, name: str) -> str:
        return (self.room / f"{name}.log").read_text(encoding="utf-8")[-3000:]

    def close(self) -> None:
        """Stop the hub, the proxy, and every server and kernel that is left."""
        left = [process for reader in readers_processes(self.room) for process in tree(reader)]
        for name in list(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(name)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Reader:
    """One reader: logs in by the form, starts their server, and runs a lesson by its kernel's websocket."""

    def __init__(self, server: Server, name: str):
        self.name, self.server, self.url = name, server, f"{server.url}/user/{name}"
        self.home = server.room / "homes" / name
        self.session, self.web = Session(), requests.Session()
        self.errors, self.again, self.socket, self.kernel = [], 0, None, None

    def log_in(self) -> None:
        page = self.web.get(f"{self.server.url}/hub/login")
        form = {"username": self.name, "password": PASSWORD, "_xsrf": self.web.cookies["_xsrf"]}
        page = self.web.post(f"{self.server.url}/hub/login", data=form, allow_redirects=False)
        assert page.status_code == 302, f"{self.name} could not log in: {page.status_code}"
        token = self.web.post(
            f"{self.server.url}/hub/api/users/{self.name}/tokens",
            params={"_xsrf": self.web.cookies.get("_xsrf", path="/hub/")},
        )
        token.raise_for_status()
        self.web.headers["Authorization"] = f"token {token.json()['token']}"

    def start_server(self) -> None:
        """Ask for the server, and wait until it answers."""
        reply = self.web.post(f"{self.server.url}/hub/api/users/{self.name}/server")
        assert reply.status_code in (201, 202), f"{self.name}: {reply.text}"
        wait_for(lambda: answers(f"{self.url}/api/status", self.web), 240, f"{self.name} has no server")
        self.process = next(
            process
            for process in readers_processes(self.server.room)
            if process.environ().get("JUPYTERHUB_USER") == self.name
        )

    def open_lesson(self) -> None:
        """Read the lesson, start its kernel and connect to it, as JupyterLab does."""
        reply = self.web.get(f"{self.url}/api/contents/{LESSON}")
        reply.raise_for_status()
        self.book = nbformat.from_dict(reply.json()["content"])
        started = {
            "path": LESSON,
            "name": LESSON,
            "type": "notebook",
            "kernel": {"name": self.book.metadata.kernelspec.name},
        }
        reply = self.web.post(f"{self.url}/api/sessions", json=started)
        reply.raise_for_status()
        self.kernel = reply.json()["kernel"]["id"]
        self.connect()

    def connect(self) -> None:
        """The kernel's websocket; what the kernel sent while there was none comes first."""
        address = f"{self.url}/api/kernels/{self.kernel}/channels?session_id={self.session.session}"
        token = self.web.headers["Authorization"]
        self.socket = websocket.create_connection(
            address.replace("http://", "ws://"), header={"Authorization": token}, timeout=60 * MINUTES
        )

    def kept(self, step):
        """A step on the websocket; where it was closed, as a server may under load, connect again, as
        JupyterLab does."""
        try:
            return step()
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            self.again += 1
            self.connect()
            return step()

    def run(self, code: str) -> list[dict]:
        """Run code in the kernel; the outputs' messages."""
        message = self.session.msg("execute_request", {"code": code, "silent": False, "allow_stdin": False})
        asked = json.dumps(message | {"channel": "shell"}, default=json_default)
        self.kept(lambda: self.socket.send(asked))
        outputs, to_come = [], {"execute_reply", "idle"}
        while to_come:
            answer = json.loads(self.kept(lambda: self.socket.recv()))
            if answer["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            to_come -= {answer["msg_type"], answer["content"].get("execution_state")}
            if answer["msg_type"] in ("stream", "display_data", "execute_result", "error"):
                outputs.append(answer)
        return outputs

    def run_lesson(self) -> None:
        """Run every code cell, and save the copy with the reader's name in it."""
        for cell in self.book.cells:
            if cell.cell_type == "code":
                for output in self.run(cell.source):
                    if output["msg_type"] == "error":
                        self.errors.append(f"{self.name}: {output['content']['evalue']}")
        self.book.metadata["reader"] = self.name
        reply = self.web.put(
            f"{self.url}/api/contents/{LESSON}", json={"type": "notebook", "content": self.book}
        )
        reply.raise_for_status()

    def all_of_it(self) -> None:
        """From the login to the last cell, with its seconds; what failed goes to `errors`."""
        begin = time.perf_counter()
        try:
            self.log_in()
            self.start_server()
            self.open_lesson()
            self.to_open = time.perf_counter() - begin
            self.run_lesson()
            self.seconds = time.perf_counter() - begin
            self.cpu = sum(sum(process.cpu_times()[:2]) for process in tree(self.process))
        except Exception as e:
            self.errors.append(f"{self.name}: {type(e).__name__}: {e}")

    def memory(self) -> int:
        """Bytes of the reader's server and kernels: what they share with others counts in parts (PSS)."""
        total = 0
        for process in tree(self.process):
            with contextlib.suppress(psutil.NoSuchProcess):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.uss)  # macOS knows uss alone
        return total

    def alive(self) -> set[int]:
        return {process.pid for process in tree(self.process)}


class Peaks(threading.Thread):
    """The most memory of each reader that was seen, every two seconds, while a block runs."""

    def __init__(self, readers: list[Reader]):
        super().__init__(daemon=True)
        self.readers, self.most, self.done = readers, {}, threading.Event()

    def run(self) -> None:
        while not self.done.wait(2):
            for reader in self.readers:
                if hasattr(reader, "process"):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self.most[reader.name] = max(self.most.get(reader.name, 0), reader.memory())

    def __enter__(self) -> dict[str, int]:
        self.start()
        return self.most

    def __exit__(self, *_) -> None:
        self.done.set()
        self.join()


def at_once(readers: list[Reader]) -> None:
    """All of them from login to last cell, each in a thread."""
    threads = [threading.Thread(target=reader.all_of_it) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def readers_processes(room: Path) -> list[psutil.Process]:
    """The servers of readers whose homes are in this room."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(part.endswith("reader_server.py") for part in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME", "").startswith(str(room)):
                    found.append(process)
    return found


def tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def answers(url: str, web=requests) -> bool:
    try:
        return web.get(url, timeout=10, allow_redirects=False).status_code == 200
    except requests.RequestException:
        return False


def wait_for(happened, seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, otherwise
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]

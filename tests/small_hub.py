"""A model hub on loopback, small enough to misbehave on command.

`Hub(repos)` serves {repo: {file: bytes}} in the hub's own protocol: the JSON of a repository
with sizes and hashes, and its files with Range requests. `repos` is what the newest commit holds,
`hub.newest`; `hub.commits` maps older commits to repositories of the same form. `hub.faults` maps a
file to what happens when it is asked for; each fault is used up by one request unless it says always.
"""

import hashlib
import http.server
import json
import threading
import time
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self, repos: dict[str, dict[str, bytes]]):
        self.repos, self.commits, self.faults, self.asked = repos, {}, {}, []
        self.newest = COMMIT
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        path = unquote(urlsplit(request.path).path)
        self.asked.append((request.command, path, request.headers.get("Range")))
        for repo in self.repos:
            if path.startswith(f"/api/models/{repo}/tree/"):  # its folders: none
                return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            if path.startswith((f"/api/models/{repo}", f"/api/datasets/{repo}")):
                commit = path.split("/revision/")[1] if "/revision/" in path else self.newest
                if (files := self.at(commit).get(repo)) is None:
                    return self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return self.send(request, 200, json.dumps(self.info(repo, files, commit)).encode())
            if f"/{repo}/resolve/" in path:
                commit, name = path.split("/resolve/")[1].split("/", 1)
                if name in (files := self.at(commit).get(repo, {})):
                    at = self.newest if commit == "main" else commit
                    return self.send_file(request, name, files[name], at)
                if files:
                    return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        self.send(request, 404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})

    def at(self, commit):
        """The repositories at a commit; {} for one that this hub does not have."""
        return self.repos if commit in (self.newest, "main") else self.commits.get(commit, {})

    def info(self, repo, files, commit):
        if self.faults.get("info") == "nonsense":
            return ["nonsense"]
        siblings = []
        for name, content in files.items():
            sibling = {"rfilename": name, "size": len(content)}
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            sibling["blobId"] = blob
            if len(content) > 1000:  # as the hub does for large files
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": []}

    def send_file(self, request, name, content, commit):
        fault = self.faults.get(name)
        if fault and not str(fault).startswith("always"):
            del self.faults[name]
        fault = str(fault).removeprefix("always ")
        if fault == "404":
            return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        if fault == "429":
            return self.send(request, 429, b"", {"Retry-After": "0"})
        start, status = 0, 200
        if asked := request.headers.get("Range"):
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
        body, extra = content[start:], {"Accept-Ranges": "bytes", "X-Repo-Commit": commit}
        extra["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        if status == 206:
            extra["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "long":
            body = body + b"more"
        self.send(request, status, body, extra, fault)

    def send(self, request, status, body, extra=None, fault=""):
        request.send_response(status)
        for key, value in (extra or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "HEAD":
            return
        try:
            if fault == "break":
                request.wfile.write(body[: len(body) // 2])
                request.wfile.flush()
                request.connection.close()
            elif fault == "drip":
                for k in range(0, len(body), 1 + len(body) // 8):
                    request.wfile.write(body[k : k + 1 + len(body) // 8])
                    request.wfile.flush()
                    time.sleep(0.2)
            elif fault == "stall":
                request.wfile.write(body[: len(body) // 2])
                request.wfile.flush()
                time.sleep(60)
            else:
                request.wfile.write(body)
        except OSError:
            pass  # the client hung up


def ask_here(server, monkeypatch, folder, register):
    """Let helpers.models know the models of `register` alone, fetch them from `server`, and keep them in `folder`."""
    from huggingface_hub import constants

    from helpers import models

    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("COURSE_MODELS_DIR", str(folder))
    monkeypatch.setenv("COURSE_MODELS", "auto")
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # of files of a megabyte
    monkeypatch.setattr(models, "register", lambda: register)

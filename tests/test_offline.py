"""The lessons really run without a network: both ways of cutting it off cut it off."""

import os
import socket
import subprocess
import sys

import books
import pytest

OFFLINE = [sys.executable, str(books.ROOT / "tests" / "offline.py"), sys.executable, "-c"]
ASK = "import socket; s = socket.socket(); s.settimeout(5); s.connect({address!r})"


def run(code, **env):
    return subprocess.run([*OFFLINE, code], capture_output=True, text=True, env=os.environ | env)


def test_a_namespace_of_its_own_has_no_way_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        outside = run(ASK.format(address=server.getsockname()))
    if "refused in this test" in outside.stderr or outside.returncode == 0:
        pytest.skip("this system allows no network namespace; the sockets are refused instead")
    assert "ConnectionRefusedError" in outside.stderr  # a loopback of its own: nobody is there


def test_loopback_works_inside():
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(s.getsockname()).close(); print('talked')"
    )
    for env in ({}, {"OFFLINE_FALLBACK": "1"}):
        assert run(code, **env).stdout.strip() == "talked"


def test_sockets_are_refused_where_there_is_no_namespace():
    for code in (
        ASK.format(address=("192.0.2.1", 80)),
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', "
        + repr(ASK.format(address=("192.0.2.1", 80)))
        + "]))",
    ):
        done = run(code, OFFLINE_FALLBACK="1")
        assert done.returncode and "no network in this test" in done.stderr

"""The lessons really run without a network: each block of tests/offline.py, and each way out.

A way out leads to a server of this test on loopback (a network namespace has a loopback of its
own), or to 198.51.100.1 and names under .invalid, which belong to nobody.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import books
import offline
import pytest

NOBODY = ("198.51.100.1", 9)
SENDING = [
    "socket.socket().connect(NOBODY)",
    "number(socket.socket().connect_ex(NOBODY))",
    "socket.create_connection(NOBODY, 5)",
    "socket.socket(socket.AF_INET6).connect(('::ffff:198.51.100.1', 9))",
    "_socket.socket().connect(NOBODY)",
    "asyncio.run(asyncio.open_connection(*NOBODY))",
    "urllib.request.urlopen('http://198.51.100.1:9', timeout=5)",
    "udp().connect(NOBODY)",
    "udp().sendto(b'out', NOBODY)",
    "udp().sendto(b'out', 0, NOBODY)",
    "udp().sendmsg([b'out'], [], 0, NOBODY)",
    "socket.socket().sendto(b'out', getattr(socket, 'MSG_FASTOPEN', 0), NOBODY)",
]
LOOKING_UP = [
    "socket.gethostbyname('nobody.invalid')",
    "socket.gethostbyname_ex('nobody.invalid')",
    "socket.getaddrinfo('nobody.invalid', 80)",
    "socket.getaddrinfo(b'nobody.invalid', 80)",
    "_socket.getaddrinfo('nobody.invalid', 80)",
    "socket.create_connection(('nobody.invalid', 80), 5)",
    "socket.socket().connect(('nobody.invalid', 80))",
    "socket.socket().connect_ex(('nobody.invalid', 80))",
    "socket.socket().bind(('nobody.invalid', 80))",
    "udp().sendto(b'out', ('nobody.invalid', 9))",
    "udp().sendto(b'out', 0, ('nobody.invalid', 9))",
    "udp().sendmsg([b'out'], [], 0, ('nobody.invalid', 9))",
    "socket.gethostbyaddr('198.51.100.1')",
    "socket.getnameinfo(NOBODY, 0)",
    "asyncio.run(ask_the_loop())",
    "importlib.reload(socket).getaddrinfo('nobody.invalid', 80)",  # from here on, the module as it was
    "socket.socket().connect(NOBODY)",
    "udp().sendto(b'out', NOBODY)",
]
PROGRAM = f"""
import asyncio, importlib, os, socket, sys, urllib.request, _socket
NOBODY = {NOBODY}
def udp(): return socket.socket(type=socket.SOCK_DGRAM)
def number(e):
    if e: raise OSError(e, os.strerror(e))
async def ask_the_loop(): await asyncio.get_running_loop().getaddrinfo("nobody.invalid", 80)
for way in sys.argv[1:]:
    try: print("went:", eval(way))
    except Exception as e: print(type(e).__name__, e)
"""
PYTHON = [sys.executable, "-c", PROGRAM]
A_CHILD_OF_A_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]]))",
    PROGRAM,
]
ISOLATED = ["env", "-i", sys.executable, "-I", "-S", "-c", PROGRAM]  # without what Python imports first
KERNEL = ["namespace", "watched"]


def run(block: str, command: list[str]) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, offline.__file__, *command],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"OFFLINE_BLOCK": block},
        timeout=120,
    )
    if "this system does not allow" in done.stderr:
        pytest.skip(done.stderr.strip())
    return done


@pytest.mark.parametrize("block", offline.BLOCKS)
def test_one_line_names_the_block_and_the_status_is_the_commands(block):
    done = run(block, [sys.executable, "-c", "print('ran'); raise SystemExit(3)"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "ran\n", f"offline: {offline.BLOCKS[block]}\n")


def test_another_word_for_a_block_is_refused():
    assert "must be one of namespace, watched, python" in run("docker", ["true"]).stderr


def test_a_namespace_has_a_loopback_of_its_own():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        with socket.socket(type=socket.SOCK_DGRAM) as near:  # it can be reached, from here
            near.sendto(b"near", udp.getsockname())
            assert udp.recv(4) == b"near"
        place = udp.getsockname()
        tcp = f"socket.create_connection({server.getsockname()}, 5)"
        ways = [f"udp().sendto(b'out', {place})", f"udp().sendmsg([b'out'], [], 0, {place})"]
        for program in (PYTHON, ISOLATED):
            first, *others = run("namespace", [*program, tcp, *ways]).stdout.splitlines()
            assert first.startswith("ConnectionRefusedError") and len(others) == len(ways)
        bash = f"exec 3<>/dev/udp/127.0.0.1/{place[1]}; echo out >&3; echo said"
        if shutil.which("bash"):
            assert run("namespace", ["bash", "-c", bash]).stdout == "said\n"
        with pytest.raises(BlockingIOError):
            udp.recv(4)


@pytest.mark.parametrize("block", KERNEL)
def test_all_that_is_not_loopback_is_closed_to_python_without_its_first_import(block):
    said = run(block, [*ISOLATED, *SENDING]).stdout.splitlines()
    reason = {"namespace": "unreachable", "watched": "Permission"}[block]
    assert len(said) == len(SENDING)
    for way, line in zip(SENDING, said, strict=True):
        assert reason in line or "Connect call failed" in line, f"{way}: {line}"


@pytest.mark.parametrize("block", KERNEL)
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash on this machine")
def test_all_that_is_not_loopback_is_closed_to_a_program_that_is_no_python(block):
    done = run(block, ["bash", "-c", "exec 3<>/dev/udp/198.51.100.1/9 && echo went"])
    reason = {"namespace": "unreachable", "watched": "Permission denied"}[block]
    assert reason in done.stderr and not done.stdout


@pytest.mark.parametrize("program", [PYTHON, A_CHILD_OF_A_CHILD], ids=["child", "its child"])
@pytest.mark.parametrize("block", offline.BLOCKS)
def test_python_refuses_addresses_and_names_in_one_sentence(block, program):
    ways = SENDING + LOOKING_UP
    said = run(block, [*program, *ways]).stdout.splitlines()
    assert len(said) == len(ways)
    for way, line in zip(ways, said, strict=True):
        assert "no network in this test: " in line, f"{way}: {line}"


TALK = [
    "socket.create_connection(server.getsockname(), 5)",
    "socket.create_connection(('localhost', server.getsockname()[1]), 5)",
    "number(socket.socket().connect_ex(server.getsockname()))",
    "udp().sendto(b'out', receiver.getsockname()) and receiver.recv(3)",
    "udp().sendmsg([b'out'], [], 0, receiver.getsockname()) and receiver.recv(3)",
    "pair[0].sendmsg([b'out']) and pair[1].recv(3)",
    "pair[0].send(b'out') and pair[1].recv(3)",
    "socket.getaddrinfo(None, 80)",
    "socket.gethostbyaddr('127.0.0.1')",
]
SERVERS = """
import socket
server, receiver = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
pair = socket.socketpair()
"""


@pytest.mark.parametrize("block", offline.BLOCKS)
def test_loopback_works_inside(block):
    said = run(block, [sys.executable, "-c", SERVERS + PROGRAM, *TALK]).stdout.splitlines()
    assert len(said) == len(TALK)
    for way, line in zip(TALK, said, strict=True):
        assert line.startswith("went:"), f"{way}: {line}"


# An ordinary user of Ubuntu 24.04 may unshare, and may then not say who they are.
REFUSED = """
import errno, os, pathlib, sys
sys.path.insert(0, {tests!r})
import offline
really = offline.unshare
def unshare(flags):
    if flags == offline.NEW_NETWORK: raise PermissionError(errno.EPERM, "not root")
    really(flags)
    os.write(1, b"unshared\\n")
def write_text(path, *rest, **others): raise PermissionError(errno.EPERM, "refused", str(path))
offline.unshare, pathlib.Path.write_text = unshare, write_text
sys.exit(offline.main([sys.executable, *sys.argv[1:]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_a_namespace_that_is_refused_half_way_is_not_begun():
    program = REFUSED.format(tests=str(books.ROOT / "tests"))
    ways = ["os.readlink('/proc/self/ns/user')", "os.readlink('/proc/self/ns/net')", "udp().connect(NOBODY)"]
    command = [sys.executable, "-c", program, "-c", PROGRAM, *ways]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    *unshared, user, net, said = done.stdout.splitlines()
    assert "no network in this test" in said
    assert user == f"went: {os.readlink('/proc/self/ns/user')}"
    assert net == f"went: {os.readlink('/proc/self/ns/net')}"
    assert done.stderr in [f"offline: {offline.BLOCKS[block]}\n" for block in ("watched", "python")]
    if not unshared:
        pytest.skip("this system allows no user namespaces at all")


@pytest.mark.parametrize(
    ("family", "host", "port", "good"),
    [
        ("AF_INET", "127.0.0.1", 80, True),
        ("AF_INET", "127.8.8.8", 80, True),
        ("AF_INET", "0.0.0.0", 80, True),  # this machine
        ("AF_INET", "127.0.0.53", 53, False),  # a name server: it would ask others
        ("AF_INET", "198.51.100.1", 80, False),
        ("AF_INET", "128.0.0.1", 80, False),
        ("AF_INET6", "::1", 80, True),
        ("AF_INET6", "::ffff:127.0.0.1", 80, True),
        ("AF_INET6", "::ffff:198.51.100.1", 80, False),
        ("AF_INET6", "2001:db8::1", 80, False),
    ],
)
def test_what_is_loopback(family, host, port, good):
    loopback_only = pytest.importorskip("loopback_only")
    kind = getattr(socket, family)
    between = b"" if family == "AF_INET" else bytes(4)
    address = struct.pack("=H", kind) + port.to_bytes(2, "big") + between + socket.inet_pton(kind, host)
    assert loopback_only.is_loopback(address) is good
    assert not loopback_only.is_loopback(address[:1]) and not loopback_only.is_loopback(b"")


def test_where_the_kernel_takes_the_questions_they_are_answered():
    """Else a fault in the answers would only skip the tests above."""
    program = f"import sys; sys.path.insert(0, {str(books.ROOT / 'tests')!r})\n"
    program += "import loopback_only; loopback_only.watch_this_thread()"
    if subprocess.run([sys.executable, "-c", program], capture_output=True).returncode:
        pytest.skip("this system takes no such questions")
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    if yama.exists() and int(yama.read_text(encoding="ascii")) > 1:
        pytest.skip("this system lets no process read its children")
    offline_true = [sys.executable, offline.__file__, sys.executable, "-c", ""]
    done = subprocess.run(offline_true, env=os.environ | {"OFFLINE_BLOCK": "watched"}, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_program_that_was_killed_says_so():
    done = run("watched", [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    assert done.returncode == 128 + 9


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on this machine")
def test_make_runs_every_test_and_every_lesson_in_one_of_the_blocks():
    """What make would run (-n), the long tests and benchmarks left out."""
    targets = ["test", "unit", "lessons", "stress"]
    said = subprocess.run(
        ["make", "-n", *targets], capture_output=True, encoding="utf-8", cwd=books.ROOT, check=True
    )
    lines = [line for line in said.stdout.splitlines() if "-m pytest" in line or "tests/execute.py" in line]
    running = [line for line in lines if "tests/benchmarks" not in line]
    assert len(running) == len(targets)
    for line in running:
        words = line.split()
        place = next(i for i, word in enumerate(words) if "=" not in word)  # after NAME=VALUE ...
        assert words[place + 1] == "tests/offline.py" and words[place + 2] == words[place], line

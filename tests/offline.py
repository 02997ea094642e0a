"""Run a command without a network: python tests/offline.py COMMAND...

Only loopback is left to it and to all it starts, by the first of these blocks that the system allows:

namespace  a network namespace of its own (Linux, as root or where users may make one)
watched    the kernel asks about every address (Linux; tests/loopback_only.py)
python     Python's own sockets refuse (any system); nothing else is held

In all three Python also refuses to look names up (tests/no_network/sitecustomize.py). One line on
stderr names the block in force. OFFLINE_BLOCK=watched asks for one of them and no other.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
HERE = Path(__file__).resolve().parent
BLOCKS = {
    "namespace": "a network namespace of its own",
    "watched": "the kernel asks about every address and lets loopback alone pass",
    "python": "Python's sockets refuse all but loopback; programs that are no Python, libraries with "
    "sockets of their own, and python -I, -E or -S are not held",
}


def unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def leave_network() -> None:
    """Move this process into an empty network namespace with loopback up. Raises OSError."""
    import fcntl

    user, group = os.geteuid(), os.getegid()
    try:
        unshare(NEW_NETWORK)
    except PermissionError:
        unshare(NEW_USER | NEW_NETWORK)
        # Ubuntu since 24.04 allows the step before, and then none of these
        own = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for file, line in own.items():
            Path("/proc/self", file).write_text(line, encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        up_and_running = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")
        fcntl.ioctl(s, 0x8914, up_and_running)  # SIOCSIFFLAGS


def watch_a_trial() -> None:
    """Raises OSError where a watched program can be neither let through nor refused."""
    import loopback_only

    trial = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())\n"
        "try: socket.socket(type=socket.SOCK_DGRAM).connect(('198.51.100.1', 9))\n"  # sends nothing
        "except PermissionError: raise SystemExit(0)\n"
        "raise SystemExit(1)"
    )
    if loopback_only.run([sys.executable, "-I", "-S", "-c", trial]):
        raise PermissionError("what a watched program asks cannot be read")


def possible(block: Callable[[], None]) -> bool:
    """Whether a block can be had here: tried in a child, for half of one could not be undone."""
    if not sys.platform.startswith("linux"):
        return False
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        block()
        os._exit(0)
    finally:
        os._exit(1)


def choose(asked: str | None) -> str:
    """The block to use; ends the program where the one that was asked for cannot be had."""
    trials = {"namespace": leave_network, "watched": watch_a_trial}
    if asked and asked not in BLOCKS:
        sys.exit(f"offline: OFFLINE_BLOCK is {asked!r}; it must be one of {', '.join(BLOCKS)}")
    for name in [asked] if asked else BLOCKS:
        if name not in trials or possible(trials[name]):
            return name
    sys.exit(f"offline: this system does not allow {asked}")


def main(command: list[str]) -> int:
    block = choose(os.environ.get("OFFLINE_BLOCK"))
    print(f"offline: {BLOCKS[block]}", file=sys.stderr, flush=True)
    hook = str(HERE / "no_network")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [hook, os.environ.get("PYTHONPATH")]))
    if block == "watched":
        import loopback_only

        return loopback_only.run(command)
    if block == "namespace":
        leave_network()
    if os.name == "nt":  # there, exec would leave the caller without a process to wait for
        return subprocess.call(command)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run a command without a network: python tests/offline.py COMMAND...

On Linux in a network namespace of its own, in which only loopback is up; where the system
does not allow that, with Python's sockets refusing every address but loopback
(tests/no_network/sitecustomize.py), for the command and all it starts.
OFFLINE_FALLBACK=1 asks for the second way.
"""

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def leave_network() -> bool:
    """Move this process into an empty network namespace with loopback up."""
    if not sys.platform.startswith("linux") or os.environ.get("OFFLINE_FALLBACK"):
        return False
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if user == 0:
        if libc.unshare(CLONE_NEWNET):
            return False
    else:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        up_and_running = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")
        fcntl.ioctl(s, 0x8914, up_and_running)  # SIOCSIFFLAGS
    return True


if __name__ == "__main__":
    if not leave_network():
        hook = str(Path(__file__).resolve().parent / "no_network")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [hook, os.environ.get("PYTHONPATH")]))
    os.execvp(sys.argv[1], sys.argv[1:])

"""A command and all that it starts reach nothing but loopback: Linux, and no privilege needed.

The kernel stops every `connect`, `sendto`, `sendmsg` and `sendmmsg` of the watched processes and
asks this one (seccomp's user notification, Linux 5.5); `run` reads the address and lets the call
pass or refuses it with EACCES. So programs that are no Python are held too. What is not: a program
that means ill (it can change the address after it was read), and a daemon that is reached through
a Unix socket and asks the network for others.
"""

import ctypes
import errno
import fcntl
import ipaddress
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

# Linux's numbers for a processor: its name, then its system calls
PROCESSORS = {
    "x86_64": (0xC000003E, {"connect": 42, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "seccomp": 317}),
    "aarch64": (0xC00000B7, {"connect": 203, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "seccomp": 277}),
}
IO_URING_SETUP = 425  # with it a program connects without any of these calls
KILL, REFUSE, ASK, ALLOW = 0x80000000, 0x00050000 | errno.EACCES, 0x7FC00000, 0x7FFF0000
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
QUESTION = struct.Struct("=QIIiIQ6Q")  # id, thread, flags; system call, processor, place, arguments
RECEIVE, ANSWER, GO_ON = 0xC0502100, 0xC0182101, 1
NAME_SERVER = 53  # one on loopback would ask others


def run(command: list[str]) -> int:
    """Run a command that reaches loopback alone; its exit status.

    Raises OSError where the system does not allow the watching, or where there is no such command.
    """
    found = {}

    def start():
        try:
            found["questions"] = watch_this_thread()
            found["child"] = subprocess.Popen(command)
        except OSError as e:
            found["error"] = e

    # what a watched thread starts is watched; this one must not be, or nobody could answer
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    if "error" in found:
        raise found["error"]
    child, questions = found["child"], found["questions"]
    signal.signal(signal.SIGINT, lambda *_: None)  # the keyboard reaches the child by itself
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    ended, waiting = os.pidfd_open(child.pid), select.poll()
    for file in (ended, questions):
        waiting.register(file, select.POLLIN)
    while ended not in (ready := dict(waiting.poll())):
        if questions in ready:
            answer(questions)
    status = child.wait()
    return 128 - status if status < 0 else status


def watch_this_thread() -> int:
    """From now on ask before this thread, or what it starts, sends anywhere; the file of questions."""
    if platform.machine() not in PROCESSORS:
        raise OSError(errno.ENOSYS, f"the system calls of {platform.machine()} are not listed here")
    processor, call = PROCESSORS[platform.machine()]
    steps = [  # what to do; how many steps to pass over if equal, and if not; a number
        (LOAD, 0, 0, 4),  # the processor: 32-bit programs have other numbers
        (IF_EQUAL, 1, 0, processor),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),  # the system call
        (IF_EQUAL, 0, 1, IO_URING_SETUP),
        (RETURN, 0, 0, REFUSE),
        (IF_EQUAL, 9, 0, call["connect"]),
        (IF_EQUAL, 8, 0, call["sendmsg"]),
        (IF_EQUAL, 7, 0, call["sendmmsg"]),
        (IF_EQUAL, 1, 0, call["sendto"]),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, 48),  # the address that `sendto` is given, its lower half; `send` gives none
        (IF_EQUAL, 0, 3, 0),
        (LOAD, 0, 0, 52),  # its upper half
        (IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ASK),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    place = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(place)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, filters, with_questions = 38, 1, 8
    number = ctypes.c_long(-1)
    if not libc.prctl(no_new_privileges, 1, 0, 0, 0):
        libc.syscall.restype = ctypes.c_long
        number = libc.syscall(call["seccomp"], filters, with_questions, ctypes.byref(program))
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return number


def answer(questions: int) -> None:
    """Take one question and let the call that waits for it go on, or refuse it."""
    question = bytearray(QUESTION.size)
    try:
        fcntl.ioctl(questions, RECEIVE, question)
        number, thread, _, call, _, _, *arguments = QUESTION.unpack(question)
        good = all(map(is_loopback, addresses(thread, call, arguments)))
        fcntl.ioctl(
            questions,
            ANSWER,
            struct.pack("=QqiI", number, 0, 0 if good else -errno.EACCES, GO_ON if good else 0),
        )
    except OSError as e:
        if e.errno != errno.ENOENT:  # who asked has ended, or a signal broke the call off
            raise


def addresses(thread: int, call: int, arguments: list[int]) -> Iterator[bytes]:
    """The addresses that a stopped system call would reach; b"" for one that cannot be read."""
    calls = PROCESSORS[platform.machine()][1]
    try:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:

            def read(place: int, size: int) -> bytes:
                memory.seek(place)
                return memory.read(size)

            _, first, second, _, address, size = arguments
            if call == calls["connect"]:
                yield read(first, min(second, 128))
            elif call == calls["sendto"]:
                yield read(address, min(size, 128))
            else:
                for message in range(min(second, 1024) if call == calls["sendmmsg"] else 1):
                    place, length = struct.unpack("=QI", read(first + 64 * message, 12))
                    if place and length:
                        yield read(place, min(length, 128))
    except OSError:
        yield b""


def is_loopback(address: bytes) -> bool:
    """Whether a socket address stays on this machine."""
    family = int.from_bytes(address[:2], "little") if len(address) >= 2 else None
    if family in (socket.AF_UNIX, socket.AF_NETLINK):
        return True
    if family == socket.AF_INET6:
        host = ipaddress.IPv6Address(address[8:24].ljust(16, b"\0"))
        host = host.ipv4_mapped or host
    elif family in (socket.AF_INET, socket.AF_UNSPEC):
        host = ipaddress.IPv4Address(address[4:8].ljust(4, b"\0"))
    else:
        return False
    return (host.is_loopback or host.is_unspecified) and address[2:4] != NAME_SERVER.to_bytes(2, "big")

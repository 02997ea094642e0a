"""Python imports this first: it then looks no name up, and its sockets refuse all but loopback."""

import functools
import ipaddress
import socket
import sys

SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"}
LOOKING_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
INTERNET = (socket.AF_INET, socket.AF_INET6)
ON_THIS_MACHINE = {getattr(socket, name, None) for name in ("AF_UNIX", "AF_NETLINK")}


def refuse_all_but_loopback(event: str, arguments: tuple) -> None:
    """An audit hook: no later import can take it away."""
    if event in SENDING:
        sock, address = arguments[:2]
        if sock.family in INTERNET:
            check(address)
        elif sock.family not in ON_THIS_MACHINE:
            raise OSError(f"no network in this test: a socket of {sock.family!r} refused")
    elif event in LOOKING_UP:
        check(arguments)


def check(address: object) -> None:
    """Raise OSError for an address, (host, ...), that is not loopback."""
    host = address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, tuple):  # socket.getnameinfo is given an address
        host = host[0]
    if isinstance(host, bytes | bytearray):
        host = host.decode(errors="replace")
    if host is None or host in ("", "localhost"):  # no host: an address of this machine, or the peer
        return
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a name
        raise OSError(f"no network in this test: {host} refused") from None
    number = getattr(number, "ipv4_mapped", None) or number
    if not (number.is_loopback or number.is_unspecified):
        raise OSError(f"no network in this test: {host} refused")


def check_first(method: str, event: str, where: slice) -> None:
    """Check the address before the method looks a name in it up, which it does before the hook."""
    really = getattr(socket.socket, method)

    @functools.wraps(really)
    def checked(self, *arguments):
        for address in arguments[where]:
            refuse_all_but_loopback(event, (self, address))
        return really(self, *arguments)

    setattr(socket.socket, method, checked)


sys.addaudithook(refuse_all_but_loopback)
check_first("connect", "socket.connect", slice(0, 1))
check_first("connect_ex", "socket.connect", slice(0, 1))
check_first("bind", "socket.bind", slice(0, 1))
check_first("sendto", "socket.sendto", slice(-1, None))
check_first("sendmsg", "socket.sendmsg", slice(3, 4))

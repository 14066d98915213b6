"""Where servers listen."""

import socket

from condgen.errors import CondgenError

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Names of this machine, at which nobody else can ask."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound at ``host`` and ``port``, 0 for one that is free; nobody can connect before it listens.

    Raises:
        CondgenError: the port is taken, or there is no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Named as TCP, or asyncio would not switch Nagle's algorithm off, and each answer would wait 40 ms for its last packet.
        place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CondgenError(
            f"Port {port} of {host} cannot be listened at ({reason}): choose another --port or --host."
        ) from None
    return place

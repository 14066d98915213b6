"""Where servers listen."""

import asyncio
import socket

from condgen.listening import listen


async def waits_for_packets() -> bool:
    """Whether answers at such a place wait until a packet is full (Nagle's algorithm)."""
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    place = listen("127.0.0.1", 0)
    async with await asyncio.start_server(accept, sock=place):
        _, writer = await asyncio.open_connection(*place.getsockname())
        writer.close()
        return await found == 0


def test_answers_are_sent_at_once() -> None:
    assert not asyncio.run(waits_for_packets())

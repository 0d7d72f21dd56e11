"""
A QUIC server that echoes, and clients that compare, each in a process of its own: ``python quic.py ROLE …``.

The server is ``server PORT CERTIFICATE``, the client ``client PORT AUTHORITY SIZE …``, with a connection for
each size, all at once.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

#: Seconds in which a transfer is through.
TIMEOUT = 60


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send all back."""
    writer.write(await reader.read())
    writer.write_eof()


async def answer(port: int, certificate: str) -> None:
    """The server; it says when it listens."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.load_cert_chain(certificate, certificate)
    tasks = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(echo(reader, writer)))

    await serve("127.0.0.1", port, configuration=configuration, stream_handler=begin)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def ask(port: int, authority: str, size: int) -> None:
    """One connection that sends `size` bytes, and insists on getting them back."""
    configuration = QuicConfiguration(alpn_protocols=["echo"], server_name="localhost")
    configuration.load_verify_locations(authority)
    data = os.urandom(size)
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(data)
        writer.write_eof()
        got = await asyncio.wait_for(reader.read(), TIMEOUT)
    if got != data:
        raise SystemExit(f"{len(got)} of {size} bytes came back, or others")


async def main(role: str, port: int, file: str, *sizes: str) -> None:
    """Do what the command line says."""
    if role == "server":
        await answer(port, file)
    else:
        await asyncio.gather(*(ask(port, file, int(size)) for size in sizes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))

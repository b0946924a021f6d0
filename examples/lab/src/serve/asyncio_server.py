"""A contender of `compare`: Python's asyncio, a callback for each event, on one thread.

    python3 asyncio_server.py 8888
    telnet localhost 8888

It greets and answers as okloop does, and sends the answers to all chunks that it has received with one write.
"""

import asyncio
import sys

BANNER = b"Welcome to the server. Type something and hit enter\n"
PREFIX = b"OK..."
CHUNK = 1024
# How many clients the kernel queues until the server accepts them, as for the ladder.
BACKLOG = 4096


class Session(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        host, port = transport.get_extra_info("peername")
        print(f"Connected with {host}:{port}", flush=True)
        transport.write(BANNER)

    def data_received(self, data):
        answers = []
        for start in range(0, len(data), CHUNK):
            answers += PREFIX, data[start : start + CHUNK]
        self.transport.write(b"".join(answers))

    # asyncio stores what the socket does not take. A client that does not read its answers is not read either.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main(port):
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))

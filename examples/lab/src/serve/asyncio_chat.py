"""A chat for `compare`: Python's asyncio, a callback for each event, on one thread.

    python3 asyncio_chat.py 8888
    telnet localhost 8888

It writes each line to all other clients. asyncio stores what a socket does not take, without a limit.
"""

import asyncio
import sys

# How many clients the kernel queues until the server accepts them, as for the ladder.
BACKLOG = 4096

clients = {}


class Client(asyncio.Protocol):
    guests = 0

    def connection_made(self, transport):
        Client.guests += 1
        self.name = f"guest-{Client.guests}".encode()
        self.rest = b""
        clients[self] = transport
        transport.write(b"* Say something\n")

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"/"):
                clients[self].write(b"* There are no commands\n")
                continue
            said = self.name + b": " + line + b"\n"
            for other, transport in clients.items():
                if other is not self:
                    transport.write(said)

    def connection_lost(self, error):
        del clients[self]


async def main(port):
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))

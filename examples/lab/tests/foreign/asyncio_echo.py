"""An echo server with asyncio: `asyncio_echo.py PORT`."""
import asyncio
import sys


async def echo(reader, writer):
    while data := await reader.read(1024):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(echo, '127.0.0.1', int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())

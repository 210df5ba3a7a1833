"""An echo server by `websockets`, which knows permessage-deflate and says what is wrong with frames."""

import asyncio

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    settings = dict(ping_interval=None, max_size=32 << 20, close_timeout=1)
    async with serve(echo, "127.0.0.1", 0, **settings) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening name=websocket address={host}:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())

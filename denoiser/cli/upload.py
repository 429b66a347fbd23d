"""What may come in over HTTP: a request's body has an end, in bytes and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Bounded:
    """An ASGI application in front of another: a body over ``size`` bytes is answered with 413, one that has not come
    within ``seconds`` with 408."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], size: int, seconds: float) -> None:
        self.app, self.size, self.seconds = app, size, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        taken, whole, started = 0, False, False
        deadline = time.monotonic() + self.seconds

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:  # what is waited for now is that the other end goes away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise _RefusedError(408, f"not all of it came within {self.seconds:g} s") from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self.size:
                raise _RefusedError(413, f"more than {self.size} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if not declared.isdigit() or int(declared) > self.size:
                raise _RefusedError(413, f"more than {self.size} bytes")
            await self.app(scope, bounded, noted)
        except _RefusedError as error:
            if started:
                raise
            body = str(error).encode()
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

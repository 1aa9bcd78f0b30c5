"""Who may ask: this machine alone, or whoever has the token; and never a page from elsewhere."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from tracemend.errors import RunError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Bytes of a request's body: a comment on a few hundred chosen examples.
BODY = 256 * 1024
# Nothing is loaded from elsewhere, nothing runs that is not a file of ours, nobody puts the page into theirs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
_READS = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_host(host: str) -> str:
    """An address to listen on.

    Raises:
        RunError: it is neither an IP address nor ``localhost``.
    """
    if host != "localhost":
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise RunError(f"--host {host!r} is no address; give 127.0.0.1, or 0.0.0.0 for every network.") from None
    return host


class Guard:
    """ASGI middleware: host, origin, token, size; and headers on every answer.

    Args:
        app: what is guarded.
        hosts: names that a request may be addressed to, with port; none means any, which only a token permits.
        token: what a first visit must carry as ``?token=``; None where only this machine can ask.

    A page elsewhere that has its name resolved to 127.0.0.1 is stopped by the host, one that posts here by the origin.
    """

    def __init__(self, app: App, *, hosts: Iterable[str], token: str | None) -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token
        # Not the token itself: a cookie is sent to every port of the host.
        self.ticket = secrets.token_urlsafe(32)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over a websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answered = _Answer(send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await answered.plain(*refusal)
            return
        if self.token is not None and not self._has_ticket(headers):
            await self._admit(scope, _cookie(headers), answered)
            return
        if scope["method"] not in _READS:
            body = await _read(receive)
            if body is None:
                await answered.plain(413, f"The request is larger than {BODY // 1024} KiB.")
                return
            receive = _given(body, receive)
        await self.app(scope, receive, answered)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts and host not in self.hosts:
            return 421, "This studio does not answer to that name; use the address that the command printed."
        if scope["method"] in _READS:
            return None
        # Browsers send the origin with every request that is not a plain read; scripts of one's own name it too.
        if headers.get("origin") != f"{scope.get('scheme', 'http')}://{host}":
            return 403, "The request comes from another page; nothing was changed."
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "The request comes from another site; nothing was changed."
        if headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return 415, "A change is asked for in JSON; nothing was changed."
        return None

    def _has_ticket(self, headers: dict[str, str]) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(_cookie(headers))
        except CookieError:
            return False
        return found is not None and secrets.compare_digest(found.value.encode(), self.ticket.encode())

    async def _admit(self, scope: Message, name: str, answered: _Answer) -> None:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        right = secrets.compare_digest(given.encode(), (self.token or "").encode())
        if scope["method"] == "GET" and scope["path"] == "/" and right:
            cookie = f"{name}={self.ticket}; HttpOnly; SameSite=Strict; Path=/"
            # A page of its own, not a redirect: SameSite=Strict keeps the cookie back from what another page led to.
            extra = ((b"set-cookie", cookie.encode()), (b"refresh", b"0; url=/"), (b"location", b"/"))
            await answered.plain(200, "One moment.", *extra)
            return
        wrong = "This token is not the one that the command printed." if given else "This studio asks for its token."
        await answered.plain(401, f"{wrong} Open the whole address that the command printed, with ?token=...")


def _cookie(headers: Mapping[str, str]) -> str:
    """The cookie's name: cookies know no ports, so that studios of one host would take each other's."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"tracemend-{port if port.isascii() and port.isdigit() else 80}"


class _Answer:
    """Sends on, with our headers."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            known = {name for name, _ in own}
            message["headers"] = [*own, *(h for h in HEADERS if h[0] not in known)]
        await self.send(message)

    async def plain(self, status: int, text: str, *extra: tuple[bytes, bytes]) -> None:
        body = (text + "\n").encode()
        length = (b"content-length", str(len(body)).encode())
        headers = [(b"content-type", b"text/plain; charset=utf-8"), length, *extra]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _given(body: bytes, then: Receive) -> Receive:
    """Hands on a body that was read already, then whatever the server says."""
    told = False

    async def receive() -> Message:
        nonlocal told
        if told:
            return await then()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive

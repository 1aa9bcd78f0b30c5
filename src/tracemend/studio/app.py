"""The server: one page, its files, and the requests it makes; on this machine, or with a token."""

from __future__ import annotations

import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tracemend.errors import RunError
from tracemend.studio.routes import routes
from tracemend.studio.security import Guard, checked_host, is_loopback
from tracemend.studio.session import Session

PAGE = Path(__file__).parent / "static"
# Seconds for requests under way when the server is told to end.
_LAST_ANSWERS = 3


def build(session: Session, *, hosts: tuple[str, ...] = (), token: str | None = None) -> Guard:
    """The guarded application.

    Args:
        hosts: names with port that requests may be addressed to; none means any.
        token: what a first visit must carry; None lets everybody in.
    """

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    async def nothing(request: Request) -> Response:
        return Response(status_code=204)

    app = Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/favicon.ico", nothing, methods=["GET"]),
            # The view of attention patterns is the report's.
            Mount("/static", StaticFiles(directory=PAGE, packages=[("tracemend.report", "view")])),
            *routes(session),
        ]
    )
    return Guard(app, hosts=hosts, token=token)


def serve(
    run: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8760,
    token: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a run until Ctrl-C.

    Args:
        run: the directory of a finished demo, repair, tune or detect.
        host: address to listen on; any other than this machine's own demands a token.
        port: 0 takes a free one.
        token: to be asked for; made up where one is needed and none is given.
        say: told the address, and at the end what becomes of work that runs.

    Raises:
        RunError: it is no run, or the address cannot be listened on.
    """
    session = Session(run)
    host = checked_host(host)
    local = is_loopback(host)
    if token is not None and not token.strip():
        raise RunError("the token is empty, so it would let everybody in; give one, or leave it out to have one made.")
    if not local and token is None:
        token = secrets.token_urlsafe(24)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    named = f"[{host}]" if ":" in host else host
    hosts = _addressed(named, port) if local else ()
    guarded = build(session, hosts=hosts, token=token)
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
    server = uvicorn.Server(config)
    # The server hands a SIGTERM on when it is done; without a handler it would end us before the work is ended.
    # It stands before any work begins: whoever has read the address may already ask us to end.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        look_at(session)
        asked = f"?token={quote(token, safe='')}" if token else ""
        say(f"http://{named}:{port}/{asked}")
        if not local:
            say("Everybody who has this address can decide and tune; it is not encrypted. Ctrl-C ends it.")
        server.run(sockets=[listening])
    finally:
        session.jobs.close()
        session.speaker.close()


def _addressed(named: str, port: int) -> tuple[str, ...]:
    """What browsers of this machine call it: the port of http itself they leave out."""
    names = {"127.0.0.1", "localhost", "[::1]", named}
    return tuple(f"{name}:{port}" for name in names) + (tuple(names) if port == 80 else ())


def look_at(session: Session) -> None:
    """Start computing what the version at hand lacks, then the others, unless something runs or it failed before."""
    one = session.evidence(session.current).version
    last = session.jobs.latest()
    failed = last is not None and last.state == "failed" and last.asked.get("version") == one.name
    if not one.prepared and not failed and (last is None or last.state != "running"):
        others = [v.name for v in session.versions() if not v.prepared and v.name != one.name]
        session.jobs.start("prepare", {"version": one.name, "then": others})


def _listen(host: str, port: int) -> socket.socket:
    plain = host.strip("[]")
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((plain, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise RunError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port (0 takes a free one) or --host."
        ) from error
    return made

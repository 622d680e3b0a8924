"""The process that serves: a free port, TLS, and an end that loses nothing."""

import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from keel.errors import UserError
from keel.preferences.web.hosts import is_local

_PORTS = 20  # tried after the one that was asked for
_PATIENCE = 30.0  # seconds for a thread to begin or end
_TURN = 0.001  # seconds
_GRACE = 5  # seconds for answers under way when the server is to end


class Ended(Exception):  # noqa: N818 (nothing went wrong)
    """The server was asked to end, by this signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@dataclass(frozen=True)
class Tls:
    """Files with the certificate (and its chain) and its private key, in PEM."""

    certificate: Path
    key: Path


def check_exposure(host: str, tls: Tls | None, unencrypted: bool, address: str | None) -> None:
    """UserError where anybody on the way could read along, and nobody has said that this is meant."""
    if is_local(host) or tls is not None or unencrypted:
        return
    behind = " (behind a proxy that has TLS, keep --host 127.0.0.1 and give --address https://…)" if address else ""
    raise UserError(
        f"--host {host} would let other machines in without encryption, so that whoever is on the way can read "
        f"sign-in links and judgements; give --tls-cert and --tls-key, or --unencrypted-on-this-network to do so "
        f"nevertheless{behind}."
    )


def check_tls(tls: Tls) -> Tls:
    """The same; UserError where the files are not a certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--tls-cert {tls.certificate}, --tls-key {tls.key}: are no certificate and its key, both PEM and without "
            f"a password ({error.strerror if isinstance(error, OSError) else error}); mend them."
        ) from None
    return tls


def _no_password() -> str:
    return ""  # a key with a password would otherwise be asked for on the terminal


def listen(host: str, port: int | None, default: int) -> socket.socket:
    """A socket that listens on this port; where none is given, on the default or the next that is free.

    Raises UserError where there is none, or the host is not this machine's.
    """
    ports = [port] if port is not None else range(default, default + _PORTS)
    try:
        family, *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host {host}: no such host ({error.strerror}); use 127.0.0.1.") from None
    reason = ""
    for each in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, each))
            listener.listen(512)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            continue
        return listener
    given = f"--port {port}" if port is not None else f"ports {default} to {default + _PORTS - 1}"
    raise UserError(f"{given} on {host} cannot be had ({reason}); choose another --port.")


def address_of(listener: socket.socket, tls: Tls | None) -> str:
    """Where people find the server."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # everywhere: by the name that others on the network know
        host = socket.gethostname()
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def serve(app: FastAPI, listener: socket.socket, tls: Tls | None, proxied: bool, started: Callable[[], None]) -> int:
    """Serves until a signal asks for the end, and returns its number.

    `started` is called once requests are answered. `proxied`: a proxy on this machine says whom it asks for.
    """
    # threads that compute would otherwise keep the one that answers waiting for 5 ms each
    sys.setswitchinterval(_TURN)
    config = _config(app, tls, proxied)
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _Server(config, started).run(sockets=[listener])
    except Ended as ended:
        return ended.signal
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
    return 0


@contextmanager
def in_background(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    """Serves in a thread for as long as the context lasts, on this machine; the thread ends with the process."""
    begun = threading.Event()
    server = _Server(_config(app, None, proxied=False), begun.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    begun.wait(_PATIENCE)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_PATIENCE)
        listener.close()


def _config(app: FastAPI, tls: Tls | None, proxied: bool) -> uvicorn.Config:
    """Quiet, and nothing that holds a secret is logged: no request is."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=proxied,
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE,
        ssl_certfile=None if tls is None else str(tls.certificate),
        ssl_keyfile=None if tls is None else str(tls.key),
    )


class _Server(uvicorn.Server):
    """Says when it has begun."""

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """uvicorn ends by itself, and then raises the signal once more."""
    raise Ended(number)

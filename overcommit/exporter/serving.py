"""Serves the metrics by HTTP. A scrape that sends its timeout is answered before that."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from overcommit.errors import HostError
from overcommit.exporter.latest import Latest

MOST_AT_ONCE = 8
"""Connections that are served at the same time. More are closed without an answer."""
_PATIENCE_SECONDS = 10.0
"""The timeout for a request to arrive, and for its answer to be taken."""
_TIMEOUT = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"
_PLAIN = ("text/plain", "*/*")
"""Clients that accept this format beside OpenMetrics, as Prometheus does, get it, because it takes half the
CPU time.
"""
_USUAL_SECONDS, _LONGEST_SECONDS = 5.0, 30.0
_SHARE = 0.5
"""The share of its timeout that a scrape waits for overcommitd. The rest is for making the page."""


def seconds_for(timeout: str | None) -> float:
    """How long a scrape may wait for overcommitd, by the timeout that it sends."""
    try:
        seconds = float(timeout) if timeout is not None else _USUAL_SECONDS
    except ValueError:
        seconds = _USUAL_SECONDS
    return _SHARE * (min(seconds, _LONGEST_SECONDS) if seconds > 0 else _USUAL_SECONDS)


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE_SECONDS

    def log_message(self, *_: object) -> None:
        """Scrapes are not logged."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._seats = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Bind without a name server lookup of the host's name, which HTTPServer makes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, while there are not too many."""
        if not self._seats.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be had
            self._seats.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See `socketserver.ThreadingMixIn`."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._seats.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Ignore clients that disconnect during their answer."""


def server(latest: Latest, address: str, port: int) -> WSGIServer:
    """A server that listens, and serves once its ``serve_forever`` is called.

    Raises:
        HostError: the address cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(latest)
    page = make_wsgi_app(registry, disable_compression=True)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        latest.refresh(seconds_for(environ.get(_TIMEOUT)))
        if any(kind in environ.get("HTTP_ACCEPT", "") for kind in _PLAIN):
            environ["HTTP_ACCEPT"] = _PLAIN[0]
        answer: Iterable[bytes] = page(environ, start_response)
        return answer

    try:
        made = _Server(address, port)
    except OSError as error:
        raise HostError(
            f"cannot listen on {address}, port {port}: {error.strerror or error}",
            hint="choose another one: overcommit-exporter --listen 127.0.0.1:PORT",
        ) from error
    made.set_app(application)
    return made

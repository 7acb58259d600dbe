"""The viewer's server: loopback alone, GET alone, a fixed list of addresses, no other host and no other origin."""

from __future__ import annotations

import errno
import json
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from evlift.errors import ConfigError, EvliftError
from evlift.events.stream import LATEST_US
from evlift.viewer.recording import Recording, packed

if TYPE_CHECKING:
    from evlift.events.framing import Fit
    from evlift.streaming.predictor import Predictor

ADDRESS = "127.0.0.1"
PORT = 8765
LENGTHS_US = (100, 10_000_000)  # shortest and longest window
PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Viewer(ThreadingHTTPServer):
    """Serves one recording to browsers on this machine.

    Example:
        >>> with open_viewer("recording.raw", port=0) as viewer:  # doctest: +SKIP
        ...     viewer.serve_forever()

    Args:
        recording: what is looked at.
        predictor: what says something about every window, or None.
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, recording: Recording, predictor: Predictor | None = None, *, port: int = PORT) -> None:
        self.recording, self.predictor = recording, predictor
        self.thinking = threading.Lock()  # one network, one window at a time
        folder = resources.files("evlift.viewer")
        self.pages = {
            path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in PAGES.items()
        }
        super().__init__((ADDRESS, port), _Handler)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request's Host may be."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{self.hosts[0]}/"

    def server_close(self) -> None:
        """Let go of the port and of the recording."""
        super().server_close()
        self.recording.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no error; what else escapes is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def about(self) -> dict[str, Any]:
        """What the page needs to know once."""
        reader, (height, width) = self.recording.reader, self.recording.sensor_size
        return {
            "name": self.recording.path.name,
            "format": reader.format,
            "width": width,
            "height": height,
            "run": self.predictor.trained.place.name if self.predictor else None,
            "classes": list(self.predictor.classes) if self.predictor else [],
            "segments": bool(self.predictor and self.predictor.segments),
            "lengths_us": LENGTHS_US,
        }

    def progress(self) -> dict[str, Any]:
        """The timeline so far."""
        timeline = self.recording.timeline
        return {
            "done": timeline.done,
            "error": timeline.error,
            "events": timeline.events,
            "first_us": timeline.first_us,
            "last_us": timeline.newest_us,
            "bin_us": timeline.bin_us,
            "off_on": timeline.counts.tolist(),
        }

    def frame(self, start_us: int, length_us: int) -> bytes:
        """A window for the page: length of the JSON (4 bytes, little-endian), JSON, a byte a pixel, then the mask's.

        Raises:
            ConfigError: a window that is too short, too long or holds too many events.
        """
        shortest, longest = LENGTHS_US
        if not shortest <= length_us <= longest or not -LATEST_US <= start_us <= LATEST_US:
            raise ConfigError(
                f"Expected a window of {shortest} to {longest} µs, but got {length_us} µs from {start_us}."
            )
        stream = self.recording.window(start_us, start_us + length_us)
        on = int(np.count_nonzero(stream.p))
        said: dict[str, Any] = {"events": len(stream), "on": on, "off": len(stream) - on}
        mask = b""
        if self.predictor is not None and len(stream):
            with self.thinking:
                found = self.predictor(stream, start_us, start_us + length_us, recording="")
            said["best"] = [[name, round(share, 4)] for name, share in found.best]
            said["mask"] = None
            if self.predictor.segments:
                said["mask"], mask = list(found.mask.shape), found.mask.tobytes()
        head = json.dumps(said).encode()
        return len(head).to_bytes(4, "little") + head + packed(stream).tobytes() + mask


def open_viewer(
    recording: str | Path,
    run: str | Path | None = None,
    *,
    port: int = PORT,
    format: str | None = None,
    fit: Fit = "auto",
) -> Viewer:
    """A server for a recording, bound and not yet serving.

    Args:
        recording: a file in any readable format.
        run: a finished run, or an exported network, whose answers are shown.
        port: 0 takes a free one.
        format: of the file, where it cannot be told from its content.
        fit: how a recording of another sensor than the network's is shown to it, as :func:`evlift.predict` does.

    Raises:
        FormatError: a file that cannot be read. DataError: no such run.
        ConfigError: a port that is taken or out of range, or a run that reads pictures.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"Expected a port of 0 to 65535, but got {port}.")
    predictor = None if run is None else _predictor(run, fit)
    opened = Recording(recording, format)
    try:
        return Viewer(opened, predictor, port=port)
    except OSError as error:
        opened.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is in use" if error.errno == errno.EADDRINUSE else "is not allowed to you"
        raise ConfigError(
            f"The port {port} of {ADDRESS} {why}. Give another --port; 0 takes a free one."
        ) from None


def _predictor(run: str | Path, fit: Fit) -> Predictor:
    """Windows are looked at in any order, so no state is kept from one to another."""
    from evlift.streaming.opening import open_predictor
    from evlift.streaming.predictor import Predictor

    return Predictor(open_predictor(run), keep_state=False, fit=fit)


class _Refused(Exception):
    """An answer that is not the page: a status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for a fixed list of addresses; no address names a file."""

    server: Viewer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "evlift", ""
    timeout = 30

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def do_GET(self) -> None:
        try:
            self._check()
            body, kind = self._found()
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except ConfigError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (EvliftError, OSError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        else:
            self._send(HTTPStatus.OK, body, kind)

    def _check(self) -> None:
        """Refuse what another page or another machine's name may have sent."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            raise _Refused(
                HTTPStatus.FORBIDDEN, f"Expected the host {self.server.hosts[0]}, but got {', '.join(hosts)}."
            )
        origins = {f"http://{host}" for host in self.server.hosts}
        if any(origin not in origins for origin in self.headers.get_all("Origin") or []):
            raise _Refused(HTTPStatus.FORBIDDEN, "Expected a request of the viewer's own page.")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _Refused(HTTPStatus.FORBIDDEN, "Expected a request of the viewer's own page.")

    def _found(self) -> tuple[bytes, str]:
        if not self.path.startswith("/"):  # also what names another host, which `urlsplit` may not even parse
            raise _Refused(HTTPStatus.NOT_FOUND, "Expected an address of this server.")
        parts = urlsplit(self.path)
        if parts.scheme or parts.netloc:
            raise _Refused(HTTPStatus.NOT_FOUND, "Expected an address of this server.")
        if parts.path in self.server.pages:
            return self.server.pages[parts.path]
        match parts.path:
            case "/api/about":
                return _json(self.server.about())
            case "/api/timeline":
                return _json(self.server.progress())
            case "/api/frame":
                start, length = (_number(parts.query, name) for name in ("start", "length"))
                return self.server.frame(start, length), "application/octet-stream"
        raise _Refused(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _refuse_method(self) -> None:
        self.close_connection = True  # a body may follow that nobody will read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Expected GET.", {"Allow": "GET"})

    def _refuse(self, status: HTTPStatus, reason: str, more: dict[str, str] | None = None) -> None:
        self._send(status, reason.encode(), "text/plain; charset=utf-8", more)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(body))}
        for name, value in {**HEADERS, **fixed, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the user's."""


def _json(content: Any) -> tuple[bytes, str]:
    return json.dumps(content).encode(), "application/json"


def _number(query: str, name: str) -> int:
    values = parse_qs(query).get(name, [])
    if len(values) != 1 or len(values[0]) > 20 or not values[0].removeprefix("-").isdecimal():
        raise ConfigError(f"Expected `{name}` once, as whole µs, but got {values}.")
    return int(values[0])

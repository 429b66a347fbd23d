"""A file server on loopback that fails on demand."""

import io
import threading
import zipfile
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/bitstream/handle/10283/2791/"
BLOCK = 1 << 14  # bytes sent at once


class Server(ThreadingHTTPServer):
    """Server of ``files`` by GET, behind a redirect as DataShare has it.

    Each request for a file takes one of ``faults``: ``{"status": 503}``, ``{"drop": bytes}`` breaks the connection
    after so many, ``{"send": (content type, body)}``, and ``{"range": "bytes 7-9/10"}`` is a wrong Content-Range.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[dict] = []
        self.requests: list[tuple[str, str | None]] = []  # name of the file, Range
        self.has_ranges = self.has_lengths = True
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of a client that goes away."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args) -> None:
        pass

    def respond(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith(PREFIX):
            self.respond(302, b"", Location=f"/bitstreams/1b51/download?file={self.path.removeprefix(PREFIX)}")
            return
        name, asked = self.path.rpartition("=")[2], self.headers.get("Range")
        self.server.requests.append((name, asked))
        fault = self.server.faults.pop(0) if self.server.faults else {}
        if "status" in fault:
            self.respond(fault["status"], b"busy")
        elif "send" in fault:
            kind, body = fault["send"]
            self.respond(200, body, Content_Type=kind)
        elif name not in self.server.files:
            self.respond(404, b"<html>", Content_Type="text/html")
        else:
            self.send_file(self.server.files[name], asked, fault)

    def send_file(self, body: bytes, asked: str | None, fault: dict) -> None:
        size, status, headers = len(body), 200, {"Content-Type": "application/zip"}
        if asked and self.server.has_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= size:
                self.respond(416, b"", Content_Range=f"bytes */{size}")
                return
            body, status = body[start:], 206
            headers["Content-Range"] = fault.get("range", f"bytes {start}-{size - 1}/{size}")
        if self.server.has_lengths:
            headers["Content-Length"] = str(len(body))
        else:
            self.close_connection = True
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        for start in range(0, len(body), BLOCK):
            if start >= fault.get("drop", size + 1):
                self.close_connection = True
                return
            self.wfile.write(body[start : min(start + BLOCK, fault.get("drop", size))])


def zipped(entries: dict[str, bytes]) -> bytes:
    """Return a ZIP archive of these files."""
    return archive_of(entries.items(), zipfile.ZIP_DEFLATED)


def archive_of(parts: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a ZIP archive of names, which may come twice, and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return buffer.getvalue()

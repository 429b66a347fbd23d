"""A server on loopback that behaves like DataShare, on good and bad days, and processes that can be killed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROOT

from denoiser.data.vctk_demand.corpus import Archive

PREFIX = "/bitstream/handle/10283/2791/"
STUB = b"<!DOCTYPE html><html>" + b" " * 730  # what a HEAD request gets: neither its size nor its type is the file's


class Server(ThreadingHTTPServer):
    """Serves ``files`` by GET behind a redirect. ``faults`` are used up, one a request for a file.

    A fault: ``{"status": 503, "headers": {...}}``, ``{"drop": bytes}`` breaks the connection after so many,
    ``{"stall": seconds}``, ``{"send": (content type, body)}``, ``{"range": "bytes 7-9/10"}`` lies about what is sent,
    ``{"call": function}`` is called first.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[dict] = []
        self.requests: list[tuple[str, str, str | None]] = []  # of files: method, name, Range
        self.ranges = self.validators = self.lengths = True
        self.seconds = 0.0  # that each 16 KB take
        self.sent = 0
        self.half_sent: threading.Event | None = None  # set at half a body, which then waits forever
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args) -> None:
        pass

    def respond(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.server.requests.append(("HEAD", self.path, None))
        self.respond(200, Content_Type="text/html;charset=utf-8")

    def do_GET(self) -> None:
        server = self.server
        if self.path.startswith(PREFIX):
            self.respond(302, Location=f"/bitstreams/1b51/download?file={self.path.removeprefix(PREFIX)}")
            return
        name = self.path.rpartition("=")[2]
        asked = self.headers.get("Range")
        server.requests.append(("GET", name, asked))
        fault = server.faults.pop(0) if server.faults else {}
        if "call" in fault:
            fault["call"]()
        if "stall" in fault:
            time.sleep(fault["stall"])
        if "status" in fault:
            self.respond(fault["status"], b"busy", **fault.get("headers", {}))
            return
        if "send" in fault:
            kind, body = fault["send"]
            self.respond(200, body, Content_Type=kind)
            return
        if name not in server.files:
            self.respond(404, STUB, Content_Type="text/html")
            return
        self.send_file(server.files[name], asked, fault)

    def send_file(self, body: bytes, asked: str | None, fault: dict) -> None:
        server, whole = self.server, len(body)
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        if asked and server.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= whole:
                self.respond(416, Content_Range=f"bytes */{whole}")
                return
            self.send_response(206)
            self.send_header("Content-Range", fault.get("range", f"bytes {start}-{whole - 1}/{whole}"))
            body = body[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        if server.validators:
            self.send_header("ETag", etag)
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 1 << 14):
            block = body[start : min(start + (1 << 14), fault.get("drop", whole))]
            if server.half_sent and start > len(body) // 2:
                server.half_sent.set()
                time.sleep(60)
            self.wfile.write(block if server.lengths else b"%x\r\n%b\r\n" % (len(block), block) if block else b"")
            server.sent += len(block)
            if server.seconds:
                time.sleep(server.seconds)
            if start + (1 << 14) >= fault.get("drop", whole + (1 << 14)):
                self.close_connection = True
                return
        if not server.lengths:
            self.wfile.write(b"0\r\n\r\n")


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def described(name: str, body: bytes, folder: dict[str, bytes], suffix: str = ".wav", **others) -> Archive:
    """The line of the table for an archive that unpacks to ``folder``."""
    size = sum(map(len, folder.values()))
    entry = {"files": len(folder), "suffix": suffix, **others}
    return Archive(name, hashlib.md5(body).hexdigest(), len(body), size, **entry)


def served(checkpoint: Path, folder: Path, *settings: str) -> tuple[subprocess.Popen, str]:
    """The demo page in a process of its own, and its address; its log and temporary files lie in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(folder / "log.txt", "w")  # noqa: SIM115
    command = [sys.executable, "-m", "denoiser", "demo", f"ckpt={checkpoint}", f"port={port}", "device=cpu", *settings]
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 300
    while "Running on local URL" not in (text := (folder / "log.txt").read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(text)
        time.sleep(0.2)
    return process, f"http://127.0.0.1:{port}"


class Runner:
    """The command in processes of their own, forked from one that has everything imported."""

    SCRIPT = """
import json, os, signal, sys
import filelock, hydra.errors, omegaconf.errors  # once for all
from denoiser import audio
from denoiser.data import download, vctk_demand
from denoiser.data.vctk_demand.corpus import Archive

def die_at(count, root):
    left = [count]
    def hook(event, args):  # of what a process does to files, Python tells before it happens
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and root in str(args[0]):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for line in sys.stdin:
    job = json.loads(line)
    pids = []
    for arguments in job["runs"]:
        pids.append(os.fork())
        if pids[-1] == 0:
            os.dup2(2, 1)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
            if job["steps"] is not None:
                die_at(job["steps"], arguments[0].partition("=")[2])
            try:
                vctk_demand.main(arguments, [Archive(**a) for a in job["archives"]])
            except SystemExit as error:
                os._exit(error.code)
            os._exit(0)
    print(*pids, flush=True)
    print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], flush=True)
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self.SCRIPT]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, archives: Sequence[Archive], *runs: Sequence[str], steps: int | None = None) -> list[int]:
        """Start the command with these arguments, the first of them root=; the processes' ids.

        ``steps`` is how many things it may do to files in root before it is killed.
        """
        job = {"runs": runs, "archives": [asdict(a) for a in archives], "steps": steps}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return [int(pid) for pid in self.process.stdout.readline().split()]

    def codes(self) -> list[int]:
        """Their exit codes, negative for a signal, when all have ended."""
        return [int(code) for code in self.process.stdout.readline().split()]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def tree(root: Path) -> dict[str, bytes]:
    """Every file under ``root``, hidden ones too, but for the record, whose order follows the run."""
    files = {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names}
    return {name: (root / name).read_bytes() for name in files if name != "unpacked.json"}

"""mlxlm serve over real sockets: MLXLM names the binary."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("cli", ROOT / "tests/cli/conftest.py")
cli = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cli)
PROGRAM, environment, checkpoint = cli.PROGRAM, cli.environment, cli.checkpoint


class Server:
    """A running program. `log` is what it said; the port is its own choice."""

    def __init__(self, *arguments, ready=True, host="127.0.0.1", keeps=False):
        self.host = host
        none = () if keeps else ("--conversations", "none")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", *none, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=environment({}))
        self.lines, self.port = [], None
        self.said = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        if ready:
            line = self.wait_for(r"serving .* at ")
            found = re.search(r":(\d+)$", line)
            self.port = int(found.group(1)) if found else None

    def _read(self):
        for line in self.process.stderr:
            with self.said:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.said.notify_all()
        with self.said:
            self.lines.append("")
            self.said.notify_all()

    def wait_for(self, pattern, timeout=60):
        end, seen = time.monotonic() + timeout, 0
        with self.said:
            while True:
                for line in self.lines[seen:]:
                    if re.search(pattern, line):
                        return line
                seen = len(self.lines)
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and self.lines[-1:] == [""]):
                    raise AssertionError(f"no {pattern!r} in: " + "\n".join(self.lines))
                self.said.wait(min(left, 1))

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def log(self):
        """The access log so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def stop(self, how=signal.SIGTERM, timeout=40):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout)

    # ---- plain HTTP, without a client's help

    def connect(self, timeout=20):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def raw(self, data, shut=False, timeout=20):
        """Sends bytes and reads until the server closes."""
        with self.connect(timeout) as s:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            out = b""
            try:
                while piece := s.recv(65536):
                    out += piece
            except ConnectionResetError:
                pass
            return out

    def ask(self, method, path, body=None, headers=None, timeout=60, raw_body=None):
        data = raw_body if raw_body is not None else (
            b"" if body is None else json.dumps(body).encode())
        head = {"Host": f"{self.host}:{self.port}", "Connection": "close"}
        if data or method == "POST":
            head["Content-Length"] = str(len(data))
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{k}: {v}" for k, v in head.items() if v is not None]
        raw = self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data, timeout=timeout)
        return Response(raw)

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)

    def metric(self, name):
        text = self.get("/metrics").text
        found = re.search(rf"^mlxlm:{name} (\S+)$", text, re.M)
        return float(found.group(1)) if found else None


class Response:
    def __init__(self, raw):
        self.raw = raw
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        if self.headers.get("transfer-encoding") == "chunked":
            body = unchunk(body)
        self.body = body

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    def events(self):
        """The data of a stream's events; comments left out."""
        out = []
        for block in self.text.split("\n\n"):
            for line in block.split("\n"):
                if line.startswith("data: "):
                    out.append(line[6:])
        return out


def unchunk(data):
    out = b""
    while True:
        size, _, rest = data.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            assert rest == b"\r\n", rest
            return out
        assert rest[n:n + 2] == b"\r\n"
        out, data = out + rest[:n], rest[n + 2:]


@pytest.fixture(scope="session")
def server():
    """SmolLM2, temperature 0."""
    running = Server("--model", "smollm2")
    yield running
    assert running.stop() == 0


@pytest.fixture
def serve():
    """Starts servers of a test's own."""
    started = []

    def start(*arguments, **options):
        started.append(Server(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


@pytest.fixture
def client(server):
    """OpenAI's own."""
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)

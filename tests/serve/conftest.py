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
PATIENCE, until = cli.PATIENCE, cli.until


def rest(s, out=b""):
    """What a connection still brings until its end."""
    try:
        while piece := s.recv(65536):
            out += piece
    except ConnectionResetError:
        pass
    return out


def read_until(s, done):
    """What a connection brings until then: until it holds these bytes, or all is there
    that an answer's length promises."""
    out = b""
    while not (done in out if isinstance(done, bytes) else done(out)):
        piece = s.recv(65536)
        assert piece, out
        out += piece
    return out


def whole(out):
    head, end, body = out.partition(b"\r\n\r\n")
    return end and len(body) >= int(re.search(rb"content-length: (\d+)", head).group(1))


def memory(pid, field):
    """Bytes of a process by its name in /proc/PID/status: VmRSS, VmHWM."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(field + r":\s+(\d+) kB", text).group(1)) << 10


class Server:
    """A running program. `log` is what it said; the port is its own choice."""

    def __init__(self, *arguments, ready=True, host="127.0.0.1", keeps=False):
        self.host = host
        none = () if keeps else ("--conversations", "none")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", *none, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=environment({}))
        self.lines, self.port, self.silent = [], None, False
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
            self.silent = True
            self.said.notify_all()

    def mark(self):
        """A place in what it says: what it says from now on stands behind it."""
        with self.said:
            return len(self.lines)

    def wait_for(self, pattern, behind=0, timeout=PATIENCE):
        """The first line behind a mark that has the pattern."""
        end = time.monotonic() + timeout
        with self.said:
            while True:
                for line in self.lines[behind:]:
                    if re.search(pattern, line):
                        return line
                behind, left = len(self.lines), end - time.monotonic()
                if left <= 0 or self.silent:
                    raise AssertionError(f"no {pattern!r} in: " + "\n".join(self.lines))
                self.said.wait(left)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def log(self, behind=0):
        """The access log so far."""
        with self.said:
            return [json.loads(line) for line in self.lines[behind:] if line.startswith("{")]

    def logged(self, behind=0, **fields):
        """The record of the access log that says so, once it is there: records are
        written when an answer is through, which its reader may see before."""
        return until(lambda: [r for r in self.log(behind) if fields.items() <= r.items()])[0]

    def idle(self):
        """Waits until nothing runs."""
        until(lambda: self.get("/slots").json == [])

    def ended(self, timeout=PATIENCE):
        """The exit code of what ends by itself, once all it says has been read."""
        code = self.process.wait(timeout)
        with self.said:
            assert self.said.wait_for(lambda: self.silent, timeout)
        return code

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.ended()

    # ---- plain HTTP, without a client's help

    def connect(self, timeout=PATIENCE):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def raw(self, data, shut=False, timeout=PATIENCE):
        """Sends bytes, whole or in pieces, and reads until the server closes; it may do so
        before it has read them all."""
        with self.connect(timeout) as s:
            try:
                for piece in [data] if isinstance(data, bytes) else data:
                    s.sendall(piece)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except TimeoutError:
                raise
            except OSError:
                pass
            return rest(s)

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE, raw_body=None):
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
def shared():
    """SmolLM2, temperature 0."""
    running = Server("--model", "smollm2")
    yield running
    assert running.stop() == 0


@pytest.fixture
def server(shared):
    """The one that tests share: each leaves it with nothing running."""
    yield shared
    shared.idle()


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

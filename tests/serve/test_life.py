"""Begin and end of the server (cases F, L and P of the test catalogue), its logs
and figures."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time

import pytest

from conftest import PROGRAM, Response, environment, read_until, rest, until, whole

CHAT = "/v1/chat/completions"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
# As long as the context allows: it has not ended on the quickest machine.
LONG = {"messages": [{"role": "user", "content": "Count to 1000."}], "max_tokens": 8000,
        "ignore_eos": True, "stream": True}


def send(server, body=LONG):
    data = json.dumps(body).encode()
    s = server.connect()
    s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (CHAT.encode(), len(data), data))
    return s


def begin(server, body=LONG):
    """A request whose answer has begun."""
    s = send(server, body)
    return s, read_until(s, b"data: ")


def phases(server):
    return [slot["phase"] for slot in server.get("/slots").json]


def refuses(server):
    """Whether nobody listens any more."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True


def test_drain_lets_answers_end(serve):
    server = serve("--model", "smollm2")
    s, first = begin(server, {**LONG, "max_tokens": 150})
    idle = server.connect()
    idle.sendall(HEALTH)  # who only waits to be let in is turned away
    read_until(idle, whole)
    server.process.send_signal(signal.SIGTERM)
    answer = Response(rest(s, first))
    assert answer.events()[-1] == "[DONE]"
    assert '"finish_reason":"length"' in answer.events()[-2]
    assert server.ended() == 0
    assert idle.recv(10) == b""


def test_drain_ends_what_takes_too_long(serve):
    server = serve("--model", "smollm2", "--drain-seconds", 1)
    s, first = begin(server)
    server.process.send_signal(signal.SIGTERM)
    answer = Response(rest(s, first))
    assert answer.events()[-1] == "[DONE]"
    assert "shutting down" in json.loads(answer.events()[-2])["error"]["message"]
    assert server.ended() == 0


def test_second_signal_ends_at_once(serve):
    server = serve("--model", "smollm2")
    s, first = begin(server)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(server))
    server.process.send_signal(signal.SIGINT)
    assert server.ended() == 130  # what ends in good order has SIGTERM's, 0
    s.close()


def test_port_in_use(server, serve, checkpoint):
    done = subprocess.run(
        [PROGRAM, "serve", "--model", checkpoint(), "--port", str(server.port)],
        capture_output=True, env=environment({}), timeout=120)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and f"127.0.0.1:{server.port}" in lines[0]


def test_model_that_is_not_there(serve, tmp_path):
    server = serve("--model", tmp_path / "nothing", ready=False)
    assert server.ended() == 1


def test_unix_socket(serve, checkpoint, tmp_path):
    path = tmp_path / "s.sock"
    server = serve("--model", checkpoint(), "--host", f"unix:{path}")
    assert oct(os.stat(path).st_mode)[-3:] == "600"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert rest(s).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0 and not path.exists()


def test_tls(serve, checkpoint, tmp_path):
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2",
         "-keyout", key, "-out", cert], capture_output=True)
    if made.returncode:
        pytest.skip("no openssl to make a certificate with")
    server = serve("--model", checkpoint(), "--ssl-cert-file", cert, "--ssl-key-file", key,
                   ready=False)
    line = server.wait_for(r"serving .* at|without")
    if "without" in line:
        pytest.skip("built without OpenSSL")
    server.port = int(line.rsplit(":", 1)[1])
    context = ssl.create_default_context(cafile=cert)
    for _ in range(2):
        with context.wrap_socket(server.connect(), server_hostname="localhost") as s:
            for _ in range(2):
                s.sendall(HEALTH)
                assert read_until(s, whole).startswith(b"HTTP/1.1 200 ")
    assert server.raw(b"GET /health HTTP/1.1\r\n\r\n")[:8] != b"HTTP/1.1"
    assert server.stop() == 0


def test_queue_that_is_full(serve):
    server = serve("--model", "smollm2", "--decode-concurrency", 1, "--queue", 1)
    first, _ = begin(server)
    second = send(server)
    until(lambda: sorted(phases(server)) == ["answer", "waiting"])
    third = server.post(CHAT, LONG)
    assert third.status == 429 and int(third.headers["retry-after"]) > 0
    assert third.error["type"] == "rate_limit_error"
    assert sorted(phases(server)) == ["answer", "waiting"]  # it waited for neither
    first.close()
    assert read_until(second, b"data: ").startswith(b"HTTP/1.1 200 ")
    second.close()


def test_deadline(serve):
    server = serve("--model", "smollm2", "--request-seconds", 3)
    answer = server.post(CHAT, {**LONG, "stream": False})
    assert answer.status == 504 and answer.error["type"] == "timeout_error"
    answer = server.post(CHAT, LONG)
    assert answer.events()[-1] == "[DONE]" and "request_seconds" in answer.events()[-2]
    server.idle()


def test_reader_that_stops_reading(serve):
    server = serve("--model", "smollm2", "--write-seconds", 1, "--stream-buffer", 1024)
    s = send(server, {**LONG, "n": 8})
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    server.logged(outcome="slow reader")
    server.idle()
    s.close()


def test_prefill_is_told(server):
    answer = server.post("/v1/completions", {
        "prompt": "tale " * 4000, "max_tokens": 1, "stream": True})
    pings = re.findall(r"^: keepalive (\d+)/(\d+)$", answer.text, re.M)
    assert pings and all(int(a) <= int(b) for a, b in pings)
    assert answer.events()[-1] == "[DONE]"


def test_access_log(server):
    before = server.mark()
    server.post(CHAT, {**LONG, "max_tokens": 3}, headers={"X-Request-Id": "abc-1"})
    server.get("/nothing?secret=1")
    server.get("/nothing\x7f?secret=1")
    record = server.logged(before, id="abc-1")
    assert record["request"] == f"POST {CHAT}" and record["status"] == 200
    assert record["outcome"] == "ok" and "generated=3" in record["tokens"]
    server.logged(before, status=404)
    server.logged(before, outcome="refused")
    assert not any("secret" in line for line in server.lines)


def test_props_and_metrics(server):
    props = server.get("/props").json
    assert props["limits"]["header_bytes"] == 16384 and props["n_ctx"] == 8192
    before = server.metric("tokens_predicted_total")
    server.post(CHAT, {**LONG, "max_tokens": 7, "stream": False})
    assert server.metric("tokens_predicted_total") == before + 7
    text = server.get("/metrics").text
    for name in ("prompt_tokens_total", "requests_processing", "kv_bytes",
                 "time_to_first_token_seconds_bucket", "http_responses_total"):
        assert f"mlxlm:{name}" in text
    for line in text.splitlines():
        assert re.match(r"^(# (HELP|TYPE) \S+ .+|[\w:]+(\{[^}]*\})? [-+\d.e]+(inf)?)$", line), line


def test_timeline(server):
    def of(name):
        return [one for one in server.get("/timeline").json if one["request"] == name]
    server.post(CHAT, {**LONG, "max_tokens": 20, "stream": False, "n": 2},
                headers={"X-Request-Id": "time-1"})
    two = of("time-1")
    assert len(two) == 2
    for one in two:
        assert one["finish_reason"] == "length" and one["n_decoded"] == 20
        assert one["prompt_ms"] > 0 and one["predicted_ms"] > 1 and one["waited_ms"] >= 0
        assert abs(one["ended_unix_ms"] / 1000 - time.time()) < 60
        assert one["n_prompt_tokens"] > 5
    s, _ = begin(server)
    request = server.get("/slots").json[0]["request"]
    s.close()
    gone = until(lambda: of(request))
    assert gone[0]["finish_reason"] == "cancelled" and gone[0]["n_decoded"] >= 0
    assert server.get("/timeline").json[0] == gone[0]


def test_page(server):
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html") and b"<script" in page.body
    for path in ("/", "/page/app.js", *re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)):
        headers = server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in
                      headers["content-security-policy"].split(";"))
        # What a model says runs nothing and fetches nothing.
        assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == policy["media-src"] == "'self' data: blob:"
        assert policy["frame-ancestors"] == policy["trusted-types"] == "'none'"
        assert set(policy) <= {"default-src", "script-src", "style-src", "img-src", "media-src", "connect-src",
                               "form-action", "base-uri", "require-trusted-types-for", "trusted-types",
                               "frame-ancestors", "font-src"}
    again = server.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status == 304 and again.body == b""
    assert server.get("/page/app.js").headers["content-type"].startswith("text/javascript")
    assert server.get("/page/nothing.js").status == 404
    assert server.get("/conversations").status == 404


def test_conversations(serve, checkpoint, tmp_path):
    keys = {"X-Api-Key": "one"}, {"X-Api-Key": "two"}
    options = ["--model", checkpoint(), "--conversations", tmp_path / "c.db", "--api-key",
               "ann:one", "--api-key", "bob:two"]
    server = serve(*options)
    kept = {"id": "c1", "title": "Hi", "updated": 5, "messages": {}}
    assert server.ask("PUT", "/conversations/c1", kept, headers=keys[0]).status == 200
    assert server.stop() == 0
    server = serve(*options)
    listed = server.get("/conversations", headers=keys[0]).json["data"]
    assert listed == [{"id": "c1", "title": "Hi", "updated": 5}]
    assert server.get("/conversations/c1", headers=keys[0]).json == kept
    assert server.get("/conversations", headers=keys[1]).json["data"] == []
    assert server.get("/conversations/c1", headers=keys[1]).status == 404
    assert server.ask("PUT", "/conversations/c1", {"id": "x"}, headers=keys[0]).status == 400
    assert server.get("/conversations").status == 401
    assert server.ask("DELETE", "/conversations/c1", headers=keys[1]).status == 404
    assert server.ask("DELETE", "/conversations/c1", headers=keys[0]).status == 200
    assert server.get("/conversations", headers=keys[0]).json["data"] == []


def test_memory_comes_back(server):
    for _ in range(2):
        server.post(CHAT, {**LONG, "max_tokens": 4, "stream": False})
    sockets = [begin(server)[0] for _ in range(6)]
    until(lambda: server.metric("kv_pages_in_use") >= 6)
    for s in sockets:
        s.close()
    server.idle()
    until(lambda: server.metric("requests_processing") == 0)
    until(lambda: server.metric("kv_pages_in_use") == 0)


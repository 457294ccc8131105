"""HTTP framing (cases H of the test catalogue): what is no proper request is
answered or closed, and never harms the next one."""

import gzip
import json
import resource
import socket
import struct
import time

import pytest

from conftest import Response, read_until, until, whole

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def request(server, body=b"", path=CHAT, method="POST", headers=(), host=True):
    lines = [f"{method} {path} HTTP/1.1"]
    if host:
        lines.append("Host: localhost")
    lines += headers
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture(autouse=True)
def still_well(server):
    yield
    assert server.get("/health").json == {"status": "ok"}


NOT_JSON = {
    "": 1, "{": 2, "{}}": 3, '{"messages": [}': 15, '{"temperature": NaN}': 17,
    '{"temperature": -Infinity}': 18, '{"temperature": 1e999}': 21, '{"a" 1}': 6, "\xff": 1,
    '{"a":"' + chr(0xD800).encode("utf-8", "surrogatepass").decode("latin-1") + '"}': 8}


@pytest.mark.parametrize("body", [
    *NOT_JSON, "[]", "null", '"x"', "5", "[" * 100000, '{"a":' * 100000, '{"n":1,"n":9}',
    '{"messages":[{"role":"user","role":"user","content":"x"}]}'])
def test_bad_json(server, body):
    answer = server.ask("POST", CHAT, raw_body=body.encode("latin-1"))
    assert answer.status == 400, answer.raw
    assert answer.error["type"] == "invalid_request_error"
    assert len(answer.error["message"]) < 1000
    if body in NOT_JSON:
        assert f"at byte {NOT_JSON[body]} " in answer.error["message"]
        assert answer.error["code"] == "invalid_json"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_other_encodings(server, encoding):
    body = json.dumps({"messages": [{"role": "user", "content": "ä"}]}, ensure_ascii=False)
    assert server.ask("POST", CHAT, raw_body=body.encode(encoding)).status == 400


def test_byte_order_mark(server):
    body = b"\xef\xbb\xbf" + json.dumps(HELLO).encode()
    assert server.ask("POST", CHAT, raw_body=body).status == 200


NEXT = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def refused(raw, status=b"400"):
    """One answer, that it was no request, and no other behind it."""
    assert raw.startswith(b"HTTP/1.1 %s " % status) and raw.count(b"HTTP/1.1 ") == 1, raw
    assert Response(raw).headers["connection"] == "close"
    return True


@pytest.mark.parametrize("headers", [
    *[["Content-Length: " + n] for n in (
        "-1", "+2", "2,2", "2, 2", "2,3", "99999999999999999999", "18446744073709551618", "0x2",
        "2 2", "", "2;", "two")],
    ["Content-Length: 2", "Content-Length: 2"], ["Content-Length: 2", "Content-Length: 3"],
    ["Content-Length: 2", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 2"],
    ["Content-Length: 2", "Transfer-Encoding: identity"],
    *[["Transfer-Encoding: " + c] for c in (
        "gzip, chunked", "chunked, chunked", "chunked, identity", "xchunked", "identity", "\x0bchunked")],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]])
def test_lengths(server, headers):
    """What could end in two places is no request, and its rest is none either."""
    refused(server.raw(request(server, b"{}" + NEXT, "/tokenize", headers=headers), shut=True))
    refused(server.raw(request(server, b"0\r\n\r\n" + NEXT, "/tokenize", headers=headers), shut=True))


def test_no_length(server):
    assert server.raw(request(server)).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize("chunks", [
    b"FFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n", b"zz\r\n\r\n", b"-1\r\n\r\n"])
def test_bad_chunks(server, chunks):
    raw = server.raw(request(server, chunks, headers=["Transfer-Encoding: chunked"]), shut=True)
    assert raw.split(b" ")[1] in (b"400", b"413")


def test_chunks_of_one_byte(server):
    body = json.dumps(HELLO).encode()
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % c for c in body) + b"0\r\nX-Trailer: 1\r\n\r\n"
    raw = server.raw(request(server, chunks, headers=["Transfer-Encoding: chunked",
                                                      "Connection: close"]))
    assert Response(raw).status == 200


@pytest.mark.parametrize("raw", [
    b"GET /health HTTP/1.1\nHost: localhost\n\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\nX: a\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n",
    b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
    b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    bytes(range(256)) * 4])
def test_not_http(server, raw):
    refused(server.raw(raw + NEXT, shut=True))


def test_who_sends_rubbish_fills_no_log(serve, checkpoint):
    """Lines of what is no request are few, and count those that are left out."""
    server, count, begin = serve("--model", checkpoint()), 150, time.monotonic()
    for _ in range(count):
        refused(server.raw(b"rubbish\r\n\r\n"))
    periods = (time.monotonic() - begin) // 10 + 2
    assert server.get("/health", headers={"X-Request-Id": "last"}).status == 200

    def lines(outcome):
        return [r for r in server.log() if r["outcome"] == outcome]
    end = time.monotonic() + 20
    while not any(r["id"] == "last" for r in lines("ok")) and time.monotonic() < end:
        time.sleep(0.02)
    told = lines("refused")
    assert 20 <= len(told) <= 20 * periods and len(told) < count
    assert all(r["status"] == 400 for r in told)
    assert sum(r.get("left_out", 0) for r in told) <= count - len(told)


def test_too_much_head(server):
    long = "a" * 17000
    refused(server.raw(request(server, headers=["X: " + long])), b"431")
    many = [f"X{i}: 1" for i in range(101)]
    refused(server.raw(request(server, headers=many)), b"431")
    refused(server.raw(request(server, path="/" + long)), b"414")
    fits = request(server, method="GET", path="/health", headers=[*many[:98], "Connection: close"])
    assert Response(server.raw(fits)).status == 200


def test_too_much_body(server):
    head = request(server, headers=["Content-Length: 1073741824", "Expect: 100-continue"])
    raw = server.raw(head)
    assert raw.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in raw
    with server.connect() as s:  # a body that never says its length
        s.sendall(request(server, headers=["Transfer-Encoding: chunked"]))
        piece, sent = b"10000\r\n" + b" " * 65536 + b"\r\n", 0
        try:
            while sent < 64 << 20:
                s.sendall(piece)
                sent += 65536
        except OSError:
            pass
        assert sent < 60 << 20


def test_continue(server):
    body = json.dumps(HELLO).encode()
    with server.connect() as s:
        s.sendall(request(server, headers=[f"Content-Length: {len(body)}",
                                           "Expect: 100-continue", "Connection: close"]))
        assert s.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert b" 200 " in s.recv(1000)


def test_pipelined(server):
    good = request(server, method="GET", path="/health")
    raw = server.raw(good * 3 + b"GET bad\r\n\r\n" + good)
    assert raw.count(b"HTTP/1.1 200 ") == 3 and raw.count(b"HTTP/1.1 400 ") == 1
    assert raw.index(b" 400 ") > raw.rindex(b" 200 ")


def test_pipelined_with_bodies(server):
    """Ten at once, the second of them malformed: one answer, then the end."""
    def ask(text):
        body = json.dumps({"content": text}).encode()
        return request(server, body, "/tokenize", headers=[f"Content-Length: {len(body)}"])
    bad = request(server, b"{}", "/tokenize", headers=["Content-Length: 2", "Content-Length: 9"])
    first = server.post("/tokenize", {"content": "number 0"}).body
    for malformed in (bad, b"\x00\x01\r\n\r\n", ask("x").replace(b": ", b" : ", 1)):
        raw = server.raw(ask("number 0") + malformed + b"".join(ask(f"number {i}") for i in range(8)))
        assert raw.count(b"HTTP/1.1 ") == 2, raw
        good, _, rest = raw.partition(first)
        assert good.startswith(b"HTTP/1.1 200 ") and rest.startswith(b"HTTP/1.1 400 ")
        assert Response(rest).headers["connection"] == "close"
    # What is no JSON is no harm to those behind it.
    bad = request(server, b"{", "/tokenize", headers=["Content-Length: 1"])
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    raw = server.raw(ask("number 0") + bad + ask("number 0") * 7 + last)
    statuses = [part.split(b" ")[0] for part in raw.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400"] + [b"200"] * 8 and raw.count(first) == 8


def test_keep_alive(server):
    with server.connect() as s:
        for _ in range(3):
            s.sendall(request(server, method="GET", path="/v1/models"))
            got = read_until(s, whole)
            assert b"content-length" in got and b"connection: close" not in got


def test_methods(server):
    """Of every path those that the server says it has, and no others."""
    methods = {}
    for route in server.get("/props").json["routes"]:
        method, path = route.split()
        methods.setdefault(path, []).append(method)
    assert methods[CHAT] == ["POST"]
    for path, known in methods.items():
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH"} - set(known):
            body = {} if method in ("POST", "PUT", "PATCH") else None
            answer = server.ask(method, path.replace("*", "x"), body)
            assert answer.status == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == set(known)
    for path in ("/health", "/v1/models"):
        answer = server.ask("HEAD", path)
        assert answer.status == 200 and answer.body == b""
        assert int(answer.headers["content-length"]) == len(server.get(path).body)


@pytest.mark.parametrize("path,status", [
    ("/nothing", 404), ("//v1//models", 200), ("/v1/models/", 200), ("/v1/../admin", 400),
    ("/%2e%2e/x", 400), ("/v1/%00models", 400), ("/V1/models", 404), ("/v1/models%2", 400),
    ("/v1/%6dodels", 200), ("*", 400), ("http://localhost/health", 400)])
def test_paths(server, path, status):
    assert server.get(path).status == status


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "gzip, identity"])
def test_packed_bodies(server, coding):
    """A bomb is not opened."""
    bomb = gzip.compress(b" " * (64 << 20))
    answer = server.ask("POST", CHAT, raw_body=bomb, headers={"Content-Encoding": coding})
    assert answer.status == 415 and answer.headers["connection"] == "close"


@pytest.mark.parametrize("kind,status", [
    ("text/plain", 415), ("multipart/form-data; boundary=x", 415), (None, 415), ("", 415),
    ("application/x-www-form-urlencoded", 415), ("application/jsonx", 415),
    ("application/json; charset=utf-8", 200), ("Application/JSON", 200)])
def test_types(server, kind, status):
    """What a page can send without asking first is taken from what is no page only."""
    body = json.dumps(HELLO).encode()
    for origin, expected in ((None, 200), (server.url, status)):
        headers = {"Content-Type": kind, "Origin": origin}
        assert server.ask("POST", CHAT, raw_body=body, headers=headers).status == expected


def test_http10(server):
    raw = server.raw(b"GET /health HTTP/1.0\r\n\r\n")
    assert b" 200 " in raw and b"connection: close" in raw
    body = json.dumps({**HELLO, "stream": True}).encode()
    raw = server.raw(b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (
        CHAT.encode(), len(body), body))
    assert b"chunked" not in raw and raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("more", [
    {"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"},
    {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 24}])
def test_upgrade_is_ignored(server, more):
    answer = server.get("/health", headers={"Connection": "Upgrade, close", **more})
    assert answer.status == 200 and answer.json == {"status": "ok"}


def test_no_injection(server):
    answer = server.post(CHAT, {"model": "a\r\nSet-Cookie: x=1", **HELLO})
    assert answer.status == 404 and "set-cookie" not in answer.headers
    answer = server.post(CHAT, {"x\r\nSet-Cookie: y": 1, **HELLO})
    assert answer.status == 200 and "set-cookie" not in answer.headers
    assert "x??Set-Cookie: y" in answer.headers["x-unknown-fields"]


def test_half_closed_is_served(serve, checkpoint):
    server = serve("--model", checkpoint(), "--half-closed-seconds", 60)
    body = json.dumps({"messages": [{"role": "user", "content": "ab"}], "max_tokens": 4}).encode()
    raw = server.raw(request(server, body, headers=[f"Content-Length: {len(body)}"]), shut=True)
    assert Response(raw).status == 200


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def phase(server, name):
    """How far the request of this name is."""
    return [slot["phase"] for slot in server.get("/slots").json if slot["request"] == name]


def ended(server, name):
    """How it has ended."""
    return until(lambda: [one for one in server.get("/timeline").json if one["request"] == name])[0]


LONG = {"messages": [{"role": "user", "content": "Count to 1000."}], "max_tokens": 8000,
        "ignore_eos": True}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leave", ["reset", "close"])
def test_client_leaves(server, stream, leave):
    body, name = json.dumps({**LONG, "stream": stream}).encode(), f"{leave}-{stream}"
    s = server.connect()
    s.sendall(request(server, body, headers=[f"Content-Length: {len(body)}",
                                             f"X-Request-Id: {name}"]))
    if stream:
        read_until(s, b"data: ")
    until(lambda: phase(server, name) == ["answer"])
    reset(s) if leave == "reset" else s.close()
    gone = ended(server, name)
    assert gone["finish_reason"] == "cancelled" and gone["n_decoded"] < 8000


def test_client_leaves_while_the_prompt_is_read(server):
    body, name = json.dumps({"prompt": "long " * 8000, "max_tokens": 5}).encode(), "early"
    s = server.connect()
    s.sendall(request(server, body, path="/v1/completions",
                      headers=[f"Content-Length: {len(body)}", f"X-Request-Id: {name}"]))
    until(lambda: phase(server, name) == ["prompt"])
    reset(s)
    gone = ended(server, name)
    assert gone["finish_reason"] == "cancelled" and gone["n_decoded"] == 0


def test_long_lists(server):
    """Millions of items, parsed and refused; a list of nothing but commas."""
    many = 4 * 10**6
    for body in (b'{"messages": [' + b"1," * many + b"1]}", b"[" + b"," * many):
        assert server.ask("POST", CHAT, raw_body=body).status in (400, 413)


@pytest.fixture
def files():
    """As many open files as this process may have, and how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_slow_clients(serve, checkpoint, files):
    """They are closed in time, and nobody else waits for them."""
    count, patience = min(2000, files - 200), 8
    server = serve("--model", checkpoint(), "--header-seconds", patience, "--no-access-log")

    def longest(times):
        """Of answers, in seconds, and the middle; each of them is right."""
        took = []
        for _ in range(times):
            begin = time.monotonic()
            answer = server.post("/v1/completions", {
                "prompt": "abc", "max_tokens": 2, "ignore_eos": True, "temperature": 0})
            assert answer.json["usage"]["completion_tokens"] == 2
            took.append(time.monotonic() - begin)
        return max(took), sorted(took)[times // 2]
    alone = longest(10)[1]
    begin, slow = time.monotonic(), []
    for _ in range(count):
        slow.append(server.connect())
        slow[-1].send(b"G")
    for byte in b"ET /":
        for s in slow:
            s.send(bytes([byte]))
        assert longest(5)[1] < alone + 1  # much less than the slow ones have
        assert server.get("/health").status == 200
    assert time.monotonic() - begin < patience  # all of them are still there
    for s in slow:
        assert s.recv(10) == b""
        s.close()
    assert time.monotonic() - begin > patience
    assert longest(10)[1] < alone + 1


def test_lines_of_the_log_stay_lines(serve, checkpoint):
    server = serve("--model", checkpoint())  # of what is no request each tells some lines only
    before = server.mark()
    server.get("/a%0d%0aforged")
    server.ask("GET", "/x\rforged", headers={"X-Request-Id": "a\rforged"})
    server.post(CHAT, {"model": "a\nforged", **HELLO})
    until(lambda: len(server.log(before)) == 3)
    assert not any(line.strip().startswith("forged") for line in server.lines)


def test_slow_headers_and_bodies(serve, checkpoint):
    quick = serve("--model", checkpoint(), "--header-seconds", 1, "--body-seconds", 1,
                  "--idle-seconds", 1)
    t = time.monotonic()
    with quick.connect() as s:
        s.sendall(b"GET /hea")
        assert s.recv(100) == b""
    assert time.monotonic() - t < 9  # not the usual 10 seconds
    with quick.connect() as s:
        s.sendall(request(quick, b"{", headers=["Content-Length: 10"]))
        assert s.recv(1000).startswith(b"HTTP/1.1 408 ")
    with quick.connect() as s:  # the last chunk never comes
        s.sendall(request(quick, b"1\r\n{\r\n", headers=["Transfer-Encoding: chunked"]))
        assert s.recv(1000).startswith(b"HTTP/1.1 408 ")
    with quick.connect() as s:
        s.sendall(request(quick, method="GET", path="/health"))
        assert b" 200 " in read_until(s, whole)
        t = time.monotonic()
        assert s.recv(100) == b"" and time.monotonic() - t < 60  # nor the usual 75

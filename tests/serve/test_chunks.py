"""Chunked bodies that are meant to harm (case H08 of the test catalogue)."""

import sys
from concurrent.futures import ThreadPoolExecutor

from conftest import Response, memory

HEAD = (b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n")


def peak(server):
    """The most memory the process has had."""
    return memory(server.process.pid, "VmHWM") if sys.platform.startswith("linux") else 0


def send(server, pieces):
    """What comes back, and how much went out before that."""
    sent = 0

    def counted():
        nonlocal sent
        for piece in pieces:
            yield piece
            sent += len(piece)
    return server.raw(counted()), sent


def ones(text, count=1):
    return b"".join(b"1\r\n%c\r\n" % c for c in text) * count


SPACES = b" " * 65536
# What is sent, and the answer to it. Of what never ends no more is read than the
# limits allow: the client is told before it is through, or when time is up.
BODIES = {
    "three million": ([ones(b'{"content": "Hi"'), *[ones(b" ", 60000)] * 50, b"1\r\n}\r\n0\r\n\r\n"],
                      200),
    "more than the limit": ([ones(b" ", 65536)] * 80, 413),
    "the largest size": ([b"FFFFFFFFFFFFFFFF\r\n", *[SPACES] * 1000], 413),
    "the largest signed": ([b"7FFFFFFFFFFFFFFF\r\n", *[SPACES] * 1000], 413),
    "larger than numbers": ([b"10000000000000001\r\n", *[SPACES] * 100], 400),
    "a size without end": ([b"0" * 65536] * 1000, 408),
    "not as long as said": ([b"2\r\n{}xx0\r\n\r\n"], 400),
    "an extension": ([b'1;a=b;c="d"\r\n{\r\n1;e\r\n}\r\n0;f\r\n\r\n'], 400),  # no content
    "an extension without end": ([b"1;", *[b"a" * 65536] * 1000], 408),
    "long extensions": ([b"1;%s\r\n \r\n" % (b"a" * 4000)] * 16000, 408),
    "trailers without end": ([b"2\r\n{}\r\n0\r\n", *[b"X: y\r\n" * 10000] * 1000], 408),
    "a trailer without end": ([b"2\r\n{}\r\n0\r\nX: ", *[b"y" * 65536] * 1000], 408),
    "no last chunk": ([b"2\r\n{}\r\n"], 408),
    "half a chunk": ([b"10\r\n{}"], 408),
}


def test_chunks(serve, checkpoint):
    # Only those that are to run out of time are in a hurry.
    model, limits = checkpoint(), ("--body-bytes", 4 << 20, "--no-access-log")
    patient = serve("--model", model, *limits)
    hurried = serve("--model", model, *limits, "--body-seconds", 1)
    for server in (patient, hurried):
        assert server.post("/tokenize", {"content": "ab"}).status == 200
    before = peak(patient), peak(hurried)

    def ask(row):
        pieces, status = row
        return send(hurried if status == 408 else patient, [HEAD, *pieces])
    with ThreadPoolExecutor(len(BODIES)) as pool:
        answers = dict(zip(BODIES, pool.map(ask, BODIES.values())))
    for name, (pieces, status) in BODIES.items():
        raw, sent = answers[name]
        assert Response(raw).status == status, (name, raw)
        assert raw.count(b"HTTP/1.1 ") == 1, name
        if status != 200 and name != "long extensions":
            assert sent < 40 << 20, name  # what systems keep between two programs
    for server, began in zip((patient, hurried), before):
        assert peak(server) - began < 32 << 20  # two bodies, and what their parsing takes
        assert server.get("/health").status == 200


def test_a_body_that_the_client_ends(serve, checkpoint):
    """Without a last chunk there is no request, and what follows one is the next."""
    server = serve("--model", checkpoint())
    for body in (b"", b"2\r\n{}\r\n", b"10\r\n{}", b"2\r\n{}\r\n0\r\n"):
        assert server.raw(HEAD + body, shut=True) == b"", body
    head = HEAD.replace(b"Connection: close\r\n", b"")
    body = b'10;x\r\n{"content": "ab"\r\n1\r\n}\r\n0\r\n'
    raw = server.raw((head + body + b"X-Trailer: 1\r\n\r\n") * 2 + HEAD + body + b"\r\n")
    assert raw.count(b"HTTP/1.1 200 ") == raw.count(b'{"tokens":[') == 3
    for trailer in (b"Content-Length: 99", b"Transfer-Encoding: chunked", b"no trailer", b" x: y"):
        raw = server.raw((head + body + trailer + b"\r\n\r\n") * 2)
        assert raw.startswith(b"HTTP/1.1 400 ") and raw.count(b"HTTP/1.1 ") == 1, trailer

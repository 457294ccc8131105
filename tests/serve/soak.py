#!/usr/bin/env python3
"""soak.py [N] [--streams S] [--model M]: N small requests to the real server over every
API, a third of them given up at a random moment. Whenever all have ended nothing may be in
use, no page and no ticket, and the process must not have grown. That pages kept for prompts
that begin alike are given back when asked for is shown by one more request that needs nearly
all of them. MLXLM names the binary."""

import argparse
import concurrent.futures
import json
import random
import statistics
import sys
import time

from conftest import Response, Server

GROWTH = 1.02  # of the resident memory after warming up
REST = 1.5  # seconds after which an idle server has given back what it needs no more
GAUGES = ["requests_processing", "requests_deferred", "memory_tickets",
          "memory_tickets_waiting", "memory_tickets_bytes", "kv_pages_in_use"]
KV_MEGABYTES = 48
WORDS = "the cat sat on a mat while seven ships sailed past an old house by the sea".split()
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["a"],
          "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}}


def text(r):
    return " ".join(r.choices(WORDS, k=r.randint(1, 12)))


def request(r):
    """(path, body) of one API, and what a whole answer must hold."""
    said = [{"role": "user", "content": text(r)}]
    few, stream = r.randint(1, 6), r.random() < 0.5
    more = {"temperature": r.choice([0, 1.0]), "seed": r.randrange(1 << 30), "stream": stream}
    kind = r.randrange(7)
    if kind == 0:
        return "/v1/chat/completions", {"messages": said, "max_tokens": few, **more,
                                        "n": r.choice([1, 1, 2])}
    if kind == 1:
        return "/v1/completions", {"prompt": [text(r) for _ in range(r.choice([1, 1, 3]))],
                                   "max_tokens": few, **more}
    if kind == 2:
        return "/v1/messages", {"messages": said, "max_tokens": few, "stream": stream}
    if kind == 3:
        return "/v1/responses", {"input": text(r), "max_output_tokens": few, "store": False,
                                 "stream": stream}
    if kind == 4:
        return "/api/chat", {"model": "any", "messages": said, "stream": stream,
                             "options": {"num_predict": few}}
    if kind == 5:
        return "/api/generate", {"model": "any", "prompt": text(r), "stream": stream,
                                 "raw": r.random() < 0.5, "options": {"num_predict": few}}
    return "/v1/completions", {"prompt": text(r), "max_tokens": 24, "json_schema": SCHEMA, **more}


def sent(server, path, body):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data


def complete(server, path, body):
    answer = Response(server.raw(sent(server, path, body), timeout=300))
    assert answer.status == 200, (path, body, answer.raw[:400])
    if not body["stream"]:
        assert "error" not in answer.json or answer.json["error"] is None, answer.raw
        return
    last = {"/v1/messages": "message_stop", "/api/": '"done":true', "/v1/responses": "response."}
    mark = next((m for p, m in last.items() if path.startswith(p)), "[DONE]")
    assert mark in answer.text.strip().splitlines()[-1], (path, answer.text[-400:])


def give_up(server, path, body, r):
    data = sent(server, path, body)
    with server.connect(timeout=300) as s:
        way = r.randrange(4)
        s.sendall(data[:r.randrange(len(data))] if way == 0 else data)
        if way == 1:
            time.sleep(r.random() * 0.02)  # in the queue, in the prompt
        elif way == 2:
            time.sleep(r.random())  # somewhere in the answer
        elif way == 3:
            s.recv(r.choice([1, 100, 1000]))


def one(server, seed):
    r = random.Random(seed)
    path, body = request(r)
    if r.random() < 1 / 3:
        give_up(server, path, body, r)
        return 1
    complete(server, path, body)
    return 0


def idle(server, timeout=30):
    """Waits until nothing is in use; the gauges then. Gauges may be of the moment they were
    last asked for, so all must be zero three times."""
    end, still = time.monotonic() + timeout, 0
    while still < 3:
        found = {name: server.metric(name) for name in GAUGES}
        free = all(value == 0 for value in found.values()) and server.get("/slots").json == []
        still = still + 1 if free else 0
        if time.monotonic() > end:
            sys.exit(f"still in use after {timeout} s: {found}")
        time.sleep(0.1)
    return found


def fill(server):
    """A request that needs nearly all memory for keys and values, the longest that is not
    refused outright, finds it; its tokens."""
    def ask(words):
        data = sent(server, "/v1/completions", {"prompt": " a" * words, "max_tokens": 1})
        return Response(server.raw(data, timeout=300))
    low, high = 1, 8000
    while high - low > 16:  # refusals cost nothing
        middle = (low + high) // 2
        answer = server.post("/v1/completions", {
            "prompt": "a", "max_tokens": middle, "json_schema": {"const": 1}})
        low, high = (middle, high) if answer.status == 200 else (low, middle)
    answer = ask(low - 64)
    assert answer.status == 200, answer.raw
    return answer.json["usage"]["prompt_tokens"]


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("requests", type=int, nargs="?", default=20000)
    args.add_argument("--streams", type=int, default=24)
    args.add_argument("--model", default="smollm2")
    args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()
    server = Server("--model", args.model, "--no-access-log", "--any-model",
                    "--queue-per-client", 4 * args.streams, "--max-kv-memory", KV_MEGABYTES)
    started, given_up = time.monotonic(), 0

    def storm(first, count):
        """The gauges and the resident memory once these requests have ended."""
        nonlocal given_up
        with concurrent.futures.ThreadPoolExecutor(args.streams) as pool:
            given_up += sum(pool.map(lambda i: one(server, args.seed + i),
                                     range(first, first + count)))
        found = idle(server)
        time.sleep(REST)
        server.metric("resident_bytes")  # may still be of the moment of the last question
        time.sleep(0.2)
        return found, server.metric("resident_bytes")
    warm = min(args.requests // 2, 2000)
    storm(0, warm // 2)
    fill(server)  # all pages have been touched
    storm(warm // 2, warm - warm // 2)
    each, sizes = max(1, (args.requests - warm) // 30), []
    while warm < args.requests:
        count = min(each, args.requests - warm)
        gauges, size = storm(warm, count)
        warm += count
        sizes.append(size)
        print(f"{warm} requests, {given_up} given up, {time.monotonic() - started:.0f} s: "
              f"{size / 1e6:.1f} MB resident", flush=True)
    several = min(5, len(sizes) // 2)
    before, after = (statistics.median(part) for part in (sizes[:several], sizes[-several:]))
    print(f"resident memory {before / 1e6:.1f} to {after / 1e6:.1f} MB, "
          f"{100 * (after / before - 1):+.2f} %; "
          + ", ".join(f"{name} {value:.0f}" for name, value in gauges.items()))
    print(f"a prompt of {fill(server)} tokens found room in {KV_MEGABYTES} MB")
    code = server.stop()
    if code != 0 or after > before * GROWTH:
        sys.exit(f"exit code {code}, resident memory {before / 1e6:.1f} to {after / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

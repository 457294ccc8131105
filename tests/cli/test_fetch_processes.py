"""Fetching by several processes, interrupted, and what is shown of it."""

import os
import pty
import random
import signal
import subprocess
import time

import pytest

from conftest import PROGRAM, until
from hub_cache import FILES, NAME, WANTED, cache, good, hub  # noqa: F401  fixtures
from hub_server import Hub


def test_two_at_once(cache):
    with Hub(rate=1_000_000) as hub:
        repo = hub.add("org/name", FILES)
        both = [cache.start(hub, "models", "pull", "org/name") for _ in range(2)]
        for process in both:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
        cache.check()
        assert cache.files(repo) == {p: FILES[p] for p in WANTED}
        assert len([r for r in hub.asked(NAME) if "/resolve/" in r[1]]) == 1


@pytest.mark.parametrize("part", [1, 300_000, 600_000])
def test_killed_and_resumed(cache, hub, part):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=part)
    process = cache.start(hub, "models", "pull", "org/name")
    partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size == part)
    process.kill()
    process.communicate()
    cache.check()
    assert NAME not in cache.files(repo)
    hub.requests.clear()
    good(cache, hub, repo)
    assert [r[2]["Range"] for r in hub.asked(NAME)] == [f"bytes={part}-"]


@pytest.mark.parametrize("command", [["models", "pull"], ["generate", "-p", "x", "--model"]])
def test_ctrl_c(cache, hub, command):
    repo = hub.add("org/name", FILES)
    hub.fault(NAME, stall_after=1000, times=-1)
    process = cache.start(hub, *command, "org/name")
    partial = cache.folder() / f"blobs/{repo.etag(NAME)}.incomplete"
    until(lambda: partial.exists() and partial.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == b"" and b"interrupted" in err
    assert time.monotonic() - start < 15  # half of what it has for what stalls
    assert partial.stat().st_size > 0
    cache.check()


def test_killed_again_and_again(cache):
    """At random moments, until it is whole."""
    moments = random.Random(7)
    with Hub(rate=2_000_000) as hub:
        repo = hub.add("org/name", FILES)
        for _ in range(30):
            process = cache.start(hub, "models", "pull", "org/name")
            try:
                process.communicate(timeout=moments.uniform(0.01, 0.25))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            cache.check()
            assert set(cache.files(repo).items()) <= set(FILES.items())
        hub.rate = None
        good(cache, hub, repo)


def test_progress_on_a_terminal(cache):
    with Hub(rate=300_000) as hub:
        hub.add("org/name", FILES)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [PROGRAM, "models", "pull", "org/name"], stdout=subprocess.DEVNULL, stderr=theirs,
            env=cache.environment(hub, TERM="xterm"))
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        assert process.wait(120) == 0
        assert shown.count(b"\r\x1b[K") > 5 and b"|" in shown and b" left" in shown
        assert b"B/s" in shown and shown.endswith(b"\r\x1b[K")


def test_progress_off_a_terminal(cache):
    with Hub(rate=200_000) as hub:
        hub.add("org/name", FILES)
        done = cache.pull(hub)
        lines = done.err.splitlines()
        assert lines and all(line.startswith("downloading ") for line in lines)
        assert any("/s" in line and " left" in line for line in lines)
        assert "\x1b" not in done.err and "\r" not in done.err

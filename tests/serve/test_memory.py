"""What the process takes stays within its memory budget."""

import concurrent.futures
import sys
from pathlib import Path

import pytest

from conftest import memory, until

MB = 1000000
WORDS = ("the of and to in a is that for it as was with be by on not he his but at are this have "
         "from or had an they which one you were her all she there would their we him been").split()


def prompt(i):
    """Some begin alike, a few are long."""
    length = 400 if i % 20 == 7 else 12 + i * 7 % 60
    text = [WORDS[i % 5]] * 8 + [WORDS[(i * k + k // 3) % len(WORDS)] for k in range(length)]
    return " ".join(text)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_two_hundred_where_eight_fit(serve):
    """The process grows by keys and values within their budget and by the workspace that is
    set aside for passes, and by nothing else; at rest only what is remembered stays."""
    budget = 16 * MB
    server = serve("--model", "smollm2", "--max-kv-memory", budget // MB, "--no-access-log",
                   "--queue-per-client", 1000)
    pid = server.process.pid

    def ask(i):
        tokens = 6 + i % 20
        answer = server.post("/v1/completions", {
            "prompt": prompt(i), "max_tokens": tokens, "temperature": 0, "ignore_eos": True},
            timeout=1200)
        assert answer.status == 200, answer.raw
        assert answer.json["usage"]["completion_tokens"] == tokens
        return answer.json["usage"]["prompt_tokens"] + tokens
    ask(1)
    floor = memory(pid, "VmRSS")  # the program, its tables and weights
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins here
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        lengths = list(pool.map(ask, range(200)))
    grown = memory(pid, "VmHWM") - floor
    bytes_of_token = 23040
    assert sum(lengths) / len(lengths) * bytes_of_token < budget / 6  # so many fit
    assert sum(lengths) * bytes_of_token > 10 * budget
    until(lambda: server.metric("kv_bytes"))  # figures are of the last time somebody asked
    kept, workspace = server.metric("kv_bytes"), server.metric("workspace_bytes")
    assert budget / 2 < kept <= budget * 1.05
    assert 20 * MB < workspace < 80 * MB
    assert kept < grown < budget * 1.05 + workspace
    until(lambda: server.metric("memory_tickets") == 0)

"""A server that is killed while it writes prompts to disk, a hundred times: the folder
always opens, and what is found in it gives the answers of a server without one."""

import random
import signal
import threading
import time

from conftest import PATIENCE, Server

KILLS = 100
CONVERSATIONS = 6


def ask(server, prompt):
    answer = server.post("/v1/completions", {
        "prompt": prompt, "max_tokens": 4, "temperature": 0, "ignore_eos": True}).json
    return (answer["choices"][0]["text"],
            answer["usage"]["prompt_tokens_details"]["cached_tokens"])


def prompts():
    """Conversations that share their beginning and grow."""
    r = random.Random(5)
    system = "".join(r.choices("abcdefgh", k=130))
    return [system + "".join(r.choices("ijklmnop", k=90 + 70 * i))
            for i in range(CONVERSATIONS)]


def test_a_hundred_kills(checkpoint, tmp_path):
    model, texts, r = checkpoint(max_position_embeddings=2048), prompts(), random.Random(1)
    disk = ("--prompt-cache-dir", tmp_path / "disk", "--prompt-cache-dir-size", 1)

    def write_on(server, asked, answered):
        try:
            for text in asked:
                ask(server, text)
                answered.release()
        except (OSError, ValueError, IndexError, KeyError):
            pass  # it is gone

    for _ in range(KILLS):
        server = Server("--model", model, *disk)  # ready: the folder has opened
        asked = [r.choice(texts)[:r.randrange(40, 700)] for _ in range(1000)]
        answered = threading.Semaphore(0)
        writer = threading.Thread(target=write_on, args=(server, asked, answered))
        writer.start()
        for _ in range(r.randrange(5)):  # however slow the machine is
            assert answered.acquire(timeout=PATIENCE)
        time.sleep(r.random() * 0.01)
        server.stop(signal.SIGKILL)
        writer.join()

    plain, kept = Server("--model", model), Server("--model", model, *disk)
    answer, found = ask(kept, texts[0])
    assert found > 0  # nothing is in its memory yet
    assert answer == ask(plain, texts[0])[0]
    for text in texts[1:]:
        assert ask(kept, text)[0] == ask(plain, text)[0]
    assert plain.stop() == kept.stop() == 0

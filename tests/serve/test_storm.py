"""Many requests, many of them given up: honest answers stay what they are, and
nothing is left behind."""

import concurrent.futures
import json
import random
import time

from conftest import until

CHAT = "/v1/chat/completions"


def test_storm_of_clients_that_leave(serve, checkpoint):
    server = serve("--model", checkpoint(), "--decode-concurrency", 8, "--no-access-log",
                   "--queue-per-client", 1000)
    prompts = ["abc", "the end", "hello there", "zzz"]

    def body(i, stream):
        return {"messages": [{"role": "user", "content": prompts[i % 4]}], "stream": stream,
                "max_tokens": 20 + i % 7, "ignore_eos": True, "temperature": 0}

    def honest(i):
        answer = server.post(CHAT, body(i, False))
        assert answer.status == 200, answer.raw
        return answer.json["choices"][0]["message"]["content"]
    expected = {i: honest(i) for i in range(28)}

    def one(job):
        i, leaves = job
        if not leaves:
            return honest(i) == expected[i]
        data = json.dumps(body(i, i % 2 == 0)).encode()
        with server.connect() as s:
            s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
                CHAT.encode(), len(data), data[:random.choice([len(data), len(data), 9])]))
            time.sleep(random.random() * 0.02)
        return True

    def storm(n):
        jobs = [(random.randrange(28), random.random() < 0.33) for _ in range(n)]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            assert all(pool.map(one, jobs))
        server.idle()
        until(lambda: server.metric("requests_processing") == 0)
        return server.metric("resident_bytes")
    random.seed(5)
    storm(200)
    before = storm(200)
    after = storm(400)
    assert after < before * 1.02 + (16 << 20)

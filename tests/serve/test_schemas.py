"""200 random schemas at temperature 1, many at once: whatever is finished is valid."""

import concurrent.futures

import schemas

COUNT, STREAMS, TOKENS = 200, 16, 160
ASK = {"prompt": "JSON:\n", "temperature": 1.0, "max_tokens": TOKENS}


def test_generated_schemas(serve):
    server = serve("--model", "smollm2", "--no-access-log", "--decode-concurrency", STREAMS,
                   "--queue-per-client", COUNT)

    def ask(seed, schema):
        answer = server.post("/v1/completions", {**ASK, "seed": seed, "json_schema": schema})
        assert answer.status == 200, (seed, schema, answer.raw)
        choice = answer.json["choices"][0]
        if choice["finish_reason"] == "length":
            assert answer.json["usage"]["completion_tokens"] == TOKENS
            return False
        assert choice["finish_reason"] == "stop"
        try:
            schemas.check(schema, choice["text"])
        except Exception as e:
            raise AssertionError((seed, schema, choice["text"])) from e
        return True
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        finished = list(pool.map(ask, range(COUNT), map(schemas.make, range(COUNT))))
    assert sum(finished) >= 0.95 * COUNT, finished

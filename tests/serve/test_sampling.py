"""Samplers, log-probabilities and gaps over HTTP."""

import math

import pytest

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 6}


def told(answer):
    assert answer.status == 200, answer.raw
    assert "x-unknown-fields" not in answer.headers, answer.headers
    return answer.json


@pytest.mark.parametrize("more", [
    {"typical_p": 0.5}, {"top_n_sigma": -1.0}, {"top_n_sigma": 1.0}, {"mirostat": 1},
    {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.2}, {"dry_multiplier": 0.8},
    {"dry_multiplier": 0.8, "dry_base": 1.5, "dry_allowed_length": 3, "dry_penalty_last_n": 64,
     "dry_sequence_breakers": ["\n", "User:"]},
    {"dry_multiplier": 0.8, "dry_sequence_breakers": []},
    {"samplers": ["penalties", "dry", "top_k", "typ_p", "top-p", "temperature"]},
    {"samplers": "edskypmxt"}, {"samplers": "top_k;temp", "top_k": 3},
    {"repeat_penalty": 1.2, "repeat_last_n": -1, "min_keep": 0}, {"min_tokens": 3}])
def test_samplers(server, more):
    warm = {"temperature": 1.0, "seed": 3, **HELLO, **more}
    first = told(server.post(CHAT, warm))
    second = told(server.post(CHAT, warm))
    assert first["choices"][0]["message"] == second["choices"][0]["message"]


@pytest.mark.parametrize("field,value", [
    ("typical_p", 2), ("mirostat", 3), ("mirostat_tau", -1), ("dry_base", 0.5),
    ("dry_sequence_breakers", ["x" * 41]), ("dry_sequence_breakers", [""]),
    ("dry_sequence_breakers", ["x"] * 33), ("dry_sequence_breakers", [5]),
    ("samplers", ["top_q"]), ("samplers", []), ("samplers", ["top_k", "penalties"]),
    ("samplers", 5), ("min_tokens", -1), ("repeat_penalty", 0), ("top_logprobs", 2)])
def test_wrong_samplers(server, field, value):
    answer = server.post(CHAT, {**HELLO, field: value})
    assert answer.status == 400 and answer.error["param"] == field, answer.raw


def test_min_tokens(server):
    short = {"messages": HELLO["messages"], "temperature": 0, "max_tokens": 60}
    usual = told(server.post(CHAT, short))["usage"]["completion_tokens"]
    longer = told(server.post(CHAT, {**short, "min_tokens": usual + 3}))
    assert longer["usage"]["completion_tokens"] >= usual + 3


def test_top_logprobs(client):
    ask = dict(model="smollm2", messages=HELLO["messages"], max_tokens=5, temperature=0,
               logprobs=True, top_logprobs=4)
    content = client.chat.completions.create(**ask).choices[0].logprobs.content
    for token in content:
        assert len(token.top_logprobs) == 4
        assert token.top_logprobs[0].token == token.token
        values = [t.logprob for t in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(v) for v in values) <= 1 + 1e-4
    streamed = [t for chunk in client.chat.completions.create(**ask, stream=True)
                for choice in chunk.choices if choice.logprobs
                for t in choice.logprobs.content]
    assert streamed == content


def test_top_logprobs_of_completions(client):
    ask = dict(model="smollm2", prompt="One, two,", max_tokens=4, temperature=0, logprobs=3)
    whole = client.completions.create(**ask).choices[0].logprobs
    assert all(len(top) == 3 for top in whole.top_logprobs)
    for text, value, top in zip(whole.tokens, whole.token_logprobs, whole.top_logprobs):
        assert top[text] == value == max(top.values())
    streamed = [top for chunk in client.completions.create(**ask, stream=True)
                if chunk.choices[0].logprobs
                for top in chunk.choices[0].logprobs.top_logprobs]
    assert streamed == whole.top_logprobs


def test_ollama_options(server):
    answer = server.post("/api/generate", {
        "model": "smollm2", "prompt": "Hello", "stream": False,
        "options": {"num_predict": 4, "seed": 1, "typical_p": 0.9, "mirostat": 2,
                    "mirostat_tau": 4.0, "mirostat_eta": 0.1, "repeat_penalty": 1.1,
                    "repeat_last_n": 32}})
    assert told(answer)["response"]


def test_a_model_without_marks_cannot_fill_gaps(server):
    answer = server.post("/infill", {"input_prefix": "a", "input_suffix": "b"})
    assert answer.status == 400 and "gap" in answer.error["message"]
    assert server.post("/infill", {"input_suffix": "b"}).error["param"] == "input_prefix"

"""What a request may say (cases R of the test catalogue): a wrong value is 400 and
names its field, and nothing is dropped in silence."""

from concurrent.futures import ThreadPoolExecutor

import pytest

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
big = 1 << 63


def user(content):
    return [{"role": "user", "content": content}]


def tool(name, **more):
    return {"type": "function", "function": {"name": name, **more}}


WRONG = {
    "n": [0, -1, 17, 10**9, big, 1e300, 1.5, "1", True, []],
    "max_tokens": [-1, 0, 1.5, big, "5", {}],
    "max_completion_tokens": [-1, 0, "5"],
    "temperature": [-1, 3, "0", [], True],
    "top_p": [-0.1, 1.1, "1"],
    "top_k": [-1, 1 << 40, 0.5, "1"],
    "min_p": [2, -1],
    "repetition_penalty": [0, -1, "1"],
    "presence_penalty": [-3, 3, "0"],
    "frequency_penalty": [-3, 3],
    "repetition_context_size": [-1, "20"],
    "xtc_probability": [-1, 2],
    "xtc_threshold": [0.9],
    "stop": ["", [""], ["x"] * 17, "x" * 513, 5, [["x"]], [None]],
    "logit_bias": [{"-1": 1}, {"abc": 1}, {"5": 101}, {"5": "x"}, [], {"99999999": 1},
                   {str(i): 0 for i in range(1025)}],
    "seed": [1.5, 1 << 64, "1"],
    "logprobs": [1, "true"],
    "top_logprobs": [21, -1, "1"],
    "stream": ["true", 1],
    "messages": [[], {}, "Hi", [5], [{}], user(0), user(None), user({}), user([5]),
                 user([{"type": "image_url", "image_url": {"url": "x"}}]),
                 user([{"type": "text"}]), [{"role": "king", "content": "x"}],
                 [{"role": "user"}], [{"content": "x"}],
                 [{"role": 5, "content": "x"}],
                 [{"role": "assistant", "content": "x", "tool_calls": [{}]}],
                 [{"role": "user", "content": "x"}] * 4097],
    "tools": [{}, [5], [{"type": "function"}], [tool("")], [tool("a b")], [tool("a"), tool("a")],
              [tool("x" * 10000)], [tool(f"t{i}") for i in range(129)],
              [tool("a", parameters=5)], [tool("a", parameters={"x": "y" * 70000})]],
    "priority": ["high", 5000],
    "reasoning_budget": [-1, "5"],
    "tool_choice": ["maybe", "required", 5, {"type": "function", "function": {"name": "missing"}}],
    "stream_options": [{"include_usage": True}],
    "response_format": ["json", {"type": "xml"}],
    "chat_template_kwargs": ["x", {"messages": []}],
    "model": [5],
    "ignore_eos": ["yes"],
    "reasoning_effort": [5],
    "modalities": [["text", "audio"]],
    "functions": [[]],
    "audio": [{}],
    "adapters": [5, ["x"]],
    "draft_model": [5],
    "draft": ["magic", 1],
    "num_draft_tokens": [-1, 65, "3"],
    "keep_alive": ["soon", True, [], "5x"],
}


@pytest.mark.parametrize("field,value", [
    pytest.param(f, v, id=f"{f}-{i}") for f, vs in WRONG.items() for i, v in enumerate(vs)])
def test_wrong_values(server, field, value):
    answer = server.post(CHAT, {**HELLO, field: value})
    assert answer.status == 400, answer.raw
    error = answer.error
    assert error["type"] == "invalid_request_error" and error["message"]
    named = error["param"] or ""
    assert named.split("[")[0].split(".")[0] == field, error
    assert "0x" not in error["message"]


@pytest.mark.parametrize("field", [*WRONG, "user", "service_tier"])
def test_null_is_the_default(server, field):
    if field != "messages":
        assert server.post(CHAT, {**HELLO, field: None}).status == 200


@pytest.mark.parametrize("more", [
    {"n": 2}, {"temperature": 1e-320}, {"top_p": 0, "temperature": 1.0}, {"seed": -5},
    {"seed": (1 << 63) - 1}, {"max_tokens": 10**12, "stop": "i"}, {"stop": []},
    {"logit_bias": {}}, {"top_logprobs": 0, "logprobs": True}, {"max_tokens": 5.0},
    {"user": "a", "metadata": {"a": "b"}, "store": True, "service_tier": "auto",
     "verbosity": "low", "parallel_tool_calls": True, "prompt_cache_key": "x"},
    {"tools": [tool("look", parameters={"type": "object"})], "tool_choice": "auto"},
    {"tools": [], "tool_choice": "none"}, {"response_format": {"type": "text"}},
    {"chat_template_kwargs": {"x": 1}}, {"model": "default_model"},
    {"max_tokens": 2, "max_completion_tokens": 1}])
def test_fine_values(server, more):
    answer = server.post(CHAT, {**HELLO, **more})
    assert answer.status == 200, answer.raw
    assert "x-unknown-fields" not in answer.headers


def test_unknown_fields_are_told(server):
    answer = server.post(CHAT, {**HELLO, "frobnicate": 1, "zork": None})
    assert answer.status == 200 and answer.headers["x-unknown-fields"] == "frobnicate, zork"


def test_missing_fields(server):
    assert server.post(CHAT, {}).error["param"] == "messages"
    assert server.post("/v1/completions", {}).error["param"] == "prompt"
    assert server.post("/tokenize", {}).error["param"] == "content"
    assert server.post("/detokenize", {}).error["param"] == "tokens"


@pytest.mark.parametrize("prompt", [
    "", [], [[]], [-1], [1 << 40], [1.5], [10**6], ["x"] * 10000, {}, 5, [None], [["x"]],
    ["x", [1], {}]])
def test_wrong_prompts(server, prompt):
    answer = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 1})
    assert answer.status == 400 and answer.error["param"].startswith("prompt"), answer.raw


@pytest.mark.parametrize("more", [
    {"best_of": 10**9}, {"best_of": 2}, {"suffix": "x"}, {"logprobs": -1}, {"logprobs": 21},
    {"echo": "yes"}, {"echo": False, "max_tokens": 0}])
def test_wrong_completions(server, more):
    answer = server.post("/v1/completions", {"prompt": "x", "max_tokens": 1, **more})
    assert answer.status == 400 and answer.error["param"] in more


@pytest.mark.parametrize("model", [
    "SmolLM2", "../x", "/etc/passwd", "a\0b", "x" * 10000, "http://localhost/x", "smollm2/../smollm2",
    " smollm2"])
def test_unknown_models(server, model):
    answer = server.post(CHAT, {**HELLO, "model": model})
    assert answer.status == 404 and answer.error["code"] == "model_not_found"
    assert answer.error["param"] == "model" and len(answer.raw) < 1500


def test_tools_are_named_in_errors(server):
    twice = [tool("look"), tool("look")]
    assert "look" in server.post(CHAT, {**HELLO, "tools": twice}).error["message"]
    choice = {"type": "function", "function": {"name": "missing"}}
    answer = server.post(CHAT, {**HELLO, "tools": [tool("look")], "tool_choice": choice})
    assert answer.status == 400 and "missing" in answer.error["message"]
    assert server.post(CHAT, {**HELLO, "model": ""}).error["param"] == "model"


def test_length_of_the_context(server):
    ids = [5] * 8192
    answer = server.post("/v1/completions", {"prompt": ids, "max_tokens": 1})
    assert answer.status == 400 and answer.error["code"] == "context_length_exceeded"
    assert answer.error["message"].count("8192") == 2


def test_context_to_the_last_token(serve, checkpoint):
    small = serve("--model", checkpoint())
    ids = list(range(2, 30)) * 3
    for n, status in ((64, 400), (63, 200), (60, 200)):
        answer = small.post("/v1/completions", {
            "prompt": ids[:n], "max_tokens": 1000, "ignore_eos": True})
        assert answer.status == status, n
        if status == 200:
            assert answer.json["usage"]["completion_tokens"] == 64 - n
            assert answer.json["choices"][0]["finish_reason"] == "length"


def test_strict(serve, checkpoint):
    strict = serve("--model", checkpoint(), "--strict", "--any-model")
    answer = strict.post(CHAT, {"messages": user("ab"), "max_tokens": 1, "zork": 1})
    assert answer.status == 400 and answer.error["param"] == "zork"
    assert strict.post(CHAT, {"messages": user("ab"), "max_tokens": 1, "model": "gpt"}).status == 200


def test_same_seed_same_text(server):
    def ask(seed):
        body = {"messages": user("Tell me a story."), "max_tokens": 12, "temperature": 1.2}
        return server.post(CHAT, {**body, "seed": seed}).json["choices"][0]["message"]["content"]
    assert ask(1) == ask(1)
    assert len({ask(s) for s in range(4)}) > 1


def test_same_seed_among_others(server):
    def ask(i):
        body = {"messages": user(f"Tell me a story of {i % 2}."), "max_tokens": 12,
                "temperature": 1.2, "seed": i % 2}
        return server.post(CHAT, body).json["choices"][0]["message"]["content"]
    alone = [ask(0), ask(1)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == alone * 4


def test_the_later_limit_wins(server):
    """And that the other one lost is told, where they differ."""
    for route, text in ((CHAT, {"messages": user("Hi")}), ("/v1/completions", {"prompt": "Hi"})):
        for more, tokens, told in (
                ({"max_tokens": 5, "max_completion_tokens": 1}, 1, "max_tokens"),
                ({"max_tokens": 1, "max_completion_tokens": 3}, 3, "max_tokens"),
                ({"max_tokens": 2, "max_completion_tokens": 2.0}, 2, None),
                ({"max_tokens": None, "max_completion_tokens": 2}, 2, None),
                ({"max_tokens": 2, "max_completion_tokens": None}, 2, None)):
            answer = server.post(route, {**text, **more, "ignore_eos": True})
            assert answer.json["usage"]["completion_tokens"] == tokens
            assert answer.headers.get("x-ignored-fields") == told
            assert "x-unknown-fields" not in answer.headers
    both = {**HELLO, "max_tokens": 5, "max_completion_tokens": 1, "stream": True}
    assert server.post(CHAT, both).headers["x-ignored-fields"] == "max_tokens"


def test_stop_texts_of_every_kind(server):
    """Marks of the template, white space, what no text contains."""
    def ask(stop):
        body = {"messages": user("Count to five, one a line."), "max_tokens": 30, "stop": stop}
        return server.post(CHAT, body).json["choices"][0]
    whole = ask([])["message"]["content"]
    for stop in ("<|im_end|>", "<|endoftext|>", "\u0000", "\u00e9\u0301"):
        assert ask(stop)["message"]["content"] == whole
    for stop in (" ", "\n"):
        found = ask(stop)
        assert found["message"]["content"] == whole.split(stop)[0]
        assert found["finish_reason"] == "stop"
    raw = b'{"messages": [{"role": "user", "content": "x"}], "stop": "\\ud83d"}'
    assert server.ask("POST", CHAT, raw_body=raw).status == 400  # half a character


def test_all_tokens_banned_alike(serve, checkpoint):
    """The same bias for all of them changes nothing."""
    small = serve("--model", checkpoint())
    def ask(**more):
        body = {"prompt": "abc", "max_tokens": 8, "temperature": 0, "ignore_eos": True, **more}
        return small.post("/v1/completions", body).json["choices"][0]["text"]
    vocabulary = small.get("/props").json.get("n_vocab", 32)
    banned = {str(i): -100 for i in range(vocabulary)}
    assert ask(logit_bias=banned) == ask() != ""


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/api/embed", "/api/embeddings"])
def test_models_that_do_not_embed(server, path):
    """No route answers with what is no embedding."""
    for body in ({"input": "x"}, {"input": []}, {"input": ["x"] * 100000}, {"dimensions": 0}):
        answer = server.post(path, {"model": "smollm2", **body})
        assert answer.status == 404
        text = answer.json["error"]
        assert path in (text if isinstance(text, str) else text["message"])


def test_wrong_stream_options(server):
    answer = server.post(CHAT, {**HELLO, "stream": True, "stream_options": {"include_usage": 1}})
    assert answer.status == 400 and answer.error["param"] == "stream_options.include_usage"


def test_model_without_a_template(serve, checkpoint):
    bare = serve("--model", checkpoint(files={"tokenizer_config.json": "{}"}))
    answer = bare.post(CHAT, {"messages": user("ab")})
    assert answer.status == 400 and answer.error["code"] == "no_chat_template"


def test_template_that_raises(serve, checkpoint):
    raises = serve("--model", checkpoint(template="{{ raise_exception('no system, please') }}"))
    answer = raises.post(CHAT, {"messages": user("ab")})
    assert answer.status == 400 and "no system, please" in answer.error["message"]

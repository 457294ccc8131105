"""A value of the wrong kind in every field of every API (case H05 of the test
catalogue): 400 that names the field, whatever the API's way of saying so."""

import copy
import http.client
import json
import re

import pytest

from conftest import PATIENCE, ROOT

SAMPLES = [("b", True), ("i", 3), ("f", 0.5), ("s", "x"), ("se", ""), ("l", [5]), ("le", []),
           ("o", {"?": 5}), ("o", {})]
ANY = "bifslo"  # accepted and without an effect, as its API has it
NONE = ""  # refused whatever it is
EMPTY = "e"  # refused unless it is "" or []: clients send those
USER = [{"role": "user", "content": "ab"}]
CALL_ITEM = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
CLAUDE_TOOLS = [{"name": "look", "input_schema": {"type": "object"}}]
USE = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
OF_TYPES = {"integer": "i", "number": "if", "string": "s", "object": "o", "array": "sl"}


def fields(kinds, names, prefix="", **beside):
    """Rows of a table: what each of `names` may be, and what has to stand beside it."""
    return {prefix + n: (kinds, {prefix + k: v for k, v in beside.items()}) for n in names.split()}


MODEL = {**fields("s", "model adapters cache_salt"), "keep_alive": "ifs", "cache_prompt": "b"}
SAMPLING = {**fields("i", "max_completion_tokens repeat_last_n min_keep reasoning_budget "
                          "thinking_budget"), "repeat_penalty": "if", "ignore_eos": "b", "stop": "sl"}
REMARKS = {**fields(ANY, "user metadata store service_tier verbosity safety_identifier "
                         "prompt_cache_key prompt_cache_options prompt_cache_retention prediction "
                         "moderation return_progress timings_per_token"),
           "role_mapping": NONE}
STREAM = {"stream": "b", "stream_options": ("o", {"stream": True}),
          "stream_options.include_usage": ("b", {"stream": True}),
          "stream_options.include_obfuscation": ("b", {"stream": True})}
INNER = "response_format.json_schema.schema"
# The letters of the tests' model write no JSON: what is right here ends at the priority.
JSON_SCHEMA = {"response_format.type": "json_schema", "priority": "x"}
FORMATS = {"response_format": "o", "response_format.type": "s", "structured_outputs": "o",
           **fields("so", "json_schema guided_json structured_outputs.json"),
           **fields("s", "regex grammar guided_regex guided_grammar structured_outputs.regex "
                         "structured_outputs.grammar"),
           "response_format.json_schema": ("o", JSON_SCHEMA),
           "response_format.json_schema.schema": ("so", JSON_SCHEMA),
           **{f"response_format.json_schema.{n}": (k, {**JSON_SCHEMA, INNER: {"type": "object"}})
              for n, k in {"name": "s", "strict": "b", "description": "s"}.items()},
           **fields("l", "choice guided_choice structured_outputs.choice")}
TALK = {"messages": "l", **fields("s", "role name tool_call_id", "messages[0]."),
        "messages[0].content": "sl", **fields("s", "text type", "messages[0].content[0]."),
        **fields("s", "refusal", "messages[0].content[0].", type="refusal"),
        "messages[0].tool_calls": "l", "messages[0].tool_calls[0].function": "o",
        "messages[0].tool_calls[0].function.name": "s", "tools": "l", "tools[0].type": "s",
        "tools[0].function": "o", "tools[0].function.name": "s",
        **fields("s", "description", "tools[0].function.", name="look"),
        **fields("o", "parameters", "tools[0].function.", name="look"),
        "tool_choice": "so", "tool_choice.function": "o", "tool_choice.function.name": "s",
        "parallel_tool_calls": "b", "reasoning_effort": "s", "chat_template_kwargs": "o"}

ROUTES = {
    "/v1/chat/completions": ({"messages": USER}, {
        **MODEL, "draft_model": "s", **SAMPLING, **REMARKS, **STREAM, **FORMATS, **TALK,
        "logprobs": "b", "modalities": "l", **fields("i", "n top_logprobs priority"),
        **fields(NONE, "audio functions function_call web_search_options")}),
    "/v1/completions": ({"prompt": "ab"}, {
        **MODEL, "draft_model": "s", **SAMPLING, **REMARKS, **STREAM, **FORMATS, "prompt": "sl",
        "prompt[0]": "ifsl", "logprobs": "bi", "echo": "b", "suffix": "s",
        **fields("i", "n best_of priority")}),
    "/v1/responses": ({"input": "ab"}, {
        **MODEL, "draft_model": "s", **SAMPLING, **REMARKS, "stream": "b", "store": "b",
        "metadata": "o", "text": "o", "text.verbosity": ANY, "text.format": "o",
        "text.format.type": "s", "input": "sl", **fields("s", "instructions previous_response_id"),
        **fields("s", "type role", "input[0]."), **fields("sl", "content", "input[0].", role="user"),
        **fields("s", "call_id name arguments", "input[0].", **CALL_ITEM),
        **fields("sl", "output", "input[0].", type="function_call_output", call_id="a"),
        "tools": "l", "tools[0].type": "s", **fields("s", "name", "tools[0].", type="function"),
        **fields("s", "description", "tools[0].", type="function", name="look"),
        **fields("o", "parameters", "tools[0].", type="function", name="look"),
        "tool_choice": "so", "reasoning": "o", "reasoning.effort": "s", "reasoning.summary": ANY,
        "reasoning.generate_summary": ANY, "parallel_tool_calls": "b",
        "chat_template_kwargs": "o", **fields("i", "max_output_tokens priority"),
        **fields(NONE, "background prompt conversation"),
        **fields(ANY, "include truncation stream_options top_logprobs max_tool_calls")}),
    "/v1/messages": ({"messages": USER}, {
        **MODEL, "draft_model": "s", **SAMPLING, "stream": "b", "stop_sequences": "sl",
        "system": "sl", "system[0].type": "s", **fields("s", "text", "system[0].", type="text"),
        "messages": "l", "messages[0].role": "s", "messages[0].content": "sl",
        "messages[0].content[0].type": "s",
        **fields("s", "text", "messages[0].content[0].", type="text"),
        **fields("s", "thinking", "messages[0].content[0].", type="thinking"),
        **fields("s", "id name", "messages[0].content[0].", **USE),
        **fields("o", "input", "messages[0].content[0].", **USE),
        **fields("s", "tool_use_id", "messages[0].content[0].", type="tool_result", content="x"),
        **fields("sl", "content", "messages[0].content[0].", type="tool_result", tool_use_id="a"),
        "tools": "l", **fields("s", "type name", "tools[0]."),
        **fields("s", "description", "tools[0].", name="look", input_schema={}),
        **fields("o", "input_schema", "tools[0].", name="look"),
        "thinking": "o", "thinking.type": "s",
        **fields("i", "budget_tokens", "thinking.", type="enabled"),
        "tool_choice": "o", "tool_choice.type": "s",
        "tool_choice.name": ("s", {"tool_choice.type": "tool", "tools": CLAUDE_TOOLS}),
        **fields("b", "disable_parallel_tool_use", "tool_choice.", type="auto"),
        "output_config": "o", "output_config.effort": ANY, "output_config.format": "o",
        "output_config.format.type": "s", **fields(ANY, "cache_control metadata service_tier")}),
    "/api/chat": ({"messages": USER, "model": "default_model"}, {
        **MODEL, "options": "o", "stream": "b", "think": "bs", "format": "so", **TALK}),
    "/api/generate": ({"prompt": "ab", "model": "default_model"}, {
        **MODEL, "options": "o", "stream": "b", "think": "bs", "format": "so", "raw": "b",
        "prompt": "s", "system": "s", **fields(EMPTY, "images suffix template context")}),
    "/infill": ({"input_prefix": "a", "input_suffix": "b"}, {
        **MODEL, "draft_model": "s", **SAMPLING, **REMARKS, "stream": "b",
        **fields("s", "input_prefix input_suffix prompt"), "input_extra": "l",
        **fields("s", "filename", "input_extra[0].", text="x"), "input_extra[0].text": "s",
        **fields("i", "n_predict n_probs priority"),
        **fields(ANY, "id_slot t_max_predict_ms t_max_prompt_ms")}),
    "/tokenize": ({"content": "ab"}, {
        **MODEL, "content": "s", **fields("b", "add_special with_pieces"), "parse_special": ANY}),
    "/detokenize": ({"tokens": [5]}, {**MODEL, "tokens": "l"}),
    "/apply-template": ({"messages": USER}, {**MODEL, **TALK, "add_generation_prompt": ANY}),
}
NO_ANSWERS = ("/tokenize", "/detokenize", "/apply-template")


def put(body, path, value):
    """`value` at "a.b[0].c"; what is missing between is made."""
    steps = [int(s) if s.isdigit() else s for s in re.findall(r"\w+", path)]
    for step, following in zip(steps, steps[1:]):
        empty = [{}] if following == 0 else {}
        if isinstance(step, str) and not isinstance(body.get(step), type(empty)):
            body[step] = empty
        body = body[step]
    body[steps[-1]] = value


def table_of(server, route):
    """Every field of a route: those that all answers have are in /openapi.json."""
    schemas = server.get("/openapi.json").json["components"]["schemas"]
    settings = {name: OF_TYPES[row["type"]] for name, row in
                schemas["Sampling"]["properties"].items()}
    base, own = ROUTES[route]
    if route.startswith("/api"):
        own = {**own, **{f"options.{n}": k for n, k in {**settings, **SAMPLING}.items()},
               "options.num_predict": "i"}
    elif route not in NO_ANSWERS:
        own = {**settings, **own}
    return base, {n: row if isinstance(row, tuple) else (row, {}) for n, row in own.items()}


@pytest.fixture
def ask(serve, checkpoint):
    server = serve("--model", checkpoint(), "--no-access-log")
    line = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)

    def ask(path, body):
        line.request("POST", path, json.dumps(body))
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    ask.server = server
    yield ask
    line.close()


def named(text, name):
    """Whether an error says which field it is about."""
    error = json.loads(text)["error"]
    if isinstance(error, dict) and "param" in error:
        return error["param"] == name
    return (error if isinstance(error, str) else error["message"]).startswith(name + ":")


@pytest.mark.parametrize("route", ROUTES)
def test_wrong_types(ask, route):
    base, table = table_of(ask.server, route)
    short = "options.num_predict" if route.startswith("/api") else "max_tokens"
    wrong = []
    for name, (kinds, beside) in table.items():
        for letters, sample in SAMPLES:
            body = copy.deepcopy(base)
            for path, value in {short: 1, **beside, name: sample}.items():
                put(body, path, value)
            status, _, text = ask(route, body)
            may = any(letter in kinds for letter in letters)
            if status >= 500 or not (may or status == 400 and named(text, name)):
                wrong.append((name, sample, status, text[:200]))
    assert wrong == []


def names_of(table):
    return {re.split(r"[.[]", name)[0] for name in table}


@pytest.mark.parametrize("route", ROUTES)
def test_no_field_is_left_out(ask, route):
    """What some route has and this one's table has not is unknown to it."""
    base, table = table_of(ask.server, route)
    if "max_tokens" in table:
        base = {**base, "max_tokens": 1}
    everything = set().union(*(names_of(table_of(ask.server, r)[1]) for r in ROUTES))
    foreign = sorted(everything - names_of(table) - {"max_tokens"})
    told = []
    for some in (foreign[:30], foreign[30:60], foreign[60:]):
        _, headers, _ = ask(route, {**base, **dict.fromkeys(some, 5)})
        told += (headers["x-unknown-fields"] or "").split(", ")
    assert [name for name in told if name] == foreign


def test_every_field_that_is_read_is_here(ask):
    """Of the readers in src/serve; what they read inside of lists as well."""
    read = set()
    for file in (ROOT / "src/serve").rglob("*.cpp"):
        if not file.name.endswith("_test.cpp") and file.name != "statistics.cpp":
            read |= set(re.findall(
                r"\.(?:any|boolean|choice|integer|list|number|object|refuse|text)\(\s*\"(\w+)\"",
                file.read_text()))
    here = {word for route in ROUTES for name in table_of(ask.server, route)[1]
            for word in re.findall(r"[a-z]\w*", name)}
    assert len(read) > 80 and read <= here, read - here

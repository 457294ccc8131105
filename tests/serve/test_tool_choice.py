"""tool_choice with models whose templates have tools: tiny checkpoints with random
weights would never call anything by themselves, so what comes is the grammar's."""

import json
import tarfile

import jsonschema
import pytest

from conftest import ROOT, cli

WEATHER = {
    "type": "object", "additionalProperties": False, "required": ["city", "days"],
    "properties": {
        "city": {"enum": ["Paris", "Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"$ref": "#/$defs/unit"},
        "place": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}}},
    "$defs": {"unit": {"enum": ["C", "F"]}}}
SUM = {
    "type": "object", "additionalProperties": False, "required": ["a", "b"],
    "properties": {"a": {"type": "integer", "minimum": -20, "maximum": 20},
                   "b": {"oneOf": [{"type": "boolean"}, {"type": "null"}]}}}
SCHEMAS = {"get_weather": WEATHER, "add": SUM}
TOOLS = [{"type": "function", "function": {
    "name": name, "description": name, "parameters": schema}}
    for name, schema in SCHEMAS.items()]
ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000,
       "temperature": 1.0, "tools": TOOLS}
NAMED = {"type": "function", "function": {"name": "add"}}

# Templates of the fixtures, and the tokens that mark calls in each family.
FAMILIES = {
    "qwen25_tools": ["<tool_call>", "</tool_call>"],
    "mistral_v3_tools": ["[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[INST]", "[/INST]"],
    "qwen3_coder": ["<tool_call>", "</tool_call>"],
    "minimax": ["<minimax:tool_call>", "</minimax:tool_call>"],
    "gemma4_tools": ["<|tool_call>", "<tool_call|>", '<|"|>'],
    "gpt_oss": ["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|call|>",
                "<|end|>", "<|return|>"],
}


def template(family):
    with tarfile.open(ROOT / "tests/fixtures/chat_templates.tar.xz") as archive:
        return archive.extractfile(f"chat_templates/{family}/template.jinja").read().decode()


def tokenizer(marks):
    """One token a character of ASCII, and the family's marks."""
    special = ["<unk>", "</s>", "<|im_start|>", "<|im_end|>", *marks]
    words = special + ["\n"] + [chr(c) for c in range(32, 127)]
    made = cli.tokenizer(len(words))
    made["model"]["vocab"] = {word: i for i, word in enumerate(words)}
    made["added_tokens"] = [
        {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": word not in marks} for i, word in enumerate(special)]
    return made, len(words)


def model_of(family, checkpoint):
    """The folder of a model with random weights that speaks as the family does."""
    made, size = tokenizer(FAMILIES[family])
    shape = {"vocab_size": size, "max_position_embeddings": 16384}
    return checkpoint(template=template(family), files={
        "tokenizer.json": json.dumps(made),
        "model.safetensors": cli.safetensors(cli.shapes({**cli.CONFIG, **shape}))}, **shape)


@pytest.fixture(params=FAMILIES)
def server(request, serve, checkpoint):
    folder = model_of(request.param, checkpoint)
    running = serve("--model", folder, "--no-access-log")
    # A model with random weights never stops thinking by itself.
    running.more = {"reasoning_budget": 4} if request.param == "minimax" else {}
    assert running.get("/props").json["capabilities"]["tools"]
    return running


def check(name, arguments, only=None):
    assert name in SCHEMAS and only in (None, name)
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    jsonschema.validate(arguments, SCHEMAS[name])


@pytest.mark.parametrize("choice,only", [("required", None), (NAMED, "add")])
def test_openai(server, choice, only):
    for seed in range(3):
        ask = {**ASK, "tool_choice": choice, "seed": seed, **server.more}
        answer = server.post("/v1/chat/completions", ask)
        assert answer.status == 200, answer.raw
        found = answer.json["choices"][0]
        assert found["finish_reason"] == "tool_calls", found
        (call,) = found["message"]["tool_calls"]
        assert not found["message"]["content"]
        check(call["function"]["name"], call["function"]["arguments"], only)

        events = server.post("/v1/chat/completions", {**ask, "stream": True}).events()
        assert events.pop() == "[DONE]"
        deltas = [json.loads(e)["choices"][0]["delta"] for e in events]
        pieces = [d["tool_calls"][0] for d in deltas if "tool_calls" in d]
        name = "".join(p["function"].get("name", "") for p in pieces)
        arguments = "".join(p["function"].get("arguments", "") for p in pieces)
        assert (name, json.loads(arguments)) == (
            call["function"]["name"], json.loads(call["function"]["arguments"]))


def test_other_apis(server):
    tools = [{"name": n, "input_schema": s} for n, s in SCHEMAS.items()]
    for choice, only in (({"type": "any"}, None), ({"type": "tool", "name": "add"}, "add")):
        answer = server.post("/v1/messages", {
            "max_tokens": 4000, "messages": ASK["messages"], "tools": tools,
            "tool_choice": choice, "temperature": 1.0, **server.more}).json
        assert answer["stop_reason"] == "tool_use", answer
        (block,) = [b for b in answer["content"] if b["type"] != "thinking"]
        check(block["name"], block["input"], only)

    tools = [{"type": "function", "name": n, "parameters": s} for n, s in SCHEMAS.items()]
    answer = server.post("/v1/responses", {
        "input": "Hello", "tools": tools, "max_output_tokens": 4000, "temperature": 1.0,
        **server.more,
        "tool_choice": {"type": "function", "name": "get_weather"}}).json
    (item,) = [i for i in answer["output"] if i["type"] != "reasoning"]
    assert item["type"] == "function_call"
    check(item["name"], item["arguments"], "get_weather")

    answer = server.post("/api/chat", {
        "model": "model", "messages": ASK["messages"], "tools": TOOLS, "stream": False,
        "tool_choice": "required", "options": {"num_predict": 4000, "temperature": 1.0, **server.more},
        **server.more}).json
    (call,) = answer["message"]["tool_calls"]
    check(call["function"]["name"], call["function"]["arguments"])


@pytest.mark.parametrize("family", ["minimax", "gpt_oss"])
def test_what_is_forced_comes_behind_the_thought(serve, checkpoint, family):
    """Random weights stop anywhere in their thought, or never: the answer still comes."""
    server = serve("--model", model_of(family, checkpoint), "--no-access-log")
    thoughts = set()

    def ask(**more):
        found = server.post("/v1/chat/completions", {**ASK, "max_tokens": 600, **more})
        assert found.status == 200, found.raw
        found = found.json["choices"][0]
        thoughts.add(len(found["message"].get("reasoning_content") or ""))
        return found
    for seed in range(6):
        found = ask(seed=seed, tool_choice=NAMED)
        assert found["finish_reason"] == "tool_calls", found
        (call,) = found["message"]["tool_calls"]
        check(call["function"]["name"], call["function"]["arguments"], "add")
        if family == "gpt_oss":
            continue  # its random weights write into channels of no name
        schema = {"type": "object", "properties": {"a": SUM["properties"]["a"]},
                  "required": ["a"], "additionalProperties": False}
        found = ask(seed=seed, json_schema=schema, tools=[])
        assert found["finish_reason"] == "stop", found
        jsonschema.validate(json.loads(found["message"]["content"]), schema)
    assert max(thoughts) > 100
    # A smaller budget is kept to: the thought ends where it is spent.
    found = ask(seed=1, tool_choice=NAMED, reasoning_budget=3)
    assert found["finish_reason"] == "tool_calls"
    assert len(found["message"].get("reasoning_content") or "") < 70  # marks have many letters


def test_a_schema_that_cannot_be_enforced(server):
    """It is told with the tool and the place; nothing is left out."""
    for schema, place in (({"properties": {"a": {"not": {}}}}, "#/properties/a/not"),
                          ({"properties": {"a": {"items": {"if": {}}}}}, "#/properties/a/items/if"),
                          ({"properties": {"a": {"type": "string", "pattern": "("}}}, ""),
                          ({"properties": {"a": {"type": "string", "format": "frog"}}}, "frog"),
                          ({"properties": {"a": {"type": "frog"}}}, "frog")):
        tools = [*TOOLS, {"type": "function", "function": {
            "name": "bad", "parameters": {"type": "object", **schema}}}]
        answer = server.post("/v1/chat/completions", {
            **ASK, "tools": tools, "tool_choice": "required"})
        assert answer.status == 400, (schema, answer.raw)
        assert place in answer.error["message"], answer.error
        # Those who may still be called are.
        answer = server.post("/v1/chat/completions", {
            **ASK, "tools": tools, "tool_choice": NAMED, "seed": 1, **server.more})
        assert answer.status == 200, answer.raw


def test_what_cannot_be_forced(server):
    other = {"type": "function", "function": {"name": "other"}}
    assert server.post("/v1/chat/completions", {**ASK, "tool_choice": other}).status == 400
    del (ask := {**ASK})["tools"]
    assert server.post("/v1/chat/completions", {**ask, "tool_choice": "required"}).status == 400

"""The anthropic and ollama packages against the server."""

import json

import pytest

QUESTION = "What is the capital of France?"
PARIS = "The capital of France is Paris."


@pytest.fixture
def claude(server):
    anthropic = pytest.importorskip("anthropic")
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0)


@pytest.fixture
def ollama(server):
    return pytest.importorskip("ollama").Client(host=server.url)


def user(content):
    return [{"role": "user", "content": content}]


def test_message(claude):
    answer = claude.messages.create(
        model="smollm2", max_tokens=32, messages=user(QUESTION))
    assert answer.type == "message" and answer.role == "assistant"
    assert [b.type for b in answer.content] == ["text"] and answer.content[0].text == PARIS
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == 37


def test_message_stream(claude):
    with claude.messages.stream(
            model="smollm2", max_tokens=32, messages=user(QUESTION)) as stream:
        events = [e.type for e in stream]
        final = stream.get_final_message()
    assert final.content[0].text == PARIS and final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 5
    assert events[0] == "message_start" and events[-1] == "message_stop"
    for one in ("content_block_start", "content_block_stop", "message_delta"):
        assert events.count(one) == 1


def test_frames_of_a_message(server):
    answer = server.post("/v1/messages", {
        "model": "smollm2", "max_tokens": 2, "stream": True, "messages": user(QUESTION)})
    blocks = [b for b in answer.text.split("\n\n") if b]
    for block in blocks:
        event, data = block.split("\n")
        assert event == "event: " + json.loads(data[6:])["type"]
    assert json.loads(blocks[-2].split("\n")[1][6:])["delta"]["stop_reason"] == "max_tokens"


def test_stop_sequence_and_system(claude):
    answer = claude.messages.create(
        model="smollm2", max_tokens=32, messages=user(QUESTION), stop_sequences=[" France"],
        system=[{"type": "text", "text": "You are a helpful AI assistant named SmolLM, "
                                         "trained by Hugging Face"}])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == " France"
    assert answer.content[0].text == "The capital of"


def test_count_tokens(claude):
    count = claude.messages.count_tokens(model="smollm2", messages=user(QUESTION))
    assert count.input_tokens == 37


def test_blocks_become_messages(server):
    turns = [
        *user("What is the weather in Rome?"),
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "a tool", "signature": ""},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"where": "Rome"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [
                {"type": "text", "text": "sunny"}], "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "And now?"}]}]
    tools = [{"name": "look", "description": "x", "input_schema": {"type": "object"}}]
    answer = server.post("/v1/messages", {
        "model": "smollm2", "max_tokens": 3, "messages": turns, "tools": tools,
        "tool_choice": {"type": "auto"}, "metadata": {"user_id": "x"},
        "thinking": {"type": "disabled"}})
    assert answer.status == 200, answer.raw
    assert "x-unknown-fields" not in answer.headers


@pytest.mark.parametrize("more", [
    {"max_tokens": None}, {"max_tokens": 0}, {"messages": []}, {"messages": user(None)},
    {"messages": [{"role": "king", "content": "x"}]}, {"messages": user([{"type": "image"}])},
    {"messages": user([{"type": "tool_result"}])}, {"temperature": 5}, {"system": 5},
    {"stop_sequences": [""]}, {"tools": [{"name": "x"}]}, {"tool_choice": {"type": "any"}},
    {"output_config": {"format": {"type": "x"}}},
    {"tools": [{"type": "web_search_20250305", "name": "x"}]}, {"thinking": {"type": "x"}}])
def test_wrong_messages(server, more):
    body = {"model": "smollm2", "max_tokens": 2, "messages": user("Hi"), **more}
    answer = server.post("/v1/messages", body)
    assert answer.status == 400, answer.raw
    assert answer.json["type"] == "error"
    assert answer.error["type"] == "invalid_request_error"


def test_errors_have_their_classes(claude):
    import anthropic
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude", max_tokens=2, messages=user("Hi"))
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(model="smollm2", max_tokens=2, messages=user("word " * 9000))


def test_ollama_chat(ollama):
    cold = {"temperature": 0, "num_predict": 32}
    answer = ollama.chat(model="smollm2", messages=user(QUESTION), options=cold)
    assert answer.message.content == PARIS and answer.done and answer.done_reason == "stop"
    assert answer.prompt_eval_count == 37 and answer.eval_count > 5 and answer.eval_duration > 0
    pieces = list(ollama.chat(
        model="smollm2:latest", messages=user(QUESTION), options=cold, stream=True))
    assert "".join(p.message.content for p in pieces) == PARIS
    assert [p.done for p in pieces] == [False] * (len(pieces) - 1) + [True]


def test_ollama_generate(ollama):
    cold = {"temperature": 0, "num_predict": 5, "stop": ["zzz"]}
    answer = ollama.generate(
        model="smollm2", prompt="The capital of France is", raw=True, options=cold)
    assert answer.response.startswith(" Paris") and answer.done_reason == "length"
    assert ollama.generate(model="smollm2", prompt=QUESTION, options={
        "temperature": 0}).response == PARIS
    assert ollama.generate(model="smollm2").done_reason == "load"


def test_ollama_models(ollama, server):
    assert [m.model for m in ollama.list().models] == ["smollm2"]
    assert ollama.ps().models[0].context_length == 8192
    shown = ollama.show("smollm2")
    assert "completion" in shown.capabilities and shown.details.format == "gguf"
    assert shown.modelinfo["llama.context_length"] == 8192
    assert "version" in server.get("/api/version").json


def test_ollama_errors(ollama, server):
    import ollama as package
    with pytest.raises(package.ResponseError) as e:
        ollama.chat(model="other", messages=user("Hi"))
    assert e.value.status_code == 404
    answer = server.post("/api/chat", {"model": "smollm2", "messages": user("Hi"),
                                       "options": {"temperature": -1}})
    assert answer.status == 400 and "options.temperature" in answer.json["error"]
    answer = server.post("/api/chat", {
        "model": "smollm2", "stream": False, "messages": user("Hi"),
        "options": {"num_predict": 1, "num_ctx": 4096}})
    assert answer.headers["x-unknown-fields"] == "options.num_ctx"

"""Answers that must be of a form: schemas, patterns, choices."""

import json
import re

import pytest

CHAT = "/v1/chat/completions"
PERSON = {
    "type": "object", "additionalProperties": False, "required": ["name", "age"],
    "properties": {"name": {"type": "string", "maxLength": 12},
                   "age": {"type": "integer", "minimum": 0, "maximum": 120}}}
ASK = {"messages": [{"role": "user", "content": "Describe a person as JSON."}],
       "max_tokens": 80, "temperature": 1.0}


def content(server, **more):
    answer = server.post(CHAT, {**ASK, **more})
    assert answer.status == 200, answer.raw
    assert "x-unknown-fields" not in answer.headers
    assert answer.json["choices"][0]["finish_reason"] == "stop"
    return answer.json["choices"][0]["message"]["content"]


def check_person(text):
    person = json.loads(text)
    assert set(person) == {"name", "age"} and 0 <= person["age"] <= 120
    assert isinstance(person["name"], str) and len(person["name"]) <= 12


@pytest.mark.parametrize("seed", range(3))
def test_schema(server, seed):
    check_person(content(server, seed=seed, response_format={
        "type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}}))


@pytest.mark.parametrize("more", [
    {"json_schema": PERSON}, {"guided_json": json.dumps(PERSON)},
    {"structured_outputs": {"json": PERSON}},
    {"response_format": {"type": "json_object", "schema": PERSON}}])
def test_other_spellings(server, more):
    check_person(content(server, seed=1, **more))


def test_regex_choice_grammar(server):
    assert re.fullmatch(r"[0-9]{3}-[0-9]{2}", content(server, regex="[0-9]{3}-[0-9]{2}"))
    assert content(server, guided_choice=["red", "green"]) in ("red", "green")
    assert content(server, grammar='start: "a" ("b" | "c")') in ("ab", "ac")
    # As llama-server has it.
    gbnf = 'root ::= word ("-" word){1,3}\nword ::= [a-c]{2} # two'
    assert re.fullmatch("[a-c]{2}(-[a-c]{2}){1,3}", content(server, grammar=gbnf))


def test_several_in_one_batch(server):
    import concurrent.futures

    def ask(i):
        if i % 2:
            return server.post(CHAT, {**ASK, "max_tokens": 20}).status == 200
        check_person(content(server, seed=i, json_schema=PERSON))
        return True
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(6)))


def test_other_apis(server):
    text = {"format": {"type": "json_schema", "name": "p", "schema": PERSON}}
    answer = server.post("/v1/responses", {
        "input": "A person, please.", "text": text, "max_output_tokens": 80})
    check_person(answer.json["output"][0]["content"][0]["text"])
    answer = server.post("/api/chat", {
        "model": "smollm2", "stream": False, "messages": ASK["messages"], "format": PERSON})
    check_person(answer.json["message"]["content"])
    answer = server.post("/v1/completions", {
        "prompt": "A person: ", "max_tokens": 80, "json_schema": PERSON})
    check_person(answer.json["choices"][0]["text"])


@pytest.mark.parametrize("more", [
    {"json_schema": {"type": "frog"}}, {"json_schema": 5}, {"regex": "["}, {"regex": 5},
    {"guided_choice": []}, {"guided_choice": [5]}, {"grammar": "start: \"a"},
    {"grammar": "root ::= word"}, {"grammar": "root ::= ("},
    {"json_schema": PERSON, "regex": "x"},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    {"json_schema": {"enum": ["x" * 70000]}},
    {"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "required"}])
def test_what_cannot_be_enforced(server, more):
    answer = server.post(CHAT, {**ASK, **more})
    assert answer.status == 400, answer.raw


def test_what_the_tokens_cannot_write(serve, checkpoint):
    """A vocabulary of letters writes no JSON: that is the request's, not a failure."""
    letters = serve("--model", checkpoint())
    for more in ({"response_format": {"type": "json_object"}}, {"regex": "[0-9]+!"},
                 {"json_schema": {"type": "string"}}, {"choice": ["1", "{"]},
                 {"grammar": 'start: "<" "a"'}) * 2:
        body = {"messages": [{"role": "user", "content": "ab"}], "max_tokens": 3, **more}
        answer = letters.post("/v1/chat/completions", body)
        assert answer.status == 400 and answer.error["param"] == "response_format", answer.raw
        assert "that none of them has" in answer.error["message"]
    answer = letters.post("/v1/completions", {"prompt": "ab", "choice": ["1", "ab"], "max_tokens": 3})
    assert answer.json["choices"][0]["text"] == "ab"
    answer = letters.post("/v1/completions", {"prompt": "ab", "regex": "[ab]+", "max_tokens": 3})
    assert answer.status == 200

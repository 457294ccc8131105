"""generate under a grammar: --json-schema, --regex, --choice, --grammar, --tool-choice."""

import json
import re

WEATHER = [{"type": "function", "function": {
    "name": "get_weather", "description": "weather of a city", "parameters": {
        "type": "object", "required": ["city"], "additionalProperties": False,
        "properties": {"city": {"type": "string", "maxLength": 20}}}}}]


def test_schema_from_a_file_and_from_the_line(mlxlm, tmp_path):
    schema = {"type": "object", "additionalProperties": False, "required": ["n"],
              "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    for given in (file, json.dumps(schema)):
        done = mlxlm("generate", "-p", "A number?", "--temp", 1, "--seed", 3,
                     "--json-schema", given, "--verbose", "false")
        assert done.code == 0, done.err
        assert 1 <= done.json["n"] <= 9


def test_regex_choice_and_grammar(mlxlm, tmp_path):
    done = mlxlm("generate", "-p", "A date?", "--regex", r"\d{4}-\d{2}-\d{2}")
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}\n", done.text)
    done = mlxlm("generate", "-p", "Yes?", "--choice", "perhaps", "--choice", "never")
    assert done.text in ("perhaps\n", "never\n")
    grammar = tmp_path / "sums.lark"
    grammar.write_text('start: NUMBER ("+" NUMBER){2}\nNUMBER: /[1-9]/\n')
    done = mlxlm("generate", "-p", "Add.", "--grammar", grammar)
    assert re.fullmatch(r"[1-9]\+[1-9]\+[1-9]\n", done.text), done.text


def test_what_cannot_be_compiled_is_one_line(fails, tmp_path):
    assert "nothing" in fails("generate", "--json-schema", '{"type": "nothing"}')
    fails("generate", "--regex", "(")
    fails("generate", "--json-schema", tmp_path / "missing.json")
    assert "at most one" in fails("generate", "--regex", "a", "--choice", "b")


def test_tool_choice_needs_a_model_that_calls_tools(fails, tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(WEATHER))
    assert "tool_choice" in fails(
        "generate", "--tools", tools, "--tool-choice", "required")

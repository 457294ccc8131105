"""tokenize, detokenize, template: byte for byte, and without the array engine."""

import json
import os
import subprocess
from pathlib import Path

import pytest

MESSAGES = [{"role": "user", "content": "caf\u00e9 <b>"}]


def test_tokenize(mlxlm):
    done = mlxlm("tokenize", "--model", "smollm2", stdin="Hello world")
    assert done.code == 0 and done.err == ""
    assert done.json == [19556, 905]
    assert done.text.count("\n") == 1


def test_text_is_taken_as_it_is(mlxlm):
    """White space at the end counts; special tokens in the text are parsed."""
    plain = mlxlm("tokenize", stdin="Hello").json
    assert mlxlm("tokenize", stdin="Hello\n").json == [*plain, 198]
    assert mlxlm("tokenize", stdin="<|im_end|>").json == [2]
    assert mlxlm("tokenize", "--no-special", stdin="<|im_end|>").json == [2]
    assert mlxlm("tokenize", stdin="").json == []


def test_lines(mlxlm):
    texts = ["Hello world", "", "two\nlines", "\u65e5\u672c\u8a9e \U0001f600"]
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    done = mlxlm("tokenize", "--lines", stdin=lines)
    rows = [json.loads(line) for line in done.text.splitlines()]
    assert len(rows) == len(texts) and rows[1] == []
    back = mlxlm("detokenize", "--lines", stdin=done.out)
    assert [json.loads(line) for line in back.text.splitlines()] == texts


def test_detokenize_adds_nothing(mlxlm):
    assert mlxlm("detokenize", stdin="[19556, 905]").out == b"Hello world"
    assert mlxlm("detokenize", stdin="[1, 19556, 2]").out == b"<|im_start|>Hello<|im_end|>"
    assert mlxlm("detokenize", stdin="[]").out == b""


@pytest.mark.parametrize("command, stdin", [
    ("tokenize", b"\xff\xfe"),
    ("detokenize", "no json"),
    ("detokenize", "{}"),
    ("detokenize", "[1.5]"),
    ("detokenize", "[-1]"),
    ("detokenize", "[49152]"),
    ("detokenize", "[" * 10000),
])
def test_bad_text(fails, command, stdin):
    assert "standard input" in fails(command, stdin=stdin)


def test_bad_line_is_named(fails):
    assert "standard input:2" in fails("tokenize", "--lines", stdin='"a"\nb\n')


def test_template_bytes(mlxlm, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text(
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
        "{{ extra }}{{ eos_token }}{{ tools | length if tools else '-' }}")
    messages = tmp_path / "messages.json"
    messages.write_text(json.dumps(MESSAGES))
    tools = tmp_path / "tools.json"
    tools.write_text('[{"type": "function", "function": {"name": "f"}}]')
    done = mlxlm(
        "template", "--template", template, "--messages", messages, "--bos", "<s>",
        "--eos", "</s>", "--kwargs", '{"extra": "!"}', "--tools", tools,
        "--add-generation-prompt")
    assert done.err == "" and done.code == 0
    assert done.text == "<s>user: caf\u00e9 <b>\nassistant:!</s>1"
    done = mlxlm("template", "--template", template, "--messages", "-",
                 stdin=json.dumps(MESSAGES))
    assert done.text == "user: caf\u00e9 <b>\n-"


def test_template_of_a_model(mlxlm, tmp_path):
    done = mlxlm("template", "--model", "smollm2", "--messages", "-",
                 "--add-generation-prompt", stdin=json.dumps(MESSAGES))
    assert done.text.endswith(
        "<|im_start|>user\ncaf\u00e9 <b><|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("template, hint", [
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("{% for i in range(1000000000) %}{% for j in range(1000000000) %}x{% endfor %}"
     "{% endfor %}", ""),
    ("{% for i in range(3) %}", ""),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
    ("{{ messages[0].content * 100000000000 }}", ""),
    ("{% include '/etc/passwd' %}", ""),
])
def test_templates_that_fail(fails, tmp_path, template, hint):
    file = tmp_path / "template.jinja"
    file.write_text(template)
    assert hint in fails("template", "--template", file, "--messages", "-",
                         stdin=json.dumps(MESSAGES), timeout=120)


@pytest.mark.parametrize("messages", ["", "{}", "[", '"text"', '[{"role": "user"},]'])
def test_bad_messages(fails, tmp_path, messages):
    file = tmp_path / "template.jinja"
    file.write_text("x")
    fails("template", "--template", file, "--messages", "-", stdin=messages)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("arguments", [
    ["tokenize"], ["detokenize", "--lines"], ["inspect", "--json"]])
def test_array_engine_stays_off(program, arguments, tmp_path):
    """MLX starts threads for its streams; these commands have one thread."""
    tracer = tmp_path / "count.py"
    tracer.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE,\n"
        "                         stdout=subprocess.DEVNULL)\n"
        "most = 0\n"
        "child.stdin.write(b''); child.stdin.close()\n"
        "while child.poll() is None:\n"
        "    try:\n"
        "        status = open(f'/proc/{child.pid}/status').read()\n"
        "        most = max(most, int(status.split('Threads:')[1].split()[0]))\n"
        "    except (OSError, IndexError):\n"
        "        pass\n"
        "print(most)\n")
    done = subprocess.run(
        ["python3", str(tracer), program, *arguments], capture_output=True,
        env={**os.environ}, check=True)
    assert int(done.stdout) == 1

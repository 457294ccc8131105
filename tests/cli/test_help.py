"""Help, completion, manual, mistakes on the command line."""

import json
import shutil
import subprocess

import pytest

COMMANDS = ["generate", "chat", "serve", "convert", "cache-prompt", "bench", "perplexity", "inspect", "models", "tokenize",
            "detokenize", "template", "settings", "completion", "man"]


def fits_a_screen(text):
    lines = text.splitlines()
    return len(lines) <= 24 and all(len(line) <= 80 for line in lines)


def test_program_help(mlxlm):
    done = mlxlm("--help")
    assert done.code == 0 and done.err == ""
    assert fits_a_screen(done.text)
    for command in COMMANDS:
        assert f"\n  {command} " in done.text
    assert mlxlm().out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help(mlxlm, command):
    done = mlxlm(command, "--help")
    assert done.code == 0 and done.err == ""
    assert fits_a_screen(done.text), len(done.text.splitlines())
    longer = mlxlm(command, "--help-all").text
    assert len(longer) >= len(done.text)


def test_help_names_every_setting(mlxlm):
    table = mlxlm("settings").json
    assert sorted(table) == sorted(COMMANDS)
    for command, entry in table.items():
        text = mlxlm(command, "--help-all").text
        for setting in entry["settings"]:
            assert setting["name"] in text


def test_settings_are_declared_once(mlxlm):
    for command, entry in mlxlm("settings").json.items():
        spellings = [s["name"] for s in entry["settings"]]
        spellings += [a for s in entry["settings"] for a in s.get("aliases", [])]
        assert len(spellings) == len(set(spellings)), command


def test_names_of_mlx_lm(mlxlm):
    table = mlxlm("settings").json
    names = {s["name"]: s["default"] for s in table["generate"]["settings"]}
    assert names["max-tokens"] == 100 and names["temp"] == 0 and names["top-p"] == 1
    assert names["xtc-threshold"] == 0.1 and names["min-tokens-to-keep"] == 1
    chat = {s["name"]: s["default"] for s in table["chat"]["settings"]}
    assert chat["max-tokens"] == 256


def test_version(mlxlm):
    done = mlxlm("--version")
    assert done.code == 0
    assert done.text.startswith("mlxlm ") and "MLX " in done.text
    assert any(word in done.text for word in ("cpu", "metal", "cuda"))


@pytest.mark.parametrize("arguments, hint", [
    (["generat"], "did you mean generate?"),
    (["generate", "--promt", "x"], "did you mean --prompt?"),
    (["generate", "--max-token=3"], "did you mean --max-tokens?"),
    (["generate", "--max-tokens", "many"], "expected an integer"),
    (["generate", "--max-tokens", "-2"], "expected an integer from -1"),
    (["generate", "--temp", "-1"], "expected a number"),
    (["generate", "--dtype", "float23"], "did you mean float"),
    (["generate", "--chat-template-config", "{"], "--chat-template-config"),
    (["generate", "--prompt"], "expected a value"),
    (["generate", "words"], "unexpected argument"),
    (["bench", "-n", "0"], "expected an integer from 1"),
    (["completion", "tcsh"], "expected one of bash, zsh, fish"),
    (["models", "lst"], "did you mean list?"),
    (["perplexity"], "--file"),
    (["template", "--template", "x"], "--messages"),
    (["xyzzy-plugh"], "see mlxlm --help"),
])
def test_usage_errors(fails, arguments, hint):
    assert hint in fails(*arguments, code=2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(mlxlm, shell):
    script = mlxlm("completion", shell).out
    assert b"--max-tokens" in script or b"-l max-tokens" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, check=True)


def test_bash_completes(mlxlm, tmp_path):
    script = tmp_path / "completion"
    script.write_bytes(mlxlm("completion", "bash").out)
    ask = ("source %s; COMP_WORDS=(mlxlm generate --max-t); COMP_CWORD=2; _mlxlm; "
           "echo ${COMPREPLY[@]}" % script)
    done = subprocess.run(["bash", "-c", ask], capture_output=True, check=True)
    assert done.stdout.split() == [b"--max-tokens"]


def test_manual(mlxlm):
    page = mlxlm("man").text
    assert page.startswith(".TH MLXLM 1") and "max\\-tokens" in page
    if shutil.which("man"):
        subprocess.run(["man", "--warnings", "-l", "-"], input=page.encode(), check=True,
                       capture_output=True)


def test_environment_and_settings_file(mlxlm, checkpoint, tmp_path):
    folder = checkpoint()
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"max-tokens": 3, "generate": {"max-tokens": 4}}))

    def generated(*arguments, **extra):
        done = mlxlm("generate", "--model", folder, "-p", "abc", *arguments, **extra)
        assert done.code == 0, done.err
        return int(done.err.split("Generation: ")[1].split()[0])

    assert generated(MLXLM_SETTINGS=str(file)) == 4
    assert generated(MLXLM_SETTINGS=str(file), MLXLM_MAX_TOKENS="5") == 5
    assert generated("--max-tokens", "6", MLXLM_MAX_TOKENS="5") == 6


def test_wrong_environment(fails, mlxlm, tmp_path):
    assert "MLXLM_MAX_TOKENS" in fails(
        "generate", code=2, MLXLM_MAX_TOKENS="some")
    file = tmp_path / "settings.json"
    file.write_text('{"max-tokenz": 3}')
    assert "max-tokenz" in fails("generate", MLXLM_SETTINGS=str(file))

"""chat, and what terminals are shown."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from conftest import CONFIG, PATIENCE, PROGRAM, environment, tokenizer

CAPITAL = "What is the capital of France?"


def test_chat_from_a_pipe(mlxlm, tmp_path):
    saved = tmp_path / "chat.json"
    done = mlxlm("chat", "-m", 32, stdin=f"{CAPITAL}\n/save {saved}\n/reset\n"
                 f"/load {saved}\n/stats\n/quit\nnot read\n")
    assert done.code == 0, done.err
    assert done.text == "The capital of France is Paris.\n"
    messages = json.loads(saved.read_text())
    assert [m["role"] for m in messages][-2:] == ["user", "assistant"]
    assert messages[-1]["content"] == "The capital of France is Paris."
    assert "Remembered:" in done.err


def test_chat_blocks_and_continued_lines(mlxlm, tmp_path):
    saved = tmp_path / "chat.json"
    done = mlxlm("chat", "-m", 1, stdin=f'one \\\ntwo\n"""\nthree\n\nfour\n"""\n'
                 f"/system Be brief.\n/save {saved}\n")
    assert done.code == 0, done.err
    messages = json.loads(saved.read_text())
    users = [m["content"] for m in messages if m["role"] == "user"]
    assert users == ["one \ntwo", "three\n\nfour"]
    assert messages[0] == {"role": "system", "content": "Be brief."}


def test_chat_unknown_command(fails):
    assert "did you mean /reset?" in fails("chat", stdin="/rest\n")


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments, columns=80, **variables):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(PROGRAM, [PROGRAM, *map(str, arguments)],
                      environment({"TERM": "xterm", **variables}))
        self.seen = b""

    def until(self, text, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, self.seen
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                piece = b""
            assert piece, self.seen
            self.seen += piece
        self.seen = self.seen.split(text, 1)[1]

    def rest(self):
        while True:
            try:
                piece = os.read(self.fd, 4096)
            except OSError:
                return self.seen
            if not piece:
                return self.seen
            self.seen += piece

    def type(self, text):
        os.write(self.fd, text)

    def code(self):
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def test_chat_on_a_terminal(tmp_path):
    """Ctrl-C stops the answer and not the program."""
    terminal = Terminal("chat", "-m", "4000", "--min-tokens", "4000", XDG_STATE_HOME=str(tmp_path))
    terminal.until(b">> ")
    terminal.type(b"Tell a very long story.\r")
    terminal.until(b" the ")  # this is the answer
    terminal.type(b"\x03")
    terminal.until(b"stopped")
    terminal.until(b">> ")
    terminal.type(b"/stats\r")
    terminal.until(b"Remembered:")
    terminal.until(b">> ")
    terminal.type(b"\x04")
    assert terminal.code() == 0
    assert "long story" in (tmp_path / "mlxlm/history").read_text()


@pytest.mark.parametrize("variables,columns", [
    ({"NO_COLOR": "1"}, 80), ({"TERM": "dumb"}, 80), ({"NO_COLOR": "1"}, 20)])
def test_plain_terminals(checkpoint, variables, columns):
    terminal = Terminal("generate", "--model", checkpoint(), "-p", "abc", "-m", 8, "--verbose",
                        "true", columns=columns, **variables)
    said = terminal.rest()
    assert terminal.code() == 0, said
    assert b"\x1b" not in said and b"tokens-per-sec" in said


def test_no_escapes_reach_the_terminal(checkpoint):
    """What a model says may look like commands to the terminal."""
    words = tokenizer(CONFIG["vocab_size"])
    vocabulary = words["model"]["vocab"]
    letters = [w for w in vocabulary if len(w) == 1 and w.isalnum()]
    steers = ["\x1b", "\x07", "\x9b", "\x7f"]
    for i, word in enumerate(letters):
        vocabulary[steers[i % 4] * (1 + i // 4)] = vocabulary.pop(word)
    folder = checkpoint(files={"tokenizer.json": json.dumps(words)})
    arguments = ["generate", "--model", folder, "-p", " ", "-m", 30, "--ignore-chat-template",
                 "--seed", 3, "--temp", 1, "--verbose", "false"]
    terminal = Terminal(*arguments, NO_COLOR="1")
    said = terminal.rest()
    assert terminal.code() == 0, said
    assert not any(b in said for b in (b"\x1b", b"\x07", b"\xc2\x9b", b"\x7f")), said
    assert b"\\x" in said
    piped = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True,
                           env=environment({}), timeout=120)
    assert b"\\x" not in piped.stdout and any(
        b in piped.stdout for b in (b"\x1b", b"\x07", b"\xc2\x9b", b"\x7f"))


def test_two_interrupts_end_the_program():
    child = subprocess.Popen(
        [PROGRAM, "chat", "-m", "4000", "--min-tokens", "4000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=environment({}))
    child.stdin.write(b"Tell a very long story.\n")
    child.stdin.flush()
    assert child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    # Signals may come as one; then the answer has stopped and the input ended.
    assert child.returncode in (130, 0) and b"Traceback" not in err

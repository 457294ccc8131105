#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>

#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

std::atomic<bool> cancellable{false};
std::atomic<bool> interrupt_seen{false};
std::atomic<bool> progress_open{false};

// Returns 0 or an errno.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(std::size_t(n));
  }
  return 0;
}

extern "C" void on_interrupt(int) {
  if (cancellable && !interrupt_seen.exchange(true)) return;
  if (progress_open && ::write(2, "\n", 1) < 0) {
  }
  ::_exit(130);
}

void close_progress_line() {
  if (progress_open.exchange(false)) write_all(2, "\r\x1b[K");
}

} // namespace

void print(std::string_view text) {
  close_progress_line();
  int error = write_all(1, text);
  if (error == EPIPE) throw BrokenPipe{};
  if (error != 0)
    fail(ErrorKind::io, "standard output", "{}", std::strerror(error));
}

void print_answer(std::string_view text) {
  if (!stdout_is_terminal()) return print(text);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    // The second byte of U+0080 to U+009F, which steer as well.
    auto next =
        i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    bool wide = c == 0xC2 && next >= 0x80 && next < 0xA0;
    if (wide) {
      out += fmt::format("\\x{:02x}", next);
      ++i;
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += text[i];
    }
  }
  print(out);
}

void note(std::string_view line) {
  close_progress_line();
  write_all(2, std::string(line) + "\n");
}

bool stdin_is_terminal() {
  return ::isatty(0) == 1;
}

bool stdout_is_terminal() {
  return ::isatty(1) == 1;
}

bool stderr_is_terminal() {
  return ::isatty(2) == 1 && env::get("TERM") != "dumb" &&
      env::get("NO_COLOR").value_or("").empty();
}

bool colourful() {
  if (env::get("NO_COLOR")) return false;
  if (env::get("CLICOLOR_FORCE")) return true;
  return stderr_is_terminal();
}

int terminal_width() {
  winsize size{};
  if (::ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string read_stdin() {
  std::string out;
  char buffer[1 << 16];
  for (;;) {
    auto n = ::read(0, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail(ErrorKind::io, "standard input", "{}", std::strerror(errno));
    if (n == 0) return out;
    out.append(buffer, std::size_t(n));
  }
}

std::string read_text(const std::string& name) {
  return name == "-" ? read_stdin() : read_file(name);
}

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool interrupted() {
  return interrupt_seen;
}

Cancellable::Cancellable() {
  interrupt_seen = false;
  cancellable = true;
}

Cancellable::~Cancellable() {
  cancellable = false;
}

Progress::Progress(std::string what, bool bytes)
    : what_(std::move(what)), bytes_(bytes) {}

Progress::~Progress() {
  finish();
}

void Progress::update(
    std::size_t done,
    std::size_t total,
    std::string_view detail) {
  using namespace std::chrono_literals;
  auto now = Clock::now();
  bool terminal = stderr_is_terminal();
  // The first 200 ms stay silent, so what is quick shows nothing.
  if (now - started_ < 200ms || now - last_ < (terminal ? 50ms : 2000ms))
    return;
  last_ = now;
  draw(done, total, detail);
}

void Progress::draw(
    std::size_t done,
    std::size_t total,
    std::string_view detail) {
  double part = total > 0 ? double(done) / double(total) : 0;
  auto amount = bytes_
      ? fmt::format("{} of {}", human_bytes(done), human_bytes(total))
      : fmt::format("{} of {}", done, total);
  auto text = fmt::format("{} {:3.0f} % ({})", what_, 100 * part, amount);
  if (!detail.empty()) text += fmt::format(" {}", detail);
  if (!stderr_is_terminal()) {
    note(text);
    return;
  }
  int room = std::min(terminal_width() - int(text.size()) - 4, 40);
  if (room >= 10) {
    int full = int(part * room);
    text = fmt::format("{:=<{}}{:<{}}| {}", "", full, "", room - full, text);
  }
  if (int(text.size()) >= terminal_width())
    text.resize(complete_utf8(text.substr(0, terminal_width() - 1)));
  write_all(2, "\r\x1b[K" + text);
  progress_open = drawn_ = true;
}

void Progress::finish() {
  if (drawn_) close_progress_line();
  drawn_ = false;
}

} // namespace mlxlm::cli

// What the program says: answers on standard output, everything else on
// standard error; progress as one line on a terminal and as plain lines
// elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace mlxlm::cli {

// The reader of standard output has gone: the program ends quietly.
struct BrokenPipe {};

// Writes all of `text` to standard output at once. Throws BrokenPipe, or
// Error(io) for other failures (a full disk).
void print(std::string_view text);
// What a model said: on a terminal without what would steer it.
void print_answer(std::string_view text);
// One line on standard error; ends a progress line first.
void note(std::string_view line);

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();
// Colours and other escapes on standard error.
bool colourful();
int terminal_width();
std::string read_stdin();

// The name's content, "-" being standard input.
std::string read_text(const std::string& name);

// Ctrl-C. Outside a Cancellable it ends the program with 130 at once; inside it
// is only noted, and a second one ends the program.
void watch_interrupts();
bool interrupted();
class Cancellable {
 public:
  Cancellable();
  ~Cancellable();
  Cancellable(const Cancellable&) = delete;
  Cancellable& operator=(const Cancellable&) = delete;
};

// Progress of one thing. Silent for what takes no time.
class Progress {
 public:
  // `what`: "loading", "reading the prompt". `bytes`: amounts are bytes.
  explicit Progress(std::string what, bool bytes = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // `detail` follows the amounts: "35 MB/s, 2 min left".
  void update(
      std::size_t done,
      std::size_t total,
      std::string_view detail = {});
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(std::size_t done, std::size_t total, std::string_view detail);

  std::string what_;
  bool bytes_;
  bool drawn_ = false;
  Clock::time_point started_ = Clock::now();
  Clock::time_point last_ = started_;
};

} // namespace mlxlm::cli

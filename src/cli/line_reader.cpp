#include "cli/line_reader.h"

#include <filesystem>
#include <iostream>

#include "cli/terminal.h"
#include "core/env.h"
#include "text/rust.h"

namespace mlxlm::cli {
namespace {

class PlainReader : public LineReader {
 public:
  Status read(const std::string&, std::string& line) override {
    return std::getline(std::cin, line) ? Status::line : Status::end;
  }
};

class Editor : public LineReader {
 public:
  Editor() {
    auto history = history_file();
    text::RustBuffer error;
    int ok = mlxlm_line_editor_new(text::slice(history), &editor_, error.out());
    text::check_rust(ok, "terminal", error);
  }
  ~Editor() override {
    mlxlm_line_editor_free(editor_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  Status read(const std::string& prompt, std::string& line) override {
    text::RustBuffer typed, error;
    std::int32_t status = 0;
    int ok = mlxlm_line_editor_read(
        editor_, text::slice(prompt), &status, typed.out(), error.out());
    text::check_rust(ok, "terminal", error);
    line = typed.str();
    if (status == MLXLM_LINE_END) return Status::end;
    if (status == MLXLM_LINE_INTERRUPTED) return Status::interrupted;
    // A history that cannot be written is no reason to end the conversation.
    text::RustBuffer ignored;
    mlxlm_line_editor_remember(editor_, text::slice(line), ignored.out());
    return Status::line;
  }

 private:
  // $XDG_STATE_HOME/mlxlm/history; nothing when there is no home.
  static std::string history_file() {
    auto state = env::get("XDG_STATE_HOME"), home = env::get("HOME");
    if (!state && !home) return "";
    auto folder = (state ? *state : *home + "/.local/state") + "/mlxlm";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    return error ? "" : folder + "/history";
  }

  mlxlm_line_editor* editor_ = nullptr;
};

} // namespace

std::unique_ptr<LineReader> make_line_reader() {
  if (stdin_is_terminal() && stderr_is_terminal())
    return std::make_unique<Editor>();
  return std::make_unique<PlainReader>();
}

} // namespace mlxlm::cli

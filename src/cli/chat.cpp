// chat: a conversation. Lines beginning with / are for the program.
#include "mlxlm/chat.h"

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/line_reader.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

constexpr const char* chat_help =
    "/help          this list (h)\n"
    "/reset         forget the conversation (r)\n"
    "/system TEXT   set the instructions; alone: show them\n"
    "/save FILE     write the conversation as JSON\n"
    "/load FILE     go on with a saved conversation\n"
    "/stats         speed and memory of the last answer\n"
    "/quit          leave (q, or Ctrl-D)\n"
    "A line that ends in \\ goes on; \"\"\" opens and closes a block of lines.\n"
    "Ctrl-C stops the answer.";

class Chat {
 public:
  explicit Chat(const Values& values)
      : model_(load_model(values)),
        session_(model_, options(values)),
        reader_(make_line_reader()),
        interactive_(stdin_is_terminal()) {}

  int run() {
    if (interactive_)
      note(fmt::format(
          "{}; /help lists what can be typed", model_->model_type()));
    std::string text;
    while (read_message(text)) {
      if (text.find_first_not_of(" \t\n") == std::string::npos) continue;
      try {
        if (!command(text)) answer(text);
      } catch (const Error& e) {
        if (!interactive_) throw;
        note(printable(e.what(), 1000));
      }
      if (done_) break;
    }
    return 0;
  }

 private:
  static ChatOptions options_base(const Values& values) {
    ChatOptions out;
    out.instructions = values.text("system-prompt");
    out.template_kwargs = values.text("chat-template-config");
    out.tools = tools_text(values);
    out.keep_cancelled = true;
    return out;
  }

  ChatOptions options(const Values& values) const {
    auto out = options_base(values);
    out.parameters = parameters(values, model_->codec());
    return out;
  }

  // One message, which may span lines. False at the end of the input.
  bool read_message(std::string& text) {
    text.clear();
    bool block = false;
    for (;;) {
      std::string line;
      auto status = reader_->read(text.empty() && !block ? ">> " : ".. ", line);
      if (status == LineReader::Status::interrupted) {
        if (text.empty() && !block) note("Ctrl-D or /quit leaves");
        text.clear();
        block = false;
        continue;
      }
      if (status == LineReader::Status::end) return !text.empty();
      if (line == "\"\"\"") {
        if (block) return true;
        block = true;
        continue;
      }
      if (block) {
        text += (text.empty() ? "" : "\n") + line;
        continue;
      }
      if (ends_with(line, "\\")) {
        text += line.substr(0, line.size() - 1) + "\n";
        continue;
      }
      text += line;
      return true;
    }
  }

  void answer(const std::string& text) {
    if (!valid_utf8(text))
      fail(ErrorKind::request, "message", "expected UTF-8 text");
    auto generation = session_.stream(text);
    stream(*generation, *model_, rendered());
    print("\n");
    if (generation->info().finish_reason == FinishReason::cancelled)
      note("stopped");
  }

  // The conversation as the model reads it, for where reasoning begins.
  std::string rendered() {
    const auto& options = session_.options();
    return model_->codec().render(
        {.messages = to_json(session_.transcript()),
         .tools = options.tools,
         .kwargs = options.template_kwargs,
         .add_generation_prompt = true});
  }

  // False when the line is not for the program.
  bool command(const std::string& line) {
    auto space = line.find(' ');
    auto name = line.substr(0, space);
    auto argument = space == std::string::npos ? "" : line.substr(space + 1);
    if (name == "q" || name == "r" || name == "h") {
      if (line.size() > 1) return false;
      name = name == "q" ? "/quit" : name == "r" ? "/reset" : "/help";
    }
    if (!starts_with(name, "/")) return false;
    struct Entry {
      const char* name;
      void (Chat::*run)(const std::string&);
    };
    static constexpr Entry table[] = {
        {"/help", &Chat::help},
        {"/reset", &Chat::reset},
        {"/system", &Chat::system},
        {"/save", &Chat::save},
        {"/load", &Chat::load},
        {"/stats", &Chat::stats},
        {"/quit", &Chat::quit},
        {"/exit", &Chat::quit},
    };
    std::vector<std::string> names;
    for (auto& entry : table) {
      names.emplace_back(entry.name);
      if (name != entry.name) continue;
      (this->*entry.run)(argument);
      return true;
    }
    auto near = nearest(name, names, 1);
    fail(
        ErrorKind::request,
        printable(name),
        "unknown command; {}",
        near.empty() ? "/help lists them" : "did you mean " + near[0] + "?");
  }

  void help(const std::string&) {
    note(chat_help);
  }

  void reset(const std::string&) {
    session_.clear();
    note("the conversation is forgotten");
  }

  void system(const std::string& text) {
    auto& instructions = session_.options().instructions;
    if (!text.empty()) instructions = text;
    note(instructions.empty() ? "no instructions" : instructions);
  }

  void save(const std::string& file) {
    if (file.empty()) fail(ErrorKind::request, "/save", "expected a file name");
    auto messages = parse_json(to_json(session_.transcript()), "transcript");
    write_file(file, messages.dump(2) + "\n");
    note(fmt::format("{} messages in {}", messages.size(), file));
  }

  void load(const std::string& file) {
    if (file.empty()) fail(ErrorKind::request, "/load", "expected a file name");
    auto messages = messages_from_json(read_file(file));
    if (!messages.empty() && messages[0].role == "system") {
      session_.options().instructions = messages[0].content;
      messages.erase(messages.begin());
    }
    note(fmt::format("{} messages from {}", messages.size(), file));
    session_.restore(std::move(messages));
  }

  void stats(const std::string&) {
    print_statistics(session_.info());
    note(fmt::format("Remembered: {} tokens", session_.cached_tokens()));
  }

  void quit(const std::string&) {
    done_ = true;
  }

  std::shared_ptr<ModelContainer> model_;
  ChatSession session_;
  std::unique_ptr<LineReader> reader_;
  bool interactive_;
  bool done_ = false;
};

} // namespace

int run_chat(const Values& values) {
  return Chat(values).run();
}

} // namespace mlxlm::cli

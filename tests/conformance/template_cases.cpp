// chat_templates: a template, conversations and variables in; the rendered text
// out, byte for byte, or an error.
#include <optional>

#include "conformance.h"
#include "core/files.h"
#include "core/strings.h"
#include "text/chat_template.h"

namespace mlxlm::conformance {
namespace {

// "2026-02-03T04:05:06"
ClockTime clock_from(const std::string& text) {
  ClockTime t;
  if (std::sscanf(
          text.c_str(),
          "%d-%d-%dT%d:%d:%d",
          &t.year,
          &t.month,
          &t.day,
          &t.hour,
          &t.minute,
          &t.second) != 6) {
    fail(ErrorKind::config, "now", "expected a date and time, found {}", text);
  }
  return t;
}

struct Inputs {
  Json conversations, tools;
  std::map<std::string, std::string> special_tokens;
  ClockTime now;
};

Inputs read_inputs(const Case& c) {
  Inputs in;
  auto named = [&](const char* key) {
    return read_json(c.path(c.json.req<std::string>(key)));
  };
  in.conversations = named("conversations");
  in.tools = named("tools");
  in.special_tokens["unk_token"] = c.json.opt("unk_token", "<unk>");
  for (const char* name : {"bos_token", "eos_token"}) {
    in.special_tokens[name] = c.json.req<std::string>(name);
  }
  in.now = clock_from(c.json.req<std::string>("now"));
  return in;
}

std::string rendered(
    const std::string& source,
    const Inputs& in,
    const Json& row) {
  ChatVariables variables;
  variables.special_tokens = in.special_tokens;
  variables.messages =
      in.conversations.at(row.at("conversation").get<std::string>());
  bool continued = false;
  for (const auto& [name, value] : row.at("kwargs").items()) {
    if (name == "tools") {
      variables.tools = value.is_boolean() ? in.tools : value;
    } else if (name == "documents") {
      variables.documents = value;
    } else if (name == "add_generation_prompt") {
      variables.add_generation_prompt = value.get<bool>();
    } else if (name == "continue_final_message") {
      continued = value.get<bool>();
    } else {
      variables.extra[name] = value;
    }
  }
  ChatTemplate compiled(source);
  return continued ? compiled.render_continued(variables, in.now)
                   : compiled.render(variables, in.now);
}

// What is wrong with a row, or nothing.
std::optional<std::string> problem(
    const std::string& source,
    const Inputs& in,
    const Json& row) {
  std::string found;
  try {
    found = rendered(source, in, row);
  } catch (const Error& error) {
    std::string_view text = error.what();
    if (!row.contains("error")) {
      return fmt::format("unexpected error: {}", text);
    }
    if (text.find('\n') != text.npos) {
      return "an error of several lines";
    }
    bool raised = row.at("error") == "TemplateError";
    auto message = row.value("message", "");
    if (raised && text.find(message) == text.npos) {
      return fmt::format("error: expected {}, found {}", message, text);
    }
    return {};
  }
  if (row.contains("error")) {
    return fmt::format("expected an error, found {}", printable(found));
  }
  auto wanted = row.at("output").get<std::string>();
  if (found == wanted) {
    return {};
  }
  std::size_t at = 0;
  while (at < found.size() && at < wanted.size() && found[at] == wanted[at]) {
    ++at;
  }
  auto context = [&](const std::string& s) {
    auto from = at - std::min<std::size_t>(at, 20);
    return printable(s.substr(std::min(from, s.size()), 80));
  };
  return fmt::format(
      "at byte {}: expected {}, found {}", at, context(wanted), context(found));
}

} // namespace

Outcome template_case(const Case& c) {
  auto in = read_inputs(c);
  auto source = read_file(c.path(c.json.req<std::string>("template")));
  int right = 0, count = 0;
  std::string first;
  for (const auto& row : read_json(c.path("cases.json"))) {
    ++count;
    auto wrong = problem(source, in, row);
    right += !wrong;
    if (wrong && first.empty()) {
      first = fmt::format(
          ", first wrong: {} {}: {}",
          row.at("conversation").get<std::string>(),
          row.at("kwargs").dump(),
          *wrong);
    }
  }
  auto figure = fmt::format("{} of {} renderings{}", right, count, first);
  return judge(right == count && count > 0, figure);
}

} // namespace mlxlm::conformance

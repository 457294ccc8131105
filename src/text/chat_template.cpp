#include "text/chat_template.h"

#include <chrono>
#include <ctime>

#include "core/check.h"
#include "text/messages.h"
#include "text/rust.h"

namespace mlxlm {
namespace {

constexpr const char* where = "chat template";
// Put behind the text to continue, to find it in what the template made of it.
// The space tells whether the template trims.
constexpr std::string_view continue_mark = "CONTINUE_FINAL_MESSAGE_TAG ";

std::string dumped(const Json& json) {
  try {
    return json.dump();
  } catch (const Json::exception&) {
    fail(ErrorKind::text, where, "expected UTF-8 in the messages");
  }
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view space = " \t\n\v\f\r";
  auto first = text.find_first_not_of(space);
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(space) - first + 1);
}

Json all_variables(const ChatVariables& in) {
  Json all = Json::object();
  all["messages"] = template_messages(in.messages);
  all["tools"] = in.tools;
  all["documents"] = in.documents;
  all["add_generation_prompt"] = in.add_generation_prompt;
  if (!in.extra.is_object()) {
    fail(
        ErrorKind::request,
        "chat template variables",
        "expected an object, found {}",
        describe(in.extra));
  }
  for (const auto& [name, value] : in.extra.items()) {
    if (all.contains(name)) {
      fail(
          ErrorKind::request,
          "chat template variables",
          "expected names other than \"{}\", which is set by the request",
          name);
    }
  }
  for (const auto& [name, value] : in.special_tokens) {
    all[name] = value;
  }
  all.update(in.extra);
  return all;
}

// The text part that is to be continued: a string, or the last part with text.
Json& final_text(Json& messages) {
  if (messages.is_array() && !messages.empty() && messages.back().is_object()) {
    auto& content = messages.back()["content"];
    if (content.is_string()) {
      return content;
    }
    if (content.is_array()) {
      for (auto part = content.rbegin(); part != content.rend(); ++part) {
        if (part->is_object() && part->contains("text") &&
            (*part)["text"].is_string()) {
          return (*part)["text"];
        }
      }
    }
  }
  fail(
      ErrorKind::request,
      "messages",
      "expected text to continue in the last message, found none");
}

} // namespace

ClockTime local_time_now() {
  auto now =
      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local{};
  localtime_r(&now, &local);
  return {
      local.tm_year + 1900,
      local.tm_mon + 1,
      local.tm_mday,
      local.tm_hour,
      local.tm_min,
      local.tm_sec};
}

void ChatTemplate::Free::operator()(mlxlm_template* handle) const {
  mlxlm_template_free(handle);
}

ChatTemplate::ChatTemplate(std::string_view source) {
  mlxlm_template* handle = nullptr;
  text::RustBuffer error;
  int ok = mlxlm_template_compile(text::slice(source), &handle, error.out());
  text::check_rust(ok, where, error);
  handle_.reset(handle);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(
    const Json& variables,
    const ClockTime& now,
    const RenderLimits& limits) const {
  auto json = dumped(variables);
  mlxlm_render_options options{
      {now.year, now.month, now.day, now.hour, now.minute, now.second, 0},
      limits.steps,
      limits.output_bytes,
      limits.memory_bytes};
  text::RustBuffer result, error;
  int ok = mlxlm_template_render(
      handle_.get(), text::slice(json), &options, result.out(), error.out());
  text::check_rust(ok, where, error);
  return result.str();
}

std::string ChatTemplate::render(
    const ChatVariables& variables,
    const ClockTime& now,
    const RenderLimits& limits) const {
  return render(all_variables(variables), now, limits);
}

std::string ChatTemplate::render_continued(
    const ChatVariables& variables,
    const ClockTime& now,
    const RenderLimits& limits) const {
  auto marked = variables;
  auto& text = final_text(marked.messages);
  auto wanted = text.get<std::string>();
  text = wanted + std::string(continue_mark);
  auto rendered = render(marked, now, limits);
  auto at = rendered.rfind(trim(continue_mark));
  if (at == std::string::npos ||
      rendered.find(trim(wanted)) == std::string::npos) {
    fail(
        ErrorKind::text,
        where,
        "expected the last message in the text, found it left out; it cannot "
        "be continued");
  }
  bool spaces_kept =
      rendered.compare(at, continue_mark.size(), continue_mark) == 0;
  rendered.resize(at);
  if (!spaces_kept) {
    auto end = rendered.find_last_not_of(" \t\n\v\f\r");
    rendered.resize(end == std::string::npos ? 0 : end + 1);
  }
  return rendered;
}

} // namespace mlxlm

// Chat templates: Jinja as transformers renders it.
// docs/design/chat-templates.md tells where the engine underneath differs and
// what is done about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"

struct mlxlm_template;

namespace mlxlm {

// What strftime_now() tells a template.
struct ClockTime {
  int year = 1970, month = 1, day = 1;
  int hour = 0, minute = 0, second = 0;
};
ClockTime local_time_now();

// A template is a program of a stranger: what it may use.
struct RenderLimits {
  std::uint64_t steps = 5'000'000;
  std::size_t output_bytes = std::size_t{8} << 20;
  // Beyond what the variables take.
  std::size_t memory_bytes = std::size_t{16} << 20;
};

struct ChatVariables {
  Json messages = Json::array();
  Json tools; // null: none
  Json documents; // null: none
  bool add_generation_prompt = false;
  // bos_token, eos_token ...: names and strings.
  std::map<std::string, std::string> special_tokens;
  Json extra = Json::object(); // further variables; they win over the tokens
};

class ChatTemplate {
 public:
  // Throws Error(text) "chat template: line N: …" for a syntax error.
  explicit ChatTemplate(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // The raw renderer: `variables` is an object and is all the template sees.
  // Throws Error(text) in one line when the template raises, fails or exceeds
  // a limit.
  std::string render(
      const Json& variables,
      const ClockTime& now,
      const RenderLimits& limits = {}) const;

  // With the variables of a conversation. `messages` go through
  // template_messages first. `extra` may not name messages, tools, documents or
  // add_generation_prompt: Error(request).
  std::string render(
      const ChatVariables& variables,
      const ClockTime& now,
      const RenderLimits& limits = {}) const;

  // As above, but the text ends with the content of the last message, so that a
  // model goes on writing it.
  std::string render_continued(
      const ChatVariables& variables,
      const ClockTime& now,
      const RenderLimits& limits = {}) const;

 private:
  struct Free {
    void operator()(mlxlm_template* handle) const;
  };
  std::unique_ptr<mlxlm_template, Free> handle_;
};

} // namespace mlxlm

// A conversation with a model. The whole transcript is rendered each turn and
// compared with what the model has already read: only what is new is read.
//
//   ChatSession chat(load("smollm2"), {.instructions = "Be brief."});
//   std::cout << chat.respond("Why is the sky blue?");
//   auto turn = chat.stream("And at sunset?");
//   while (auto event = turn->next()) ...
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mlxlm/model.h"

namespace mlxlm {

struct ToolCall {
  std::string id, name;
  std::string arguments; // JSON object
};

struct Message {
  std::string role; // system, user, assistant, tool
  std::string content;
  std::vector<ToolCall> tool_calls = {};
  std::string tool_call_id = {}; // of a tool's answer
  std::string name = {};
};
// A JSON list for TemplateInput::messages. Tool arguments become objects.
std::string to_json(const std::vector<Message>& messages);
// The inverse. Throws Error(request) naming the field.
std::vector<Message> messages_from_json(std::string_view json);

struct ChatOptions {
  std::string instructions = {}; // system text
  GenerateParameters parameters = {};
  std::string template_kwargs = {}; // JSON object for the chat template
  std::string tools = {}; // JSON list for the chat template
  std::vector<Message> history = {}; // of an earlier conversation
  // Keep the question and what was said of a turn that was cancelled.
  bool keep_cancelled = false;
};

// Not for concurrent use; several sessions may share one model. A turn that was
// cancelled (see keep_cancelled), failed or gave nothing leaves the transcript
// as it was before.
class ChatSession {
 public:
  explicit ChatSession(
      std::shared_ptr<ModelContainer> model,
      ChatOptions options = {});
  ~ChatSession();
  ChatSession(ChatSession&&) noexcept;
  ChatSession& operator=(ChatSession&&) noexcept;

  // The whole answer. Throws Error as ModelContainer::generate, or Error(text)
  // when the template raises.
  std::string respond(std::string_view text);
  std::string respond(Message message);

  // Starts a turn. Read it to its end: the answer joins the transcript then.
  // Destroying it early cancels the turn.
  GenerationPtr stream(std::string_view text);
  GenerationPtr stream(Message message);

  // May be changed between turns: instructions, parameters, kwargs, tools.
  ChatOptions& options();
  // System text first, if there is one.
  std::vector<Message> transcript() const;
  // Replaces the transcript (without the system text).
  void restore(std::vector<Message> messages);
  // Forgets transcript and cache, keeps the instructions.
  void clear();
  // Statistics of the last finished turn.
  const GenerateInfo& info() const;
  // Tokens the model has read and remembers.
  int cached_tokens() const;

 private:
  class State;
  std::shared_ptr<State> state_;
};

} // namespace mlxlm

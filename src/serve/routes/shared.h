// What the routes share: how a request for an answer begins and how it ends.
//
//   Question question(context);
//   auto parameters = question.sampling();
//   ... // the fields that only this API has
//   question.close();
//   return start_answer(question, priority, choices, std::move(answer));
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/body.h"
#include "serve/conversation.h"
#include "serve/formats.h"
#include "serve/routes/routes.h"
#include "serve/sampling.h"
#include "serve/service.h"
#include "serve/stamps.h"

namespace mlxlm::serve {

// A request on its way to an answer: its body and the engine it is for (fields
// `model` or `name`, `adapters`, `keep_alive`). Throws ApiError 503 before
// there are models, 400 for a body that is no object, 404 for names that are
// not served; NotLoaded for a model that has to be loaded first.
struct Question {
  explicit Question(Context& asked);
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  GenerateParameters sampling(int least_tokens = 1);
  // All fields are read: tells of those that nobody asked for.
  void close();

  Context& context;
  const ServiceOptions& options;
  const Limits& limits;
  const Json json;
  Body body;
  const EnginePtr engine;
  // vLLM's `cache_salt` within the key's, llama-server's `cache_prompt`.
  std::string cache_salt;
  bool share_prefix = true;
};

// `n` answers to a conversation, each another draw, a call enforced where it
// is forced.
std::vector<Answer::Choice> choices_of(
    const Question& question,
    const Conversation& conversation,
    GenerateParameters parameters,
    int n = 1);
// One answer to a prompt, taken apart as `conversation` has it.
Answer::Choice choice_of(
    const Question& question,
    const Conversation& conversation,
    std::vector<int> prompt,
    GenerateParameters parameters);
// Takes places for all choices and starts them as `answer`. Throws ApiError
// 429.
ReplyPtr start_answer(
    Question& question,
    int priority,
    std::vector<Answer::Choice> choices,
    std::unique_ptr<Answer> answer);

// While the first is loading, there are none to list.
std::vector<ModelState> states_or_none(Context& context);
// As a request may name it: with its adapter.
std::string full_name(const ModelState& state);

AnswerOptions answer_options(Context& context, bool stream);
// The answer's text among what came, without reasoning and calls.
std::string joined_content(const OutputItems& items);
std::string new_id(std::string_view prefix); // "chatcmpl-..."
// As JSON text; bytes that are no UTF-8 are replaced.
std::string json_text(const Json& value);
std::string data_event(const Json& value);
std::string named_event(std::string_view name, const Json& value);

// OpenAI's word for the end of a choice; null while it runs.
Json finish_word(const Answer::Choice& choice);
Json usage(int prompt, int cached, int generated, int reasoning = 0);
// The parameters of the nth answer to one request: another draw.
GenerateParameters nth(GenerateParameters parameters, int n);
// vLLM's: lower ones go first.
int read_priority(Body& body);
// stream and stream_options: what a request wants of a stream.
struct StreamWishes {
  bool stream = false, usage = false;
};
StreamWishes read_stream(Body& body);
// Fields that OpenAI's clients send and that change nothing here.
void accept_remarks(Body& body);

} // namespace mlxlm::serve

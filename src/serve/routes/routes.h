// The functions behind the table in routes.cpp.
#pragma once

#include <functional>
#include <string>

#include "serve/body.h"
#include "serve/conversation.h"
#include "serve/formats.h"
#include "serve/sampling.h"
#include "serve/service.h"

namespace mlxlm::serve {

// OpenAI
ReplyPtr chat_completions(Context& context);
ReplyPtr completions(Context& context);
ReplyPtr responses(Context& context);
ReplyPtr show_response(Context& context);
ReplyPtr delete_response(Context& context);
ReplyPtr list_models(Context& context);
ReplyPtr show_model(Context& context);
// Anthropic
ReplyPtr messages(Context& context);
ReplyPtr count_tokens(Context& context);
// Ollama
ReplyPtr ollama_chat(Context& context);
ReplyPtr ollama_generate(Context& context);
ReplyPtr ollama_tags(Context& context);
ReplyPtr ollama_ps(Context& context);
ReplyPtr ollama_show(Context& context);
ReplyPtr ollama_version(Context& context);
// the web page
ReplyPtr page_file(Context& context);
ReplyPtr list_conversations(Context& context);
ReplyPtr get_conversation(Context& context);
ReplyPtr put_conversation(Context& context);
ReplyPtr delete_conversation(Context& context);
// llama-server
ReplyPtr tokenize(Context& context);
ReplyPtr detokenize(Context& context);
ReplyPtr apply_template(Context& context);
ReplyPtr health(Context& context);
ReplyPtr metrics(Context& context);
ReplyPtr props(Context& context);
ReplyPtr slots(Context& context);
ReplyPtr openapi(Context& context);

// What the routes of OpenAI's shape share.
// Throws ApiError 404 for a model that is not served.
void check_model(Context& context, const std::optional<std::string>& model);
AnswerOptions answer_options(Context& context, bool stream);
std::string new_id(std::string_view prefix); // "chatcmpl-..."
std::int64_t unix_time();
// OpenAI's word for the end of a choice; null while it runs.
Json finish_word(const Answer::Choice& choice);
Json usage(int prompt, int cached, int generated, int reasoning = 0);
// The parameters of the nth answer to one request: another draw.
GenerateParameters nth(GenerateParameters parameters, int n);
// stream and stream_options: what a request wants of a stream.
// vLLM's: lower ones go first.
int read_priority(Body& body);
struct StreamWishes {
  bool stream = false, usage = false;
};
StreamWishes read_stream(Body& body);
// Fields that OpenAI's clients send and that change nothing here.
void accept_remarks(Body& body);

} // namespace mlxlm::serve

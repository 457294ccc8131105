// The functions behind the table in table.cpp.
#pragma once

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
ReplyPtr infill(Context& context);
ReplyPtr tokenize(Context& context);
ReplyPtr detokenize(Context& context);
ReplyPtr apply_template(Context& context);
ReplyPtr health(Context& context);
ReplyPtr metrics(Context& context);
ReplyPtr props(Context& context);
ReplyPtr slots(Context& context);
ReplyPtr timeline(Context& context);
ReplyPtr openapi(Context& context);

} // namespace mlxlm::serve

// Every path that is served. To add one: its function in a file of this folder,
// a row here.
#include "serve/routes/routes.h"

namespace mlxlm::serve {
namespace {

// method, path, whether it is open to everybody, function, what it gives
constexpr Route table[] = {
    {"POST",
     "/v1/chat/completions",
     false,
     chat_completions,
     "an answer to a conversation"},
    {"POST", "/chat/completions", false, chat_completions, "the same"},
    {"POST", "/v1/completions", false, completions, "what follows a text"},
    {"POST", "/completions", false, completions, "the same"},
    {"POST",
     "/v1/responses",
     false,
     responses,
     "an answer that may be gone on from"},
    {"GET", "/v1/responses/*", false, show_response, "one that was kept"},
    {"DELETE", "/v1/responses/*", false, delete_response, "forgets one"},
    {"GET", "/v1/models", false, list_models, "the models"},
    {"GET", "/models", false, list_models, "the same"},
    {"GET", "/v1/models/*", false, show_model, "one of them"},
    {"POST", "/v1/messages", false, messages, "an answer to a conversation"},
    {"POST",
     "/v1/messages/count_tokens",
     false,
     count_tokens,
     "tokens of a conversation"},
    {"POST", "/api/chat", false, ollama_chat, "an answer to a conversation"},
    {"POST", "/api/generate", false, ollama_generate, "an answer to a text"},
    {"GET", "/api/tags", false, ollama_tags, "the models"},
    {"GET", "/api/ps", false, ollama_ps, "those that are loaded"},
    {"POST", "/api/show", false, ollama_show, "one of them"},
    {"GET", "/api/version", false, ollama_version, "of the protocol"},
    {"GET", "/", true, page_file, "the web page"},
    {"GET", "/page/*", true, page_file, "its files"},
    {"GET", "/conversations", false, list_conversations, "what is kept"},
    {"GET", "/conversations/*", false, get_conversation, "one of them"},
    {"PUT", "/conversations/*", false, put_conversation, "keeps one"},
    {"DELETE", "/conversations/*", false, delete_conversation, "forgets one"},
    {"POST", "/infill", false, infill, "what is missing between two texts"},
    {"POST", "/tokenize", false, tokenize, "text to tokens"},
    {"POST", "/detokenize", false, detokenize, "tokens to text"},
    {"POST",
     "/apply-template",
     false,
     apply_template,
     "a conversation as the model reads it"},
    {"GET", "/health", true, health, "whether it can answer"},
    {"GET", "/v1/health", true, health, "the same"},
    {"GET", "/openapi.json", false, openapi, "this list"},
    {"GET", "/metrics", false, metrics, "figures for Prometheus"},
    {"GET", "/props", false, props, "limits and defaults"},
    {"GET", "/slots", false, slots, "what runs now"},
    {"GET", "/timeline", false, timeline, "where the time of answers went"},
};

} // namespace

std::span<const Route> routes() {
  return table;
}

} // namespace mlxlm::serve

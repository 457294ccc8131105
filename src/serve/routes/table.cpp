// Every path that is served. To add one: its function in a file of this folder,
// a row here.
#include "serve/routes/routes.h"

namespace mlxlm::serve {
namespace {

constexpr Route table[] = {
    {"POST", "/v1/chat/completions", false, chat_completions},
    {"POST", "/chat/completions", false, chat_completions},
    {"POST", "/v1/completions", false, completions},
    {"POST", "/completions", false, completions},
    {"POST", "/v1/responses", false, responses},
    {"GET", "/v1/responses/*", false, show_response},
    {"DELETE", "/v1/responses/*", false, delete_response},
    {"GET", "/v1/models", false, list_models},
    {"GET", "/models", false, list_models},
    {"GET", "/v1/models/*", false, show_model},
    {"POST", "/v1/messages", false, messages},
    {"POST", "/v1/messages/count_tokens", false, count_tokens},
    {"POST", "/api/chat", false, ollama_chat},
    {"POST", "/api/generate", false, ollama_generate},
    {"GET", "/api/tags", false, ollama_tags},
    {"GET", "/api/ps", false, ollama_ps},
    {"POST", "/api/show", false, ollama_show},
    {"GET", "/api/version", false, ollama_version},
    {"GET", "/", true, ollama_root},
    {"POST", "/tokenize", false, tokenize},
    {"POST", "/detokenize", false, detokenize},
    {"POST", "/apply-template", false, apply_template},
    {"GET", "/health", true, health},
    {"GET", "/v1/health", true, health},
    {"GET", "/metrics", false, metrics},
    {"GET", "/props", false, props},
    {"GET", "/slots", false, slots},
};

} // namespace

std::span<const Route> routes() {
  return table;
}

} // namespace mlxlm::serve

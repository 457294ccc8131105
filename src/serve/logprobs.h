// Log-probabilities of an answer's tokens, in the shapes of several APIs.
#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"
#include "mlxlm/tokenizer.h"
#include "serve/answer.h"

namespace mlxlm::serve {

using AnswerTokens = std::vector<Answer::Token>;

// OpenAI's chats: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.
Json chat_logprobs(const TextCodec& codec, const AnswerTokens& tokens);
// OpenAI's completions: lists side by side. `offset`: of the first token's
// text, in bytes; that of what follows afterwards.
Json completion_logprobs(
    const TextCodec& codec,
    const AnswerTokens& tokens,
    std::int64_t& offset);
// llama-server's completion_probabilities.
Json native_logprobs(const TextCodec& codec, const AnswerTokens& tokens);

} // namespace mlxlm::serve

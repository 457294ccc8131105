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
// The same of a prompt, whose first token has none. `lists`: of each one behind
// it, itself and the likeliest there.
Json prompt_logprobs(
    const TextCodec& codec,
    const std::vector<int>& prompt,
    const std::vector<std::vector<TokenLogprob>>& lists,
    std::int64_t& offset);
// Both lists of each kind in one.
Json joined_logprobs(Json first, const Json& second);
// llama-server's completion_probabilities.
Json native_logprobs(const TextCodec& codec, const AnswerTokens& tokens);

} // namespace mlxlm::serve

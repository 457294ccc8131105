// Which of a sequence's guesses its sampler takes.
#pragma once

#include "generate/drafting/drafter.h"

namespace mlxlm {

// What is drawn from logits [1 + guesses, vocab], those after the last token
// that is certain and after each guess: the guesses up to the first that is not
// taken, and one token more. Each is what the sampler would have drawn without
// guesses (same seed, same tokens), or where `draft.from` is there, distributed
// as if.
std::vector<Sampled> verify(
    Sampler& sampler,
    std::span<const float> logits,
    const Draft& draft);

} // namespace mlxlm

// PromptCache: what a conversation leaves behind in the engine.
#pragma once

#include <memory>

#include "generate/engine.h"
#include "mlxlm/model.h"

namespace mlxlm {

PromptCachePtr make_prompt_cache(std::shared_ptr<Engine> engine);
// What is inside; null for null.
std::shared_ptr<SequenceCache> sequence_cache(const PromptCachePtr& cache);

} // namespace mlxlm

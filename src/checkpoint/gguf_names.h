// GGUF architectures in Hugging Face's words: a config.json made from the
// metadata and the rules that give llama.cpp's tensors their usual names and
// layouts.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "checkpoint/rewrite.h"
#include "core/json.h"

namespace mlxlm {

struct GgufModel {
  Json config;
  std::vector<Rule> rules;
};

// Throws Error(weights) for an architecture that is not in the table (naming
// the nearest) and for metadata that is missing or out of range.
GgufModel gguf_model(const GgufFile& file);

} // namespace mlxlm

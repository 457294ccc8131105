// The tokenizer that a GGUF file carries in its metadata.
#pragma once

#include "checkpoint/gguf.h"
#include "text/tokenizer.h"

namespace mlxlm {

TokenizerPtr gguf_tokenizer(const GgufFile& file);

} // namespace mlxlm

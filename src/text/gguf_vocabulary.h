// The tokenizer that a GGUF file carries in its metadata.
#pragma once

#include "checkpoint/gguf.h"
#include "text/gguf_tokenizer.h"

namespace mlxlm {

// Views into the file.
GgufTokenizer gguf_vocabulary(const GgufFile& file);
TokenizerPtr gguf_tokenizer(const GgufFile& file);

} // namespace mlxlm

// What lies beside the weights in a converted folder: config.json, the index,
// the model card, the tokenizer's files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "core/json.h"

namespace mlxlm::converting {

// As Python's json.dump(indent=4) writes it, non-finite numbers as
// {"__float__": "Infinity"}.
std::string python_json(const Json& value);

// config.json as mlx-lm loads it: the end tokens of generation_config.json
// count, quantization settings may lie elsewhere.
Json loaded_config(const Checkpoint& checkpoint);
// ... and as it saves it: keys sorted, some left out.
Json saved_config(Json config);

// The front matter of README.md; `model`: hub id of the source, or empty.
std::string model_card(const std::string& source, std::string_view model);

// Tokenizer and generation files of the folder `from`.
void copy_files(const std::string& from, const std::string& to);
// ... made from what a GGUF file says.
void write_tokenizer(const GgufFile& file, const std::string& to);

} // namespace mlxlm::converting

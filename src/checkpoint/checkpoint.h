// A model on disk: a folder with config.json and safetensors, or a GGUF file.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/rewrite.h"
#include "checkpoint/tensor.h"
#include "core/fields.h"

namespace mlxlm {

class GgufFile;

struct Checkpoint {
  std::string path;
  Fields config; // config.json, or its equivalent made from GGUF metadata
  std::shared_ptr<const TensorSource> tensors;
  std::vector<Rule> rules; // GGUF names and layouts to Hugging Face's
  std::shared_ptr<const GgufFile>
      gguf; // metadata and tokenizer; null for a folder
  std::map<std::string, std::string>
      metadata; // __metadata__ of safetensors files
  bool jang = false; // see jang.h; `config` then says nothing of quantization
};

// `path`: a folder or a .gguf file. Reads headers only. Throws Error(io),
// Error(config) or Error(weights).
Checkpoint open_checkpoint(const std::string& path);

} // namespace mlxlm

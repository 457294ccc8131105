// config.json from GGUF metadata: what all architectures share, and what some
// add.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/gguf.h"
#include "core/json.h"

namespace mlxlm {

class GgufConfig {
 public:
  GgufConfig(const GgufFile& file, std::string_view architecture)
      : file_(file),
        metadata_(file.metadata()),
        prefix_(std::string(architecture) + ".") {}

  // Sizes, norms, rotary embedding, tokens: the keys of nearly every
  // config.json.
  Json common() const;

  // `ARCH.name`: an integer in [low, high]; a list must repeat one value.
  std::int64_t size(
      std::string_view name,
      std::int64_t low = 1,
      std::int64_t high = 1 << 24) const;
  std::optional<std::int64_t> find_size(
      std::string_view name,
      std::int64_t low = 0,
      std::int64_t high = 1 << 24) const;
  std::optional<double> number(std::string_view name) const;
  bool flag(std::string_view name) const; // false when absent
  bool has_tensor(std::string_view name) const {
    return file_.find(name) != nullptr;
  }
  const TensorView* tensor(std::string_view name) const {
    return file_.find(name);
  }
  std::vector<double> floats(std::string_view tensor) const;
  const GgufMetadata& metadata() const {
    return metadata_;
  }
  std::string key(std::string_view name) const {
    return prefix_ + std::string(name);
  }

 private:
  void add_sizes(Json& config) const;
  void add_rope(Json& config) const;
  void add_tokens(Json& config) const;
  // HF's rope_scaling; empty when there is none.
  Json rope_scaling(std::int64_t length) const;
  void check_vocabulary(std::int64_t rows) const;
  std::optional<std::int64_t> token_id(
      std::string_view name,
      std::int64_t vocabulary) const;

  const GgufFile& file_;
  const GgufMetadata& metadata_;
  std::string prefix_;
};

// gguf_extras.cpp
void llama_extra(const GgufConfig& source, Json& config);
void mistral3_extra(const GgufConfig& source, Json& config);
void smollm3_extra(const GgufConfig& source, Json& config);
void granite_extra(const GgufConfig& source, Json& config);
void qwen_moe_extra(const GgufConfig& source, Json& config);
void gemma_extra(const GgufConfig& source, Json& config);
void gemma2_extra(const GgufConfig& source, Json& config);
void gemma3_extra(const GgufConfig& source, Json& config);
void phi3_extra(const GgufConfig& source, Json& config);
void olmo_extra(const GgufConfig& source, Json& config);
void phi2_extra(const GgufConfig& source, Json& config);
void olmo2_extra(const GgufConfig& source, Json& config);
void starcoder2_extra(const GgufConfig& source, Json& config);
void gpt_oss_extra(const GgufConfig& source, Json& config);
void ernie_moe_extra(const GgufConfig& source, Json& config);
void llama4_extra(const GgufConfig& source, Json& config);
void olmoe_extra(const GgufConfig& source, Json& config);
void granite_moe_extra(const GgufConfig& source, Json& config);
void routed_extra(const GgufConfig& source, Json& config);
void deepseek2_extra(const GgufConfig& source, Json& config);
void exaone4_extra(const GgufConfig& source, Json& config);
void cohere_extra(const GgufConfig& source, Json& config);
void seed_oss_extra(const GgufConfig& source, Json& config);
void stablelm_extra(const GgufConfig& source, Json& config);
void nemotron_extra(const GgufConfig& source, Json& config);
void minicpm_extra(const GgufConfig& source, Json& config);
void minimax_m2_extra(const GgufConfig& source, Json& config);

} // namespace mlxlm

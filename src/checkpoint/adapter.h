// What a fine-tuning left beside a model: mlx-lm's folders
// (adapter_config.json, adapters.safetensors; LoRA, DoRA, whole weights) and
// PEFT's LoRA.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/rewrite.h"

namespace mlxlm {

// A module's W x becomes W x + scale * up (down x), and with magnitudes each
// output times magnitude / length of that sum's row.
struct LowRank {
  RowTensor down; // [rank, in] or [experts, rank, in]
  RowTensor up; // [out, rank] or [experts, out, rank]
  std::optional<RowTensor> magnitude; // [out, 1]
  float scale = 1;
};

struct Adapter {
  std::map<std::string, LowRank, std::less<>> modules; // by path in the model
  TensorMap tensors; // replace the checkpoint's
};

// Reads headers only. `base`: the checkpoint it is for, `rules`: from published
// names to the model's. Throws Error(io | config | weights).
Adapter open_adapter(
    const std::string& folder,
    const TensorSource& base,
    const std::vector<Rule>& rules);

} // namespace mlxlm

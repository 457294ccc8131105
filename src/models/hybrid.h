// What hybrid families share: which layers attend, and the sizes of Mamba-2
// under the names that configs give them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/common.h"
#include "nn/delta_mixer.h"
#include "nn/mamba2.h"

namespace mlxlm::models {

// For each layer whether it attends: `layer_types` or `layers_block_type`
// ("attention" or "full_attention"; every other kind must be one of `others`),
// else what `attends` says.
std::vector<bool> attention_layers(
    const Fields& f,
    int depth,
    const std::vector<std::string>& others,
    const std::function<bool(int)>& attends);

struct Mamba2Keys {
  const char *heads, *head_dim, *state, *groups, *kernel;
  const char *proj_bias, *conv_bias;
};
// Bamba's, which Granite and Falcon-H1 took over.
inline constexpr Mamba2Keys bamba_keys = {
    "mamba_n_heads",
    "mamba_d_head",
    "mamba_d_state",
    "mamba_n_groups",
    "mamba_d_conv",
    "mamba_proj_bias",
    "mamba_conv_bias"};
// `inner`: of all heads, for a head_dim of "auto". The norm is over each group.
Mamba2Options mamba2_options(
    const Fields& f,
    const Common& c,
    const Mamba2Keys& keys,
    int inner);

// `linear_num_key_heads` and so on; `fallback` where the config is silent.
DeltaShape delta_shape(const Fields& f, const DeltaShape& fallback);

// Adds what makes tensors of one dimension of those that `pattern` names.
void flatten(
    std::vector<Rule>& rules,
    const TensorSource& source,
    const std::string& pattern);

// With the names of the first state-space models: `backbone.embeddings`, ...
DecoderOptions backbone_decoder(const Scope& w, const Common& c);
// One norm and one mixer a layer.
Layer mixer_layer(const Scope& s, const Common& c, BlockPtr mixer);

} // namespace mlxlm::models

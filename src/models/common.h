// The fields and the frame that nearly every decoder-only family shares.
#pragma once

#include <string>
#include <vector>

#include "core/fields.h"
#include "models/families.h"
#include "nn/attention.h"
#include "nn/decoder.h"
#include "nn/mla.h"
#include "nn/mlp.h"
#include "nn/moe.h"

namespace mlxlm::models {

struct Common {
  int hidden = 0, depth = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int inner = 0; // 0 when the config has no intermediate_size
  int vocab = 0;
  float eps = 1e-6f;
  bool tied = false;
  Activation act = Activation::silu;
  PredictionOptions prediction = {}; // its eps is the one above

  // Throws Error(config) naming the field for sizes out of range. `tied` is
  // what a config without `tie_word_embeddings` means.
  static Common parse(const Fields& f, bool tied = false);
  // Options with these sizes; a family fills in what differs.
  AttentionOptions attention() const;
  MlpOptions mlp() const;
  DecoderOptions frame() const; // without a norm
  DecoderOptions decoder(const Scope& w, std::string_view norm = "model.norm")
      const;
};

// A copy of `f` with the missing keys of `values` filled in.
Fields with_defaults(const Fields& f, const Json& values);
// Where a key of a pair {key, other name of it} is missing, it is set to what
// the other says.
Fields with_aliases(
    const Fields& f,
    const std::vector<std::pair<std::string, std::string>>& names);
// A copy of `f` with counts also under the names that nearly all use; pairs
// {usual, own}. Throws Error(config) naming a missing one by its own name.
Fields under_usual_names(
    const Fields& f,
    const std::vector<std::pair<const char*, const char*>>& names);
// One entry a layer: the window where layer i slides, else 0. Follows
// `layer_types` where there is one, else `sliding(i)`.
std::vector<int> windows(
    const Fields& f,
    int depth,
    const std::function<bool(int)>& sliding);
// `layer_types` (checked against `allowed`), or `kind(i)` for each layer.
std::vector<std::string> layer_types(
    const Fields& f,
    int depth,
    const std::vector<std::string>& allowed,
    const std::function<std::string(int)>& kind,
    std::string_view key = "layer_types");
Bias bias_if(bool present);
// h += attention(norm(h)); h += mlp(norm(h)), with the names nearly all use.
Layer pre_norm_layer(
    const Scope& s,
    const Common& c,
    BlockPtr attention,
    BlockPtr mlp,
    float offset = 0);
// h += norm(attention(h)); h += norm(mlp(h))
Layer post_norm_layer(
    const Scope& s,
    const Common& c,
    BlockPtr attention,
    BlockPtr mlp);
// What attention returned times act(gate(x)), for AttentionOptions::on_y; the
// gate gives a value a head or one for every number.
using OutputGate =
    std::function<mx::array(const mx::array& y, const mx::array& x)>;
OutputGate output_gate(
    Linear gate,
    std::function<mx::array(const mx::array&)> act);
// A cap of logits or scores; 0, none, where the config says null.
float cap_field(const Fields& f, std::string_view key, float absent);
// A field that is one number, or a list with one a layer.
int layer_field(
    const Fields& f,
    std::string_view key,
    int layer,
    int fallback,
    int most = 1 << 24);
// An MLP for layer `index`, at `s`.
using MlpMaker = std::function<BlockPtr(int index, const Scope& s)>;
// Experts of the width `inner`, and one MLP of the width `shared_inner` that
// sees every token (0: none).
struct Mixture {
  RouterOptions router; // `hidden` is filled in
  int inner = 0, shared_inner = 0;
  std::string shared = "shared_experts";
  Bias bias = Bias::none; // of the experts and the shared one
};
BlockPtr mixture(const Scope& s, const Common& c, Mixture m);
// A mixture in layers that have experts (`mlp_layer_types`, else `sparse(i)`),
// the config's MLP in the others.
MlpMaker mixed_mlps(
    const Fields& f,
    const Common& c,
    const Mixture& m,
    const std::function<bool(int)>& sparse);
// The sizes as DeepSeek's configs name them (n_routed_experts, n_shared_experts
// ...); scores, groups and weights are the family's.
Mixture deepseek_mixture(const Fields& f);
// The layers they are in: first_k_dense_replace, moe_layer_freq.
MlpMaker deepseek_mlps(const Fields& f, const Common& c, const Mixture& m);
// Common::parse for configs whose head size follows from others.
Common latent_common(const Fields& f, bool tied = false);
// Latent attention with DeepSeek's sizes; yarn's growth of the softmax scale
// included.
MlaOptions latent_attention(
    const Fields& f,
    const Common& c,
    bool interleaved = true);
// Groups by their best two experts, and the weights' sum and scale, as
// DeepSeek-V3's configs name them.
void route_by_pairs(const Fields& f, Routing& routing);
// DeepSeek-V3's: sigmoid scores, a correction for the choice, those groups.
Mixture sigmoid_mixture(const Fields& f);
// It in layer `index`, or the MLP of a dense layer.
BlockPtr sigmoid_experts(
    const Fields& f,
    const Common& c,
    int index,
    const Scope& s);
// A decoder of pre-norm layers with gated MLPs; `adjust` sets what a layer's
// attention has beyond the sizes, norms of q and k included (`s`: its scope).
using Adjust =
    std::function<void(int index, const Scope& s, AttentionOptions& o)>;
ModelPtr plain_decoder(
    const Scope& w,
    const Common& c,
    const MlpOptions& mlp,
    const Adjust& adjust);
ModelPtr plain_decoder(
    const Scope& w,
    const Common& c,
    const MlpMaker& mlp,
    const Adjust& adjust);
// Sizes and counts from a config, within what any model has.
int size_field(const Fields& f, std::string_view key);
int size_field(const Fields& f, std::string_view key, int fallback);
// `fallback` when the config has no such key or says "auto".
int automatic_size(const Fields& f, std::string_view key, int fallback);
// What predicts further tokens, a layer at `at`: pairs {its name, the name in
// nn/prediction.h}, the first one of a norm; all else is its block's.
PredictionNames prediction_names(
    const std::string& at,
    const std::vector<std::pair<std::string, std::string>>& names);
// Layers behind the last one predict later tokens: they are left out.
std::vector<Rule> drop_prediction_layers(
    const Fields& f,
    const TensorSource& source);

} // namespace mlxlm::models

// ERNIE 4.5 with experts: interleaved positions, softmax scores with a
// correction for the choice, experts from one layer to another.
#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// A number, or the least or greatest of several.
int bound(const Fields& f, const char* key, int fallback, bool least) {
  if (!f.has(key) || !f.req<Json>(key).is_array()) return f.opt(key, fallback);
  auto all = f.req<std::vector<int>>(key);
  if (all.empty()) return fallback;
  return least ? *std::min_element(all.begin(), all.end())
               : *std::max_element(all.begin(), all.end());
}

std::function<bool(int)> sparse(const Fields& f, int depth) {
  int every = f.range("moe_layer_interval", 1, 1, 1 << 20);
  int first = bound(f, "moe_layer_start_index", 0, true);
  int last = bound(f, "moe_layer_end_index", -1, false);
  if (last < 0) last = depth - 1;
  return [=](int i) { return (i + 1) % every == 0 && i >= first && i <= last; };
}

Mixture ernie_experts(const Fields& f, const Common& c) {
  auto act = f.opt("moe_gate_act", "softmax");
  if (act != "softmax" && act != "sigmoid")
    fail(
        ErrorKind::config,
        f.where("moe_gate_act"),
        "expected softmax or sigmoid, found \"{}\"",
        printable(act));
  Mixture m;
  m.router = {
      .experts = size_field(f, "moe_num_experts", 0),
      .routing = {
          .top_k = size_field(f, "moe_k", 1),
          .score = act == "sigmoid" ? Routing::Score::sigmoid
                                    : Routing::Score::softmax,
          .normalize = true,
          .normalize_eps = 1e-12f}};
  m.inner = size_field(f, "moe_intermediate_size", 0);
  if (m.inner == 0) m.inner = c.inner;
  m.shared_inner = m.inner * f.range("moe_num_shared_experts", 0, 0, 64);
  m.bias = bias_if(f.opt("use_bias", false));
  return m;
}

} // namespace

ModelPtr ernie4_5_moe(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, !w.has("lm_head"));
  c.prediction.own_norm = false;
  auto rope = Rope::from(f, c.head_dim, {.traditional = true, .theta = 500000});
  auto bias = bias_if(f.opt("use_bias", false));
  auto m = ernie_experts(f, c);
  auto mlp = [&](int i, const Scope& s) {
    // Converted checkpoints may have lost it.
    constexpr auto correction = "moe_statics.e_score_correction_bias";
    if (s.has(correction)) m.router.correction = correction;
    return mixed_mlps(f, c, m, sparse(f, c.depth))(i, s);
  };
  return plain_decoder(
      w, c, MlpMaker(mlp), [&](int, const Scope&, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
      });
}

// Its last norm is the model's.
PredictionNames ernie4_5_moe_prediction(const Fields&) {
  auto out = prediction_names(
      "model",
      {{"mtp_emb_norm.0", "token_norm"},
       {"mtp_hidden_norm.0", "hidden_norm"},
       {"mtp_linear_proj.0", "proj"},
       {"mtp_block.0", "block"}});
  out.rules.pop_back(); // nothing else of the model
  return out;
}

std::vector<Rule> ernie4_5_moe_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules();
  rules.push_back(merge_axes("*.moe_statics.e_score_correction_bias"));
  rules.push_back(drop("*mtp_*"));
  return rules;
}

} // namespace mlxlm::models

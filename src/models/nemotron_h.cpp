// Nemotron-H: one norm and one mixer a layer, which a pattern picks: Mamba-2
// (M), attention without positions (*), a squared-ReLU MLP (-) or experts of it
// (E).
#include <mlx/ops.h>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"
#include "models/hybrid.h"

namespace mlxlm::models {

namespace {

// The pattern string of published configs, or the list of transformers 5 under
// `key`.
std::string pattern(const Fields& f, const char* string, const char* key) {
  if (!f.has(key)) return f.req<std::string>(string);
  std::string out;
  for (const auto& kind : f.req<std::vector<std::string>>(key)) {
    if (kind == "mamba")
      out += 'M';
    else if (kind == "attention" || kind == "full_attention")
      out += '*';
    else if (kind == "mlp")
      out += '-';
    else if (kind == "moe")
      out += 'E';
    else
      fail(
          ErrorKind::config,
          f.where(key),
          "expected mamba, attention, mlp or moe, found \"{}\"",
          printable(kind));
  }
  return out;
}

std::string pattern(const Fields& f) {
  return pattern(f, "hybrid_override_pattern", "layers_block_type");
}

// Of the layer that predicts further tokens, which has several mixers.
std::string prediction_pattern(const Fields& f) {
  constexpr auto key = "mtp_hybrid_override_pattern";
  return pattern(with_defaults(f, {{key, "*E"}}), key, "mtp_layers_block_type");
}

constexpr Mamba2Keys mamba_keys = {
    "mamba_num_heads",
    "mamba_head_dim",
    "ssm_state_size",
    "n_groups",
    "conv_kernel",
    "mamba_proj_bias",
    "use_conv_bias"};

MlpOptions squared_relu(const Fields& f, const Common& c, int inner) {
  auto o = c.mlp();
  o.inner = inner;
  o.act = activation(f, "mlp_hidden_act", "relu2");
  o.bias = bias_if(f.opt("mlp_bias", false));
  return o;
}

// Experts of a smaller width, between two matrices; the router and the shared
// expert see the full one.
class LatentExperts : public Block {
 public:
  LatentExperts(const Scope& s, const MoeOptions& o, Bias bias, BlockPtr shared)
      : router_(s, o.router),
        experts_(s / o.at, o.experts),
        down_(s.linear(
            "fc1_latent_proj",
            o.router.hidden,
            o.experts.hidden,
            {.bias = bias})),
        up_(s.linear(
            "fc2_latent_proj",
            o.experts.hidden,
            o.router.hidden,
            {.bias = bias})),
        shared_(std::move(shared)) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache*)
      const override {
    auto rows = mx::squeeze(x, 0); // [T, hidden]
    auto [ids, weights] = router_(rows);
    auto parts = experts_(down_(rows), ids); // [T, k, latent]
    auto w = mx::expand_dims(mx::astype(weights, parts.dtype()), -1);
    auto y = mx::expand_dims(up_(mx::sum(parts * w, 1)), 0);
    return shared_ ? y + (*shared_)(x, step, nullptr) : y;
  }

 private:
  Router router_;
  Experts experts_;
  Linear down_, up_;
  BlockPtr shared_;
};

BlockPtr nemotron_experts(const Fields& f, const Common& c, const Scope& s) {
  MoeOptions m;
  m.router = sigmoid_mixture(f).router;
  m.router.hidden = c.hidden;
  m.experts = {
      .hidden = c.hidden,
      .inner = size_field(f, "moe_intermediate_size"),
      .experts = m.router.experts,
      .act = activation(f, "mlp_hidden_act", "relu2"),
      .gated = false,
      .up = "fc1",
      .down = "fc2"};
  int latent = size_field(f, "moe_latent_size", 0);
  BlockPtr shared;
  if (size_field(f, "n_shared_experts", 0) > 0)
    shared = plain_mlp(
        s / "shared_experts",
        squared_relu(
            f, c, size_field(f, "moe_shared_expert_intermediate_size")));
  if (latent == 0) return moe(s, m, std::move(shared));
  m.experts.hidden = latent;
  auto bias = bias_if(f.opt("mlp_bias", false));
  return std::make_unique<LatentExperts>(s, m, bias, std::move(shared));
}

} // namespace

ModelPtr nemotron_h(const Fields& f, const Scope& w) {
  auto kinds = pattern(f);
  auto c = Common::parse(
      f.with({{"num_hidden_layers", static_cast<int>(kinds.size())}}));
  c.eps = f.opt("layer_norm_epsilon", f.opt("rms_norm_eps", 1e-5f));
  auto ssm = with_aliases(f, {{"mamba_proj_bias", "use_bias"}});
  auto mixer = [&](char kind, const Scope& s) -> BlockPtr {
    switch (kind) {
      case 'M':
        return mamba2(s, mamba2_options(ssm, c, mamba_keys, 0));
      case '*': {
        auto a = c.attention();
        a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
        return attention(s, a);
      }
      case '-':
        return plain_mlp(s, squared_relu(f, c, c.inner));
      case 'E':
        return nemotron_experts(f, c, s);
    }
    fail(
        ErrorKind::config,
        f.where("hybrid_override_pattern"),
        "expected M, *, - or E, found '{}'",
        printable({&kind, 1}));
  };
  auto block = [&](int i, const Scope& s) {
    if (i < c.depth) return mixer_layer(s, c, mixer(kinds[i], s / "mixer"));
    Layer all;
    int at = 0;
    for (char kind : prediction_pattern(f)) {
      auto part = s / at++;
      auto one = mixer_layer(part, c, mixer(kind, part / "mixer"));
      all.parts.push_back(std::move(one.parts.front()));
    }
    return all;
  };
  return decoder(w, backbone_decoder(w, c), block);
}

PredictionNames nemotron_h_prediction(const Fields& f) {
  return prediction_names(
      "mtp.layers",
      {{"0.enorm", "token_norm"},
       {"0.hnorm", "hidden_norm"},
       {"0.eh_proj", "proj"},
       {fmt::format("{}.final_layernorm", prediction_pattern(f).size() - 1),
        "norm"}});
}

std::vector<Rule> nemotron_h_rules(const Fields&, const TensorSource&) {
  auto rules = expert_rules({{"up_proj", "fc1"}, {"down_proj", "fc2"}});
  rules.push_back(merge_axes("*.conv1d.weight"));
  // transformers 5 may save the published names' successors.
  rules.push_back(rename("model.layers.*", "backbone.layers.*"));
  rules.push_back(rename("model.embeddings.*", "backbone.embeddings.*"));
  rules.push_back(rename("model.norm_f.*", "backbone.norm_f.*"));
  rules.push_back(drop("mtp.*"));
  return rules;
}

} // namespace mlxlm::models

// RecurrentGemma (Griffin): gated linear recurrences and attention to a window,
// in a repeated pattern.
#include <mlx/ops.h>

#include <cmath>

#include "core/check.h"
#include "core/strings.h"
#include "models/common.h"
#include "models/families.h"
#include "nn/rg_lru.h"

namespace mlxlm::models {

namespace {

// Whether each layer attends; the 2B and the 9B name the pattern differently.
std::vector<bool> pattern(const Fields& f, int depth) {
  const auto* key = f.has("block_types") ? "block_types"
      : f.has("_block_types")            ? "_block_types"
                                         : "layers_block_type";
  auto kinds = f.opt(
      key, std::vector<std::string>{"recurrent", "recurrent", "attention"});
  for (const auto& kind : kinds)
    if (kind != "recurrent" && kind != "attention")
      fail(
          ErrorKind::config,
          f.where(key),
          "expected recurrent or attention, found \"{}\"",
          printable(kind));
  if (kinds.empty())
    fail(ErrorKind::config, f.where(key), "expected a pattern, found nothing");
  std::vector<bool> out;
  for (int i = 0; i < depth; ++i)
    out.push_back(kinds[i % kinds.size()] == "attention");
  return out;
}

BlockPtr local_attention(const Fields& f, const Common& c, const Scope& s) {
  auto o = c.attention();
  o.rope = Rope::from(f, c.head_dim, {.partial = 0.5});
  o.window = f.range("attention_window_size", 2048, 1, 1 << 30);
  o.bias = bias_if(f.opt("attention_bias", false));
  o.out_bias = Bias::required;
  return attention(s, o);
}

// The root of the width in bfloat16, as it is trained.
float embedding_scale(const Fields& f, int hidden) {
  if (!f.opt("embeddings_scale_by_sqrt_dim", true)) return 1;
  auto root = mx::array(std::sqrt(static_cast<float>(hidden)));
  return mx::astype(mx::astype(root, mx::bfloat16), mx::float32).item<float>();
}

} // namespace

ModelPtr recurrent_gemma(const Fields& f, const Scope& w) {
  auto c = Common::parse(f, true);
  c.act = activation(f, "hidden_activation", "gelu_pytorch_tanh");
  auto attends = pattern(f, c.depth);
  RgLruOptions lru;
  lru.hidden = c.hidden;
  lru.width = size_field(f, "lru_width", c.hidden);
  lru.heads = c.heads;
  lru.kernel = f.range("conv1d_width", 4, 2, 64);
  lru.act = c.act;
  if (lru.width % c.heads != 0)
    fail(
        ErrorKind::config,
        f.where("lru_width"),
        "expected a multiple of num_attention_heads {}, found {}",
        c.heads,
        lru.width);
  auto mlp = c.mlp();
  mlp.inner = c.inner / 2;
  mlp.bias = Bias::required;
  auto block = [&](int i, const Scope& s) {
    auto at = s / "temporal_block";
    return layer(
        Sublayer{
            rms_norm(s, "temporal_pre_norm", c.hidden, c.eps, 1),
            attends[i] ? local_attention(f, c, at) : rg_lru(at, lru)},
        Sublayer{
            rms_norm(s, "channel_pre_norm", c.hidden, c.eps, 1),
            gated_mlp(s / "mlp_block", mlp)});
  };
  DecoderOptions o;
  o.hidden = c.hidden;
  o.vocab = c.vocab;
  o.depth = c.depth;
  o.tied = c.tied;
  o.norm = rms_norm(w, "model.final_norm", c.hidden, c.eps, 1);
  o.embed_scale = embedding_scale(f, c.hidden);
  o.softcap = f.opt("logits_soft_cap", 30.0f);
  return decoder(w, std::move(o), block);
}

std::vector<Rule> recurrent_gemma_rules(const Fields&, const TensorSource&) {
  return {merge_axes("*.conv_1d.weight")};
}

} // namespace mlxlm::models

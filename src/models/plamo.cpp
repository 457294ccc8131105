// PLaMo 1: attention and MLP beside each other, keys and values shared by every
// n-th query head. PLaMo 3: norms before and behind, which store weight minus
// an offset, windows with their own rope.
#include <mlx/ops.h>

#include "core/check.h"
#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

// Heads [1, N, a * b, D] numbered the other way around: a-major to b-major.
mx::array regrouped(const mx::array& x, int a, int b) {
  auto y = mx::reshape(x, {1, x.shape(1), a, b, x.shape(3)});
  return mx::reshape(mx::swapaxes(y, 2, 3), x.shape());
}

} // namespace

ModelPtr plamo(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  int share = f.range("n_shared_head", 8, 1, 1 << 14);
  if (c.heads % share != 0)
    fail(
        ErrorKind::config,
        f.where("n_shared_head"),
        "expected a divisor of num_attention_heads {}, found {}",
        c.heads,
        share);
  c.kv_heads = c.heads / share;
  auto rope = Rope::from(
      f, c.head_dim, {.traditional = f.opt("rope_traditional", false)});
  auto block = [&](int, const Scope& s) {
    auto a = c.attention();
    a.rope = rope;
    // Query head h belongs to key head h % kv_heads, elsewhere to h / share.
    a.on_q = [=](const mx::array& q) {
      return regrouped(q, share, c.kv_heads);
    };
    a.on_y = [=](const mx::array& y, const mx::array&) {
      return regrouped(y, c.kv_heads, share);
    };
    return layer(
        Sublayer{
            rms_norm(s, "norm", c.hidden, c.eps),
            attention(s / "self_attn", a)},
        Sublayer{
            .pre = {}, .op = gated_mlp(s / "mlp", c.mlp()), .beside = true});
  };
  auto o = c.decoder(w);
  o.layers = "model.layers.layers";
  return decoder(w, std::move(o), block);
}

ModelPtr plamo3(const Fields& f, const Scope& w) {
  auto c = Common::parse(
      with_defaults(f, {{"head_dim", 128}, {"num_key_value_heads", 4}}), true);
  auto full = Rope::from(f, c.head_dim, {.theta = 1000000});
  auto local = Rope::from(
      f, c.head_dim, {.theta_key = "rope_local_theta", .scaled = false});
  int pattern = f.range("sliding_window_pattern", 8, 1, 1 << 20);
  int window =
      size_field(f, "sliding_window", f.range("window_size", 2048, 1, 1 << 24));
  auto m = c.mlp();
  m.fused = "gate_up_proj";
  auto block = [&](int i, const Scope& s) {
    auto norm = [&](const char* name, float offset) {
      return rms_norm(s, name, c.hidden, c.eps, offset);
    };
    bool slides = (i + 1) % pattern != 0;
    auto at = s / "mixer";
    auto a = c.attention();
    a.rope = slides ? local : full;
    a.window = slides ? window + 1 : 0; // that many before the token itself
    a.fused = "qkv_proj";
    a.q_norm = rms_norm(at, "q_norm", c.head_dim, c.eps, 1);
    a.k_norm = rms_norm(at, "k_norm", c.head_dim, c.eps, 1);
    return layer(
        Sublayer{
            norm("pre_mixer_norm", 1),
            attention(at, a),
            norm("post_mixer_norm", 0.2f)},
        Sublayer{
            norm("pre_mlp_norm", 1),
            gated_mlp(s / "mlp", m),
            norm("post_mlp_norm", 0.0894427191f)}); // 5 ^ -1.5
  };
  auto o = c.decoder(w);
  o.layers = "model.layers.layers";
  o.norm = rms_norm(w, "model.norm", c.hidden, c.eps, 1);
  return decoder(w, std::move(o), block);
}

} // namespace mlxlm::models

// Klear: Qwen3's attention; what the experts and the shared MLP give is mixed
// with weights learned for every token.
#include <mlx/ops.h>

#include <algorithm>

#include "models/common.h"
#include "models/families.h"

namespace mlxlm::models {

namespace {

class MixedMoe : public Block {
 public:
  MixedMoe(const Scope& s, const Common& c, const Mixture& m)
      : experts_(mixture(s, c, routed(m))),
        shared_(shared_mlp(s, c, m)),
        coefficient_(
            s.linear("coefficient", c.hidden, 2, {.bias = Bias::required})) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache*)
      const override {
    auto parts = mx::split(mx::softmax(coefficient_(x), -1, true), 2, -1);
    return (*experts_)(x, step, nullptr) * parts[0] +
        (*shared_)(x, step, nullptr) * parts[1];
  }

 private:
  static Mixture routed(Mixture m) {
    m.shared_inner = 0;
    return m;
  }
  static BlockPtr shared_mlp(
      const Scope& s,
      const Common& c,
      const Mixture& m) {
    auto o = c.mlp();
    o.inner = m.shared_inner;
    return gated_mlp(s / m.shared, o);
  }

  BlockPtr experts_, shared_;
  Linear coefficient_;
};

} // namespace

ModelPtr klear(const Fields& f, const Scope& w) {
  auto c = Common::parse(f);
  auto rope = Rope::from(f, c.head_dim, {.scaled = false});
  auto bias = bias_if(f.opt("attention_bias", false));
  Mixture m;
  m.router = {
      .experts = size_field(f, "num_experts"),
      .routing =
          {.top_k = size_field(f, "num_experts_per_tok"),
           .score = Routing::Score::sigmoid,
           .normalize = f.opt("norm_topk_prob", false)},
      .correction = "expert_bias"};
  m.inner = size_field(f, "moe_intermediate_size");
  m.shared_inner = m.inner * f.range("n_shared_experts", 1, 1, 64);
  auto dense = f.opt("mlp_only_layers", std::vector<int>{});
  int step = f.range("decoder_sparse_step", 1, 1, 1 << 20);
  auto mlp = [&](int i, const Scope& s) -> BlockPtr {
    bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
    if (listed || (i + 1) % step != 0) return gated_mlp(s, c.mlp());
    return std::make_unique<MixedMoe>(s, c, m);
  };
  return plain_decoder(
      w, c, MlpMaker(mlp), [&](int, const Scope& s, AttentionOptions& o) {
        o.rope = rope;
        o.bias = o.out_bias = bias;
        o.q_norm = rms_norm(s, "q_norm", c.head_dim, c.eps);
        o.k_norm = rms_norm(s, "k_norm", c.head_dim, c.eps);
      });
}

} // namespace mlxlm::models

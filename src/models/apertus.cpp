// Apertus: norms of every head's q and k, and an MLP without a gate whose
// activation (xIELU) has two learned scalars.
#include <mlx/ops.h>

#include "models/common.h"
#include "models/families.h"
#include "nn/recurrent.h"

namespace mlxlm::models {

namespace {

// alpha_p x^2 + beta x for x > 0, else (e^min(x, eps) - 1 - x) alpha_n + beta
// x; files hold the alphas before a softplus.
class Xielu : public Block {
 public:
  Xielu(const Scope& s, const MlpOptions& o)
      : up_(s.linear(o.up, o.hidden, o.inner, {.bias = o.bias})),
        down_(s.linear(o.down, o.inner, o.hidden, {.bias = o.bias})),
        alpha_p_((s / "act_fn").param("alpha_p", {1}, mx::float32)),
        alpha_n_((s / "act_fn").param("alpha_n", {1}, mx::float32)),
        beta_((s / "act_fn").param("beta", {}, mx::float32)),
        eps_((s / "act_fn").param("eps", {}, mx::float32)) {}

  mx::array operator()(const mx::array& in, const Step&, LayerCache*)
      const override {
    auto x = mx::astype(up_(in), mx::float32);
    auto p = softplus(*alpha_p_);
    auto n = *beta_ + softplus(*alpha_n_);
    auto positive = p * mx::square(x);
    auto negative = (mx::expm1(mx::minimum(x, *eps_)) - x) * n;
    auto zero = mx::array(0.0f);
    auto y = mx::where(mx::greater(x, zero), positive, negative) + *beta_ * x;
    return down_(mx::astype(y, in.dtype()));
  }

 private:
  Linear up_, down_;
  Param alpha_p_, alpha_n_, beta_, eps_;
};

} // namespace

ModelPtr apertus(const Fields& f, const Scope& w) {
  auto c = Common::parse(f.with({{"hidden_act", "silu"}}));
  auto rope = Rope::from(f, c.head_dim, {.theta = 12000000});
  auto m = c.mlp();
  m.bias = bias_if(f.opt("mlp_bias", false));
  auto block = [&](int, const Scope& s) {
    auto at = s / "self_attn";
    auto a = c.attention();
    a.rope = rope;
    a.bias = a.out_bias = bias_if(f.opt("attention_bias", false));
    a.q_norm = rms_norm(at, "q_norm", c.head_dim, c.eps);
    a.k_norm = rms_norm(at, "k_norm", c.head_dim, c.eps);
    return layer(
        Sublayer{
            rms_norm(s, "attention_layernorm", c.hidden, c.eps),
            attention(at, a)},
        Sublayer{
            rms_norm(s, "feedforward_layernorm", c.hidden, c.eps),
            std::make_unique<Xielu>(s / "mlp", m)});
  };
  return decoder(w, c.decoder(w), block);
}

} // namespace mlxlm::models

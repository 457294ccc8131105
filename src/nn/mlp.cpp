#include "nn/mlp.h"

namespace mlxlm {

namespace {

Linear half(const Scope& s, const MlpOptions& o, bool up) {
  LinearOptions options{.bias = o.bias, .split = Split::out};
  if (o.fused.empty())
    return s.linear(up ? o.up : o.gate, o.hidden, o.inner, options);
  int begin = up ? o.inner : 0;
  return s.linear_rows(
      o.fused, o.hidden, 2 * o.inner, begin, begin + o.inner, options);
}

Linear down(const Scope& s, const MlpOptions& o) {
  return s.linear(
      o.down, o.inner, o.hidden, {.bias = o.bias, .split = Split::in});
}

class GatedMlp : public Block {
 public:
  GatedMlp(const Scope& s, const MlpOptions& o)
      : act_(o.act),
        gate_(half(s, o, false)),
        up_(half(s, o, true)),
        down_(down(s, o)),
        norm_(o.inner_norm),
        join_(o.join) {}
  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    auto inner = join_ ? joined(x) : gated(act_, x, gate_, up_);
    return down_(norm_(inner));
  }

 private:
  mx::array joined(const mx::array& x) const {
    auto both = linears(x, {gate_, up_});
    return join_(both[0], both[1]);
  }

  Activation act_;
  Linear gate_, up_, down_;
  Norm norm_;
  decltype(MlpOptions::join) join_;
};

class PlainMlp : public Block {
 public:
  PlainMlp(const Scope& s, const MlpOptions& o)
      : act_(o.act), up_(half(s, o, true)), down_(down(s, o)) {}
  mx::array operator()(const mx::array& x, const Step&, LayerCache*)
      const override {
    return down_(apply(act_, up_(x)));
  }

 private:
  Activation act_;
  Linear up_, down_;
};

} // namespace

BlockPtr gated_mlp(const Scope& s, const MlpOptions& options) {
  return std::make_unique<GatedMlp>(s, options);
}

BlockPtr plain_mlp(const Scope& s, const MlpOptions& options) {
  return std::make_unique<PlainMlp>(s, options);
}

} // namespace mlxlm

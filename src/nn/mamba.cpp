#include "nn/mamba.h"

#include <mlx/ops.h>

#include "nn/recurrent.h"
#include "runtime/kernels/scan.h"

namespace mlxlm {

namespace {

class Mamba : public Block {
 public:
  Mamba(const Scope& s, const MambaOptions& o)
      : o_(o),
        in_(s.linear("in_proj", o.hidden, 2 * o.inner, {.bias = o.proj_bias})),
        x_(s.linear("x_proj", o.inner, o.rank + 2 * o.state)),
        dt_(s.linear("dt_proj", o.rank, o.inner, {.bias = Bias::required})),
        out_(s.linear("out_proj", o.inner, o.hidden, {.bias = o.proj_bias})),
        conv_(s, {"conv1d"}, o.inner, o.kernel, o.conv_bias),
        a_log_(s.param("A_log", {o.inner, o.state}, mx::float32)),
        d_(s.param("D", {o.inner}, mx::float32)) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto parts = mx::split(in_(x), 2, -1); // inputs, gates
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& g : groups)
      results.push_back(mixed(g.of(parts[0]), g, *cache));
    auto y = in_order(groups, results);
    return out_(gate_up(o_.act, parts[1], mx::astype(y, x.dtype())));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back(conv_.state());
    out.states.push_back({{o_.inner, o_.state}, mx::float32});
    return out;
  }

 private:
  // x [B, L, inner] -> [B, L, inner] float32
  mx::array mixed(const mx::array& in, const SegmentBatch& g, LayerCache& cache)
      const {
    auto x = apply(o_.act, conv_(in, g, cache, 0));
    auto parts = mx::split(x_(x), mx::Shape{o_.rank, o_.rank + o_.state}, -1);
    auto real = [](const mx::array& v) { return mx::astype(v, mx::float32); };
    auto [y, h] = kernels::selective_scan(
        real(x),
        softplus(real(dt_(o_.dt_norm(parts[0])))),
        mx::negative(mx::exp(*a_log_)),
        real(o_.b_norm(parts[1])),
        real(o_.c_norm(parts[2])),
        *d_,
        g.state(cache, 1));
    g.set_state(cache, 1, h);
    return y;
  }

  MambaOptions o_;
  Linear in_, x_, dt_, out_;
  ShortConv conv_;
  Param a_log_, d_;
};

} // namespace

BlockPtr mamba(const Scope& s, const MambaOptions& options) {
  return std::make_unique<Mamba>(s, options);
}

} // namespace mlxlm

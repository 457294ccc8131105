#include "nn/rg_lru.h"

#include <mlx/ops.h>

#include "nn/recurrent.h"
#include "runtime/kernels/scan.h"

namespace mlxlm {

namespace {

// The sigmoid of a matrix for every head's values.
class BlockGate {
 public:
  BlockGate(const Scope& s, const std::string& name, const RgLruOptions& o)
      : heads_(o.heads),
        dim_(o.width / o.heads),
        weight_(s.param(name + "_weight", {heads_, dim_, dim_})),
        bias_(s.param(name + "_bias", {heads_, dim_})) {}

  mx::array operator()(const mx::array& x) const { // x [1, N, width]
    int n = x.shape(1);
    auto rows = mx::transpose(mx::reshape(x, {n, heads_, dim_}), {1, 0, 2});
    auto y = mx::transpose(mx::matmul(rows, *weight_), {1, 0, 2}) + *bias_;
    return mx::sigmoid(
        mx::astype(mx::reshape(y, {1, n, heads_ * dim_}), mx::float32));
  }

 private:
  int heads_, dim_;
  Param weight_, bias_;
};

class RgLru : public Block {
 public:
  RgLru(const Scope& s, const RgLruOptions& o)
      : o_(o),
        x_(s.linear("linear_x", o.hidden, o.width, {.bias = Bias::required})),
        y_(s.linear("linear_y", o.hidden, o.width, {.bias = Bias::required})),
        out_(s.linear(
            "linear_out",
            o.width,
            o.hidden,
            {.bias = Bias::required})),
        conv_(s, {"conv_1d"}, o.width, o.kernel, Bias::required),
        input_(s / "rg_lru", "input_gate", o),
        forget_(s / "rg_lru", "recurrent_gate", o),
        rate_((s / "rg_lru").param("recurrent_param", {o.width}, mx::float32)) {
  }

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto both = linears(x, {x_, y_});
    auto groups = batches(step);
    std::vector<mx::array> parts;
    for (const auto& g : groups)
      parts.push_back(conv_(g.of(both[0]), g, *cache, 0));
    auto in = in_order(groups, parts); // [1, N, width]
    auto log_keep =
        mx::array(-8.0f) * forget_(in) * softplus(*rate_); // of the state
    auto keep = mx::exp(log_keep);
    // So that the state keeps its size; a sequence's first token enters whole.
    auto share = mx::sqrt(mx::array(1.0f) - mx::exp(log_keep * mx::array(2.f)));
    auto first = mx::equal(step.positions, mx::array(0, mx::int32));
    first = mx::reshape(first, {1, x.shape(1), 1});
    auto write = mx::astype(in, mx::float32) * input_(in) *
        mx::where(first, mx::array(1.0f), share);
    parts.clear();
    for (const auto& g : groups)
      parts.push_back(scan(g.of(keep), g.of(write), g, *cache));
    auto y = mx::astype(in_order(groups, parts), x.dtype());
    return out_(gate_up(o_.act, both[1], y));
  }

  CacheSpec cache() const override {
    Recurrent out;
    out.states.push_back(conv_.state());
    out.states.push_back({{o_.width}, mx::float32});
    return out;
  }

 private:
  mx::array scan(
      const mx::array& keep,
      const mx::array& write,
      const SegmentBatch& g,
      LayerCache& cache) const {
    auto y = kernels::linear_scan(keep, write, g.state(cache, 1));
    auto last =
        mx::slice(y, {0, g.count - 1, 0}, {g.size(), g.count, o_.width});
    // A copy, so that the state does not keep the whole pass alive.
    g.set_state(cache, 1, mx::contiguous(mx::squeeze(last, 1)));
    return y;
  }

  RgLruOptions o_;
  Linear x_, y_, out_;
  ShortConv conv_;
  BlockGate input_, forget_;
  Param rate_;
};

} // namespace

BlockPtr rg_lru(const Scope& s, const RgLruOptions& options) {
  return std::make_unique<RgLru>(s, options);
}

} // namespace mlxlm

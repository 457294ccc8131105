#include "nn/gated_conv.h"

#include <mlx/ops.h>

#include "nn/recurrent.h"
#include "runtime/kernels/elementwise.h"

namespace mlxlm {

namespace {

class GatedConv : public Block {
 public:
  GatedConv(const Scope& s, const GatedConvOptions& o)
      : in_(s.linear("in_proj", o.hidden, 3 * o.hidden, {.bias = o.bias})),
        out_(s.linear("out_proj", o.hidden, o.hidden, {.bias = o.bias})),
        conv_(s, {"conv"}, o.hidden, o.kernel, o.bias) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    auto parts = mx::split(in_(x), 3, -1); // b, c, x
    auto inputs = kernels::multiplied(parts[0], parts[2]);
    return out_(kernels::multiplied(parts[1], mixed(inputs, step, *cache)));
  }

  CacheSpec cache() const override {
    return Recurrent{{conv_.state()}};
  }

 private:
  mx::array mixed(const mx::array& x, const Step& step, LayerCache& cache)
      const {
    if (auto past = cache.places(step, 0))
      return conv_(x, past, {.type = x.dtype()});
    auto groups = batches(step);
    std::vector<mx::array> results;
    for (const auto& g : groups)
      results.push_back(conv_(g.of(x), g, cache, 0));
    return in_order(groups, results);
  }

  Linear in_, out_;
  ShortConv conv_;
};

} // namespace

BlockPtr gated_conv(const Scope& s, const GatedConvOptions& options) {
  return std::make_unique<GatedConv>(s, options);
}

} // namespace mlxlm

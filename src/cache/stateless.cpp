// Memory that remembers nothing: every segment sees only itself.
// Differentiable.
#include <mlx/ops.h>

#include <utility>

#include "cache/byteless_memory.h"
#include "cache/layout.h"
#include "core/check.h"
#include "runtime/kernels/attention/reference.h"

namespace mlxlm {

namespace {

using cache::Geometry;
using cache::Layer;
using cache::Layout;

mx::array part(const mx::array& x, const Segment& s) {
  return mx::slice(
      x, {0, s.first, 0, 0}, {1, s.first + s.count, x.shape(2), x.shape(3)});
}

class StatelessKv final : public LayerCache {
 public:
  // source: the layer keys are borrowed from. lends: another layer borrows
  // these.
  StatelessKv(Geometry geometry, StatelessKv* source)
      : geometry_(geometry), source_(source) {
    if (source_) source_->lends_ = true;
  }

  mx::array attend(
      const Step& step,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      const AttendOptions& options) override {
    if (lends_) lent_ = {k, v};
    return run(step, q, k, v, options);
  }

  mx::array attend(
      const Step& step,
      const mx::array& q,
      const AttendOptions& options) override {
    MLXLM_CHECK(source_ && source_->lent_, "a layer to borrow from");
    auto& [k, v] = *source_->lent_;
    return run(step, q, k, v, options);
  }

  mx::array attend_latent(
      const Step& step,
      const mx::array& q,
      const mx::array& row,
      const AttendOptions& options) override {
    MLXLM_CHECK(geometry_.latent, "attend_latent on a latent layer");
    int n = row.shape(1);
    auto k = mx::reshape(row, {1, n, 1, geometry_.k_dim});
    auto v = mx::slice(k, {0, 0, 0, 0}, {1, n, 1, geometry_.v_dim});
    if (lends_) lent_ = {k, v};
    return run(step, q, k, v, options);
  }

  mx::array keep(const Step&, const mx::array& row) override {
    MLXLM_CHECK(geometry_.readable, "keep on a readable layer");
    kept_ = row;
    return row;
  }

  mx::array kept(const Step& step, int segment) override {
    MLXLM_CHECK(kept_, "rows that were kept");
    auto& s = step.segments().at(segment);
    int width = kept_->shape(2);
    auto rows =
        mx::slice(*kept_, {0, s.first, 0}, {1, s.first + s.count, width});
    return mx::squeeze(rows, 0);
  }

 private:
  mx::array run(
      const Step& step,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      const AttendOptions& options) const {
    std::vector<mx::array> outs;
    for (auto& s : step.segments()) {
      outs.push_back(kernels::reference::attention(
          part(q, s),
          part(k, s),
          part(v, s),
          {options.scale, options.softcap, geometry_.window, geometry_.chunked},
          options.sinks,
          0,
          0));
    }
    return mx::concatenate(std::move(outs), 1);
  }

  Geometry geometry_;
  StatelessKv* source_;
  bool lends_ = false;
  std::optional<std::pair<mx::array, mx::array>> lent_;
  std::optional<mx::array> kept_;
};

class StatelessRecurrent final : public LayerCache {
 public:
  explicit StatelessRecurrent(Recurrent spec) : spec_(std::move(spec)) {}

  mx::array state(const Segment&, int index) override {
    auto& state = spec_.states.at(index);
    auto shape = state.shape;
    shape.insert(shape.begin(), 1);
    return mx::zeros(shape, state.dtype);
  }

  void set_state(const Segment&, int, mx::array) override {}

 private:
  Recurrent spec_;
};

class Stateless final : public BytelessMemory {
 public:
  explicit Stateless(const std::vector<CacheSpec>& specs) {
    Layout layout(specs);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      auto& layer = layout.layers[i];
      switch (layer.kind) {
        case Layer::Kind::none:
          layers_.push_back(std::make_unique<LayerCache>());
          break;
        case Layer::Kind::recurrent:
          layers_.push_back(std::make_unique<StatelessRecurrent>(
              layout.recurrent[layer.slot]));
          break;
        case Layer::Kind::keys_values:
          layers_.push_back(std::make_unique<StatelessKv>(
              layout.groups[layer.group].geometry, lender(specs, i)));
          break;
      }
    }
  }

  LayerCache& layer(int index) override {
    return *layers_.at(index);
  }
  int layers() const override {
    return int(layers_.size());
  }

 private:
  StatelessKv* lender(const std::vector<CacheSpec>& specs, std::size_t i) {
    bool borrows = std::holds_alternative<SharedKv>(specs[i]);
    while (std::holds_alternative<SharedKv>(specs[i])) {
      i = std::get<SharedKv>(specs[i]).source;
    }
    return borrows ? static_cast<StatelessKv*>(layers_[i].get()) : nullptr;
  }

  std::vector<std::unique_ptr<LayerCache>> layers_;
};

} // namespace

std::unique_ptr<Memory> make_stateless(const std::vector<CacheSpec>& specs) {
  return std::make_unique<Stateless>(specs);
}

} // namespace mlxlm

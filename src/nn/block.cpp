#include "nn/block.h"

#include "core/check.h"

namespace mlxlm {

std::vector<CacheSpec> Block::caches() const {
  auto spec = cache();
  if (std::holds_alternative<std::monostate>(spec)) return {};
  return {std::move(spec)};
}

mx::array Block::run(
    const mx::array& x,
    const Step& step,
    const std::vector<LayerCache*>& caches) const {
  MLXLM_CHECK(caches.size() < 2, "a block that remembers several things");
  return (*this)(x, step, caches.empty() ? nullptr : caches[0]);
}

namespace {

class Again : public Block {
 public:
  explicit Again(std::shared_ptr<const Block> block)
      : block_(std::move(block)) {}
  mx::array operator()(const mx::array& x, const Step& step, LayerCache* cache)
      const override {
    return (*block_)(x, step, cache);
  }
  std::vector<CacheSpec> caches() const override {
    return block_->caches();
  }
  mx::array run(
      const mx::array& x,
      const Step& step,
      const std::vector<LayerCache*>& caches) const override {
    return block_->run(x, step, caches);
  }

 private:
  std::shared_ptr<const Block> block_;
};

} // namespace

BlockPtr again(std::shared_ptr<const Block> block) {
  return std::make_unique<Again>(std::move(block));
}

} // namespace mlxlm

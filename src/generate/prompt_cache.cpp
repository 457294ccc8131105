#include "generate/prompt_cache.h"

#include "core/check.h"
#include "generate/model_runner.h"

namespace mlxlm {
namespace {

class Cache final : public PromptCache {
 public:
  explicit Cache(std::shared_ptr<Engine> engine)
      : engine_(std::move(engine)),
        inside_(std::make_shared<SequenceCache>()) {}
  ~Cache() override {
    // Pages and arrays are given back where they live.
    engine_->post([inside = std::move(inside_)]() mutable { inside.reset(); });
  }
  std::vector<int> tokens() const override {
    std::vector<int> tokens;
    engine_->look([&](const Runner&) { tokens = inside_->tokens; });
    return tokens;
  }
  std::size_t bytes() const override {
    std::size_t bytes = 0;
    engine_->look([&](const Runner&) {
      if (inside_->memory) bytes = inside_->memory->bytes();
    });
    return bytes;
  }
  const std::shared_ptr<SequenceCache>& inside() const {
    return inside_;
  }

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<SequenceCache> inside_;
};

} // namespace

PromptCachePtr make_prompt_cache(std::shared_ptr<Engine> engine) {
  return std::make_shared<Cache>(std::move(engine));
}

std::shared_ptr<SequenceCache> sequence_cache(const PromptCachePtr& cache) {
  if (!cache) return nullptr;
  auto* known = dynamic_cast<const Cache*>(cache.get());
  if (!known)
    fail(
        ErrorKind::request,
        "prompt cache",
        "expected one from make_prompt_cache, found another");
  return known->inside();
}

} // namespace mlxlm

#include "nn/prediction.h"

#include <mlx/ops.h>

#include <utility>

#include "core/check.h"

namespace mlxlm {
namespace {

class Prediction : public Model {
 public:
  Prediction(
      const Scope& s,
      const PredictionOptions& o,
      PredictionFrame frame,
      std::vector<Layer> block)
      : options_(o),
        frame_(std::move(frame)),
        token_norm_(rms_norm(s, "token_norm", frame_.hidden, o.eps)),
        hidden_norm_(rms_norm(s, "hidden_norm", frame_.hidden, o.eps)),
        proj_(s.linear("proj", 2 * frame_.hidden, frame_.hidden)),
        stack_(std::move(block)),
        norm_(
            o.own_norm ? rms_norm(s, "norm", frame_.hidden, o.eps)
                       : frame_.norm) {
    if (s.has("head")) head_ = s.linear("head", frame_.hidden, frame_.vocab);
  }

  mx::array hidden(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    MLXLM_CHECK(input.hidden, "a prediction without hidden states");
    auto token = token_norm_(frame_.embed(input));
    auto state = hidden_norm_(*input.hidden);
    if (options_.hidden_first) std::swap(token, state);
    auto x = proj_(mx::concatenate({token, state}, -1));
    return stack_(x, step, memory, rows, norm_);
  }
  mx::array head(const mx::array& hidden) const override {
    return frame_.head(hidden, head_ ? &*head_ : nullptr);
  }
  std::vector<CacheSpec> caches() const override {
    return stack_.caches();
  }
  int vocab() const override {
    return frame_.vocab;
  }

 private:
  PredictionOptions options_;
  PredictionFrame frame_;
  Norm token_norm_, hidden_norm_;
  Linear proj_;
  Stack stack_;
  Norm norm_;
  std::optional<Linear> head_;
};

} // namespace

ModelPtr prediction(
    const Scope& s,
    const PredictionOptions& options,
    PredictionFrame frame,
    Layer block) {
  std::vector<Layer> layers;
  layers.push_back(std::move(block));
  return std::make_unique<Prediction>(
      s, options, std::move(frame), std::move(layers));
}

} // namespace mlxlm

// The tokens that may still be drawn and their logits: what the filters narrow.
// It starts as a whole row of the vocabulary, without copying it.
#pragma once

#include <span>
#include <vector>

namespace mlxlm {

class Distribution {
 public:
  // Of a row [vocab] that outlives this. `finite()` says whether anything can
  // be drawn from it at all.
  void reset(std::span<const float> row);
  // False when the row holds NaN or +inf, or nothing above -inf.
  bool finite() const {
    return finite_;
  }

  std::span<const float> logits() const {
    return narrowed_ ? std::span<const float>(kept_) : row_;
  }
  // Token of entry `index`; entries are in the order of the vocabulary.
  int token(std::size_t index) const {
    return narrowed_ ? tokens_[index] : static_cast<int>(index);
  }
  std::size_t size() const {
    return logits().size();
  }
  std::size_t row_size() const { // before any filter
    return row_.size();
  }
  // The largest logit left.
  float max() const {
    return max_;
  }
  // Sum of exp(logit - max()) over what is left.
  double mass() const;
  // log of the sum of exp(logit) over the whole row: logit - this is the
  // token's log-probability before any filter.
  double log_normalizer() const;
  double exact_log_normalizer() const; // in f64, ten times slower

  // Multiplies what is left by 1 / temperature.
  void temper(float scale);
  // Keeps the entries whose logit is at least `threshold`.
  void keep_from(float threshold);
  // Keeps the entries for which `keep(index)` holds.
  template <typename Keep>
  void keep_if(const Keep& keep);

 private:
  void finish_narrowing();

  std::span<const float> row_;
  bool narrowed_ = false, finite_ = false;
  float max_ = 0;
  std::vector<int> tokens_;
  std::vector<float> kept_;
};

template <typename Keep>
void Distribution::keep_if(const Keep& keep) {
  auto logits = this->logits();
  std::size_t count = logits.size(), out = 0;
  if (!narrowed_) {
    tokens_.clear();
    kept_.clear();
    for (std::size_t i = 0; i < count; ++i)
      if (keep(i)) {
        tokens_.push_back(static_cast<int>(i));
        kept_.push_back(logits[i]);
      }
    narrowed_ = true;
  } else {
    for (std::size_t i = 0; i < count; ++i)
      if (keep(i)) {
        tokens_[out] = tokens_[i];
        kept_[out++] = kept_[i];
      }
    tokens_.resize(out);
    kept_.resize(out);
  }
  finish_narrowing();
}

// The logit t for which keeping every entry >= t keeps the most likely entries
// until their mass reaches `fraction` of the total (top-p).
float mass_threshold(const Distribution& distribution, double fraction);
// The k-th largest logit, 1 <= k <= size.
float rank_threshold(const Distribution& distribution, std::size_t k);

// Index of the largest value, ties to the lowest; -1 when a value is NaN or
// +inf or all are -inf.
int argmax(std::span<const float> row);

} // namespace mlxlm

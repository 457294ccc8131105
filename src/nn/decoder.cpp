#include "nn/decoder.h"

#include <mlx/ops.h>

#include "core/check.h"

namespace mlxlm {

mx::array take_rows(const mx::array& x, const std::vector<int>& rows) {
  int count = static_cast<int>(rows.size());
  int first = count ? rows.front() : 0;
  bool run = true;
  for (int i = 0; i < count; ++i) {
    MLXLM_CHECK(rows[i] >= 0 && rows[i] < x.shape(1), "row outside the pass");
    run = run && rows[i] == first + i;
  }
  if (run && count == x.shape(1)) return x;
  if (run) {
    auto start = mx::Shape(x.ndim(), 0);
    auto stop = x.shape();
    start[1] = first;
    stop[1] = first + count;
    return mx::slice(x, start, stop);
  }
  return mx::take(x, mx::array(rows.data(), {count}, mx::int32), 1);
}

Stack::Stack(std::vector<Layer> layers) {
  for (auto& l : layers) {
    for (auto& sub : l.parts) {
      auto spec = sub.op->cache();
      bool remembers = !std::holds_alternative<std::monostate>(spec);
      int slot = remembers ? static_cast<int>(caches_.size()) : -1;
      if (remembers) caches_.push_back(std::move(spec));
      parts_.push_back({std::move(sub), slot});
    }
  }
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].slot >= 0) after_last_cache_ = i + 1;
}

mx::array Stack::operator()(
    mx::array h,
    const Step& step,
    Memory& memory,
    const std::vector<int>& rows,
    const Norm& last) const {
  std::optional<mx::array> branch; // computed, not yet added to h
  auto x = h; // what the last norm gave
  auto narrow = [&] {
    h = take_rows(h, rows);
    x = take_rows(x, rows);
    if (branch) branch = take_rows(*branch, rows);
  };
  auto enter = [&](const Norm& norm) {
    if (!branch) return norm(h);
    auto [sum, normed] = norm.add(*branch, h);
    h = sum;
    branch.reset();
    return normed;
  };
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto& [sub, slot] = parts_[i];
    if (i == after_last_cache_) {
      // Evaluating no rows of the last branch still runs all that remembers.
      if (rows.empty()) return take_rows(branch ? *branch : h, rows);
      narrow();
    }
    if (!sub.beside)
      x = enter(sub.pre);
    else if (!sub.pre.identity())
      x = sub.pre(h);
    auto y = (*sub.op)(x, step, slot < 0 ? nullptr : &memory.layer(slot));
    y = sub.post(y);
    if (sub.scale != 1) y = y * mx::array(sub.scale, y.dtype());
    branch = branch ? *branch + y : y;
  }
  if (after_last_cache_ == parts_.size()) narrow();
  return rows.empty() ? *branch : enter(last);
}

namespace {

class Decoder : public Model {
 public:
  Decoder(const Scope& w, DecoderOptions o, std::vector<Layer> layers)
      : options_(std::move(o)),
        embed_(w.embedding(options_.embed, options_.vocab, options_.hidden)),
        stack_(std::move(layers)),
        head_(
            options_.tied ? embed_
                          : w.linear(
                                options_.head,
                                options_.hidden,
                                options_.vocab,
                                {.bias = options_.head_bias})),
        type_(w.compute_type()) {}

  mx::array operator()(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    auto h = input.embeddings ? *input.embeddings
                              : embed_.kernel().rows(input.tokens, type_);
    if (options_.embed_scale != 1)
      h = h * mx::array(options_.embed_scale, h.dtype());
    h = options_.embed_norm(h);
    h = stack_(h, step, memory, rows, options_.norm);
    return logits(h, static_cast<int>(rows.size()));
  }
  std::vector<CacheSpec> caches() const override {
    return stack_.caches();
  }
  int vocab() const override {
    return options_.vocab;
  }

 private:
  mx::array logits(const mx::array& h, int rows) const {
    auto y = rows ? head_(h) : h;
    y = mx::astype(mx::reshape(y, {rows, options_.vocab}), mx::float32);
    if (rows == 0) return y;
    if (options_.logit_scale != 1) y = y * mx::array(options_.logit_scale);
    if (options_.softcap > 0) {
      auto cap = mx::array(options_.softcap);
      y = cap * mx::tanh(y / cap);
    }
    return y;
  }

  DecoderOptions options_;
  Linear embed_;
  Stack stack_;
  Linear head_;
  mx::Dtype type_;
};

} // namespace

ModelPtr decoder(
    const Scope& w,
    DecoderOptions options,
    const BlockMaker& block) {
  std::vector<Layer> layers;
  auto at = w / options.layers;
  for (int i = 0; i < options.depth; ++i)
    layers.push_back(block(i, at / i));
  return std::make_unique<Decoder>(w, std::move(options), std::move(layers));
}

} // namespace mlxlm

#include "nn/decoder.h"

#include <mlx/ops.h>

#include <utility>

#include "core/check.h"
#include "core/strings.h"
#include "nn/prediction.h"
#include "runtime/kernels/elementwise.h"
#include "runtime/slices.h"

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
  if (run) return slice_axis(x, 1, first, first + count);
  return mx::take(x, mx::array(rows.data(), {count}, mx::int32), 1);
}

Stack::Stack(std::vector<Layer> layers) {
  for (auto& l : layers) {
    for (auto& sub : l.parts) {
      auto specs = sub.op->caches();
      int slot = static_cast<int>(caches_.size());
      int slots = static_cast<int>(specs.size());
      parts_.push_back({std::move(sub), slot, slots, {}, false});
      for (auto& spec : specs) {
        after_last_cache_ = parts_.size();
        if (!std::holds_alternative<SharedKv>(spec))
          after_last_store_ = parts_.size();
        caches_.push_back(std::move(spec));
      }
    }
    if (!l.parts.empty()) parts_.back().last = true;
    if (!l.end) continue;
    MLXLM_CHECK(!l.parts.empty(), "a layer without parts that ends");
    parts_.back().end = std::move(l.end);
  }
}

mx::array Stack::operator()(
    mx::array h,
    const Step& step,
    Memory& memory,
    const std::vector<int>& rows,
    const Norm& last,
    std::optional<mx::array> side) const {
  std::optional<mx::array> branch; // computed, not yet added to h
  std::optional<mx::array> late; // for the end of the layer
  auto add = [](std::optional<mx::array>& sum, const mx::array& y) {
    sum = sum ? kernels::add(*sum, y) : y;
  };
  auto x = h; // what the last norm gave
  auto narrow = [&] {
    h = take_rows(h, rows);
    x = take_rows(x, rows);
    if (branch) branch = take_rows(*branch, rows);
    if (side) side = take_rows(*side, rows);
    if (late) late = take_rows(*late, rows);
  };
  auto enter = [&](const Norm& norm) {
    if (!branch) return norm(h);
    auto [sum, normed] = norm.add(*branch, h);
    h = sum;
    branch.reset();
    return normed;
  };
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto& [sub, slot, slots, end, ends] = parts_[i];
    // Evaluating no rows of the last branch still runs all that remembers.
    if (i == after_last_store_ && rows.empty()) break;
    if (i == after_last_cache_) narrow();
    if (!sub.beside)
      x = enter(sub.pre);
    else if (!sub.pre.identity())
      x = sub.pre(h);
    std::vector<LayerCache*> views;
    for (int k = 0; k < slots; ++k)
      views.push_back(&memory.layer(slot + k));
    auto y = sub.post(sub.op->run(x, step, views));
    if (sub.scale != 1) y = kernels::scaled(y, sub.scale);
    add(sub.late ? late : branch, y);
    if (ends && late) add(branch, *std::exchange(late, std::nullopt));
    if (!end) continue;
    h = end(h + *branch, side);
    branch.reset();
  }
  if (rows.empty()) return take_rows(branch ? *branch : h, rows);
  if (after_last_cache_ == parts_.size()) narrow();
  return enter(last);
}

namespace {

// One over the lengths of a plain matrix' rows; none for other formats.
std::optional<mx::array> inverse_lengths(const Linear& head) {
  auto format = lower_ascii(head.kernel().format());
  if (format != "f32" && format != "f16" && format != "bf16")
    return std::nullopt;
  constexpr int at_once = 4096;
  int rows = head.kernel().shape()[0];
  std::vector<mx::array> parts;
  for (int i = 0; i < rows; i += at_once) {
    auto ids = mx::arange(i, std::min(rows, i + at_once), 1, mx::int32);
    auto part = head.kernel().rows(ids, mx::float32);
    auto length = mx::sqrt(mx::sum(mx::square(part), -1));
    parts.push_back(mx::reciprocal(length + mx::array(1e-7f)));
    parts.back().eval();
  }
  return mx::concatenate(parts);
}

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
        type_(w.compute_type()) {
    if (!options_.positions.empty())
      positions_ = w.embedding(
          options_.positions, options_.position_count, options_.hidden);
    if (options_.tied && options_.head_bias == Bias::required)
      bias_ = (w / options_.head).param("bias", {options_.vocab});
    if (options_.unit_columns) {
      auto squares = mx::square(head_.kernel().dense(mx::float32));
      shrink_ =
          mx::array(1.0f) / (mx::sqrt(mx::sum(squares, 0)) + mx::array(1e-7f));
      shrink_->eval();
    }
    if (options_.unit_head) gain_ = inverse_lengths(head_);
  }

  mx::array operator()(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    return logits(
        hidden(input, step, memory, rows),
        static_cast<int>(rows.size()),
        head_);
  }
  mx::array hidden(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    auto h = embeddings(input);
    if (positions_) h = h + positions(step);
    h = options_.embed_norm(h);
    std::optional<mx::array> side;
    if (options_.side) side = options_.side(input, h);
    return stack_(h, step, memory, rows, options_.norm, side);
  }
  mx::array head(const mx::array& hidden) const override {
    return logits(hidden, hidden.shape(1), head_);
  }
  mx::array embed(const Input& input) const override {
    return embeddings(input);
  }
  const Model* prediction() const override {
    return prediction_.get();
  }
  void predict(const Scope& s, Layer block) {
    PredictionFrame frame{
        .hidden = options_.hidden,
        .vocab = options_.vocab,
        .norm = options_.norm,
        .embed = [this](const Input& input) { return embeddings(input); },
        .head =
            [this](const mx::array& h, const Linear* own) {
              return logits(h, h.shape(1), own ? *own : head_);
            }};
    prediction_ = mlxlm::prediction(
        s, options_.prediction, std::move(frame), std::move(block));
  }
  std::vector<CacheSpec> caches() const override {
    return stack_.caches();
  }
  int vocab() const override {
    return options_.vocab;
  }

 private:
  mx::array embeddings(const Input& input) const {
    auto h = input.embeddings ? *input.embeddings
                              : embed_.kernel().rows(input.tokens, type_);
    if (options_.embed_scale != 1) h = kernels::scaled(h, options_.embed_scale);
    return h;
  }

  // [1, N, hidden] of the step's positions.
  mx::array positions(const Step& step) const {
    for (int p : step.position_list())
      if (p >= options_.position_count)
        fail(
            ErrorKind::request,
            "context",
            "expected at most {} tokens, which is all this model has positions "
            "for, found more",
            options_.position_count);
    return positions_->kernel().rows(mx::expand_dims(step.positions, 0), type_);
  }

  mx::array logits(const mx::array& h, int rows, const Linear& head) const {
    auto x = shrink_ ? h * mx::astype(*shrink_, h.dtype()) : h;
    auto y = rows ? head(x) : h;
    if (rows && bias_) y = y + **bias_;
    y = mx::astype(mx::reshape(y, {rows, options_.vocab}), mx::float32);
    if (rows == 0) return y;
    if (gain_) y = y * *gain_;
    if (options_.logit_scale != 1) y = kernels::scaled(y, options_.logit_scale);
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
  std::optional<Linear> positions_;
  std::optional<Param> bias_; // of a tied head
  std::optional<mx::array> shrink_; // [hidden], of what the head is given
  std::optional<mx::array> gain_; // of each logit
  ModelPtr prediction_; // null: none
};

} // namespace

ModelPtr decoder(
    const Scope& w,
    DecoderOptions options,
    const BlockMaker& block) {
  int depth = options.depth;
  std::vector<Layer> layers;
  auto at = w / options.layers;
  for (int i = 0; i < depth; ++i)
    layers.push_back(block(i, at / i));
  auto out =
      std::make_unique<Decoder>(w, std::move(options), std::move(layers));
  auto ahead = w / "prediction";
  if (ahead.has("token_norm"))
    out->predict(ahead, block(depth, ahead / "block"));
  return out;
}

} // namespace mlxlm

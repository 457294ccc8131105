// Scripts of the family `kv_cache`: what attention sees of our paged memory
// against the rows mlx-lm's caches hold, compared through the attention output
// of random queries.
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>

#include "conformance.h"
#include "core/files.h"
#include "golden.h"
#include "kv_cases.h"

namespace mlxlm::conformance {
namespace {

constexpr int query_heads_per_kv_head = 4;

// An array [.., ..] of floats as a golden file holds it.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> data;

  explicit Tensor(const GoldenTensor& t) : shape(t.shape), data(t.floats()) {}
  // `name`, or what the parts `name`.weight, .scales and .biases stand for.
  Tensor(const Golden& golden, const std::string& name, const QuantizedKv& how)
      : Tensor(golden[golden.has(name) ? name : name + ".scales"]) {
    if (golden.has(name)) return;
    auto scales = data;
    auto biases = golden[name + ".biases"].floats();
    auto words = golden[name + ".weight"].ints();
    shape[3] *= how.group;
    data.resize(scales.size() * how.group);
    for (std::size_t i = 0; i < data.size(); ++i) {
      unsigned code = 0;
      for (int b = 0; b < how.bits; ++b) { // one bit stream
        auto at = i * how.bits + b;
        code |= (unsigned(words[at / 32]) >> at % 32 & 1) << b;
      }
      auto g = i / how.group;
      data[i] = scales[g] * float(code) + biases[g];
    }
  }
  // Token t of sequence b: its rows of all heads, [H * D].
  std::vector<float> token(int b, int t) const {
    std::vector<float> out;
    for (int h = 0; h < shape[1]; ++h) {
      auto part = row(b, h, t);
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  }
  void set_token(int b, int t, const std::vector<float>& values) {
    for (int h = 0; h < shape[1]; ++h)
      std::copy_n(
          values.begin() + h * shape[3],
          shape[3],
          data.begin() + ((b * shape[1] + h) * shape[2] + t) * shape[3]);
  }
  // Row [b][h][t] of a [B, H, T, D] tensor.
  std::span<const float> row(int b, int h, int t) const {
    auto at = ((b * shape[1] + h) * shape[2] + t) * shape[3];
    return {data.data() + at, std::size_t(shape[3])};
  }
};

// Which of the rows an operation fetched a new token may see.
class Mask {
 public:
  Mask(const Golden& golden, const Json& op) {
    auto name = op.find("mask");
    given_ = name != op.end();
    if (given_ && name->is_string())
      tensor_.emplace(golden[name->get<std::string>()]);
  }
  // Query `t` of `tokens`, row `s` of `rows` (in temporal order, as long as a
  // chunk has no mask of its own).
  bool sees(int b, int t, int tokens, int s, int rows) const {
    if (!tensor_) return given_ || s <= rows - tokens + t;
    const auto& shape = tensor_->shape;
    auto batch = shape.size() == 4 ? b * shape[2] : 0;
    return tensor_->data[std::size_t((batch + t) * shape.back() + s)] != 0;
  }

 private:
  bool given_ = false;
  std::optional<Tensor> tensor_;
};

// Plays a script on sequences of one memory with one attention layer.
class Script {
 public:
  explicit Script(const Case& c)
      : golden_(c.path("arrays.safetensors")),
        ops_(read_json(c.path("ops.json"))),
        padding_(c.json.opt<std::vector<int>>("left_padding", {0})) {
    Tensor first(golden_["in_k0"]);
    heads_ = int(first.shape[1]);
    dim_ = int(first.shape[3]);
    how_ = quantized(c);
    MemoryOptions options{.dtype = mx::float32, .page_tokens = 4};
    if (how_.bits > 0) options.storage = kv_storage(how_);
    memory_ = make_memory({spec(c)}, options);
    for (std::size_t i = 0; i < padding_.size(); ++i)
      sequences_.push_back(memory_->sequence());
    history_.resize(padding_.size());
  }

  // Rows are bit-equal; sums of scale * code and bias cancel more.
  double allowed() const {
    return how_.bits > 0 ? 5e-5 : 1e-5;
  }

  // Recorded rows that no operation ever stored: the recorder's buffer was
  // overwritten after a trim.
  int overwritten() const {
    return overwritten_;
  }

  // The largest difference of an attention output.
  double run() {
    int index = 0;
    for (auto& op : ops_) {
      auto name = op.at("op").get<std::string>();
      if (name == "update")
        update(op, index);
      else if (name == "trim")
        trim(op);
      else if (name == "filter")
        filter(op);
      else if (name != "to_quantized") // KvStorage::start says it
        fail(ErrorKind::request, "ops.json", "unknown operation {}", name);
      ++index;
    }
    return worst_;
  }

 private:
  CacheSpec spec(const Case& c) const {
    int window = c.json.opt("max_size", 0);
    for (auto& op : ops_)
      if (auto w = op.find("window_size"); w != op.end() && w->is_number())
        window = std::min(window, w->get<int>());
    if (window > 0)
      return SlidingKv{heads_, dim_, window, 0, false, c.json.opt("keep", 0)};
    return FullKv{heads_, dim_};
  }

  QuantizedKv quantized(const Case& c) const {
    QuantizedKv out{c.json.opt("bits", 0), c.json.opt("group_size", 64)};
    for (auto& op : ops_) {
      if (op.at("op") != "to_quantized") continue;
      out.bits = op.at("bits").get<int>();
      out.group = op.at("group_size").get<int>();
      out.start = op.at("offset").get<int>();
    }
    return out;
  }

  // The first update's padding is no token of the sequence.
  int skipped(std::size_t b) const {
    return started_ ? 0 : padding_[b];
  }

  void update(const Json& op, int index) {
    Tensor k(golden_[fmt::format("in_k{}", index)]);
    Tensor v(golden_[fmt::format("in_v{}", index)]);
    int tokens = int(k.shape[2]);
    std::vector<Segment> segments;
    int total = 0;
    for (std::size_t b = 0; b < sequences_.size(); ++b) {
      int count = tokens - skipped(b);
      segments.push_back(
          {sequences_[b].get(), total, count, sequences_[b]->length(), count});
      sequences_[b]->begin(count);
      total += count;
    }
    Step step(segments);
    auto q =
        mx::random::normal({1, total, heads_ * query_heads_per_kv_head, dim_});
    auto out = mx::contiguous(memory_->layer(0).attend(
        step, q, rows(k, total), rows(v, total), {.scale = 1}));
    q = mx::contiguous(q);
    mx::eval(q, out);
    for (auto& s : segments)
      s.sequence->commit(s.count);
    for (std::size_t b = 0; b < sequences_.size(); ++b)
      for (int t = skipped(b); t < tokens; ++t)
        history_[b].emplace_back(k.token(int(b), t), v.token(int(b), t));
    compare(op, index, tokens, q, out);
    started_ = true;
  }

  // The new tokens of all sequences end to end: [1, N, heads, dim].
  mx::array rows(const Tensor& in, int total) const {
    std::vector<float> flat;
    for (std::size_t b = 0; b < sequences_.size(); ++b)
      for (int t = skipped(b); t < in.shape[2]; ++t)
        for (int h = 0; h < heads_; ++h) {
          auto row = in.row(int(b), h, t);
          flat.insert(flat.end(), row.begin(), row.end());
        }
    return mx::array(flat.data(), {1, total, heads_, dim_}, mx::float32);
  }

  void compare(
      const Json& op,
      int index,
      int tokens,
      const mx::array& q,
      const mx::array& out) {
    Tensor keys(golden_, fmt::format("out_k{}", index), how_);
    Tensor values(golden_, fmt::format("out_v{}", index), how_);
    Mask mask(golden_, op);
    int rows = int(keys.shape[2]), n = 0;
    mend(keys, values);
    for (std::size_t b = 0; b < sequences_.size(); ++b)
      for (int t = skipped(b); t < tokens; ++t, ++n)
        for (int h = 0; h < heads_ * query_heads_per_kv_head; ++h) {
          std::vector<int> seen;
          for (int s = 0; s < rows; ++s)
            if (mask.sees(int(b), t, tokens, s, rows)) seen.push_back(s);
          auto at = (n * heads_ * query_heads_per_kv_head + h) * dim_;
          auto expected = attention(
              {q.data<float>() + at, std::size_t(dim_)},
              keys,
              values,
              int(b),
              h / query_heads_per_kv_head,
              seen);
          worst_ = std::max(
              worst_,
              max_abs(
                  expected,
                  std::span(out.data<float>() + at, std::size_t(dim_))));
        }
  }

  // As long as a buffer is in temporal order and not wrapped, slot s of an
  // unpadded sequence is its token s: what was stored there replaces rows that
  // were never stored at all.
  void mend(Tensor& keys, Tensor& values) {
    if (sequences_.size() != 1 || how_.bits > 0) return;
    const auto& tokens = history_[0];
    if (std::size_t(keys.shape[2]) != tokens.size()) return;
    for (int s = 0; s < keys.shape[2]; ++s) {
      auto recorded = keys.token(0, s);
      auto known = std::any_of(tokens.begin(), tokens.end(), [&](auto& t) {
        return t.first == recorded;
      });
      if (known) continue;
      ++overwritten_;
      keys.set_token(0, s, tokens[s].first);
      values.set_token(0, s, tokens[s].second);
    }
  }

  static std::vector<float> attention(
      std::span<const float> q,
      const Tensor& keys,
      const Tensor& values,
      int b,
      int h,
      const std::vector<int>& seen) {
    std::vector<double> scores;
    for (int s : seen) {
      auto k = keys.row(b, h, s);
      double score = 0;
      for (std::size_t i = 0; i < q.size(); ++i)
        score += double(q[i]) * k[i];
      scores.push_back(score);
    }
    double top = *std::max_element(scores.begin(), scores.end()), sum = 0;
    for (auto& score : scores)
      sum += score = std::exp(score - top);
    std::vector<float> out(std::size_t(values.shape[3]));
    for (std::size_t s = 0; s < seen.size(); ++s) {
      auto v = values.row(b, h, seen[s]);
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] += float(scores[s] / sum * v[i]);
    }
    return out;
  }

  void trim(const Json& op) {
    for (std::size_t b = 0; b < sequences_.size(); ++b) {
      auto& sequence = sequences_[b];
      int length = sequence->length() - op.at("trimmed").get<int>();
      int reached = sequence->trim(length);
      if (reached != length)
        fail(
            ErrorKind::internal,
            "trim",
            "expected a length of {}, found {}",
            length,
            reached);
      history_[b].resize(std::size_t(length));
    }
  }

  void filter(const Json& op) {
    std::vector<std::unique_ptr<SequenceMemory>> kept;
    decltype(history_) histories;
    for (auto b : op.at("keep").get<std::vector<std::size_t>>()) {
      kept.push_back(std::move(sequences_.at(b)));
      histories.push_back(std::move(history_.at(b)));
    }
    sequences_ = std::move(kept);
    history_ = std::move(histories);
  }

  Golden golden_;
  Json ops_;
  std::vector<int> padding_;
  int heads_ = 0, dim_ = 0;
  QuantizedKv how_;
  std::unique_ptr<Memory> memory_;
  std::vector<std::unique_ptr<SequenceMemory>> sequences_;
  // Each sequence's keys and values, token by token.
  std::vector<std::vector<std::pair<std::vector<float>, std::vector<float>>>>
      history_;
  bool started_ = false;
  double worst_ = 0;
  int overwritten_ = 0;
};

} // namespace

Outcome kv_script_case(const Case& c) {
  Script script(c);
  double worst = script.run();
  auto figure = fmt::format("attention differs by {:.1e}", worst);
  if (script.overwritten() > 0)
    figure += fmt::format(
        ", {} recorded rows were never stored", script.overwritten());
  return judge(worst <= script.allowed() && script.overwritten() <= 2, figure);
}

} // namespace mlxlm::conformance

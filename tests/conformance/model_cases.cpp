// Families `text`, `quantized` and `jang`: a checkpoint against recorded
// logits. Every case runs in float32, and half-precision ones in their own type
// as well; and whatever way the tokens are cut into passes, the logits must be
// the same.
#include <mlx/ops.h>

#include <cmath>
#include <map>

#include "conformance.h"
#include "convert_check.h"
#include "core/strings.h"
#include "golden.h"
#include "model_run.h"

namespace mlxlm::conformance {

namespace {

// Lines of one case's figure, and whether all held.
class Verdict {
 public:
  void require(std::string_view what, double found, double allowed) {
    bool holds = found <= allowed; // false for NaN
    ok_ = ok_ && holds;
    if (!text_.empty()) text_ += ", ";
    text_ += holds
        ? fmt::format("{} {:.1e}", what, found)
        : fmt::format("{} {:.3e} above {:.1e}", what, found, allowed);
  }
  void require(std::string_view what, bool holds) {
    ok_ = ok_ && holds;
    if (!holds)
      text_ += fmt::format("{}{} differ", text_.empty() ? "" : ", ", what);
  }
  Outcome outcome() const {
    return judge(ok_, text_);
  }

 private:
  bool ok_ = true;
  std::string text_;
};

double mean_abs(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += std::fabs(a[i] - b[i]);
  return a.empty() ? 0 : sum / static_cast<double>(a.size());
}

// The smallest cosine between rows of length `width`.
double least_cosine(
    std::span<const float> a,
    std::span<const float> b,
    int width) {
  double least = 1;
  for (std::size_t at = 0; at + width <= a.size(); at += width) {
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < width; ++i) {
      double x = a[at + i], y = b[at + i];
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    least = std::min(least, ab / std::sqrt(aa * bb));
  }
  return least;
}

// Greedy picks, compared as long as the recorded margin is wider than `noise`.
bool same_picks(
    std::span<const float> logits,
    std::span<const float> golden,
    const std::vector<int>& ids,
    int vocab,
    double noise) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    auto row = golden.subspan(i * vocab, vocab);
    float second = -INFINITY;
    for (int v = 0; v < vocab; ++v)
      if (v != ids[i]) second = std::max(second, row[v]);
    if (row[ids[i]] - second <= noise) return true;
    if (argmax(logits.subspan(i * vocab, vocab)) != ids[i]) return false;
  }
  return true;
}

// Chunks, single tokens and company must not change the logits.
void cut_differently(
    Verdict& verdict,
    const ModelRun& run,
    const std::vector<int>& ids,
    const Logits& whole,
    double allowed) {
  verdict.require("chunks", max_abs(run.logits(ids, 7), whole), allowed);
  verdict.require("stepwise", max_abs(run.logits(ids, 1), whole), allowed);
  std::vector<int> start(ids.begin(), ids.begin() + 5);
  auto all = run.together({start, ids, ids}, {1, 3, 64});
  auto head = std::span(whole).first(start.size() * run.vocab());
  double worst = std::max(
      {max_abs(all[0], head), max_abs(all[1], whole), max_abs(all[2], whole)});
  verdict.require("together", worst, allowed);
}

mx::Dtype type_of(const std::string& name) {
  if (name == "bfloat16") return mx::bfloat16;
  if (name == "float16") return mx::float16;
  return mx::float32;
}

// Passes of different shapes may round differently, within this.
double rounding(const Logits& logits) {
  return 1e-4 * std::max(1.0, max_abs(logits));
}

} // namespace

Outcome text_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["input_ids"].ints();
  auto greedy = golden["greedy_ids"].ints();
  auto expected = golden["logits"].floats();
  auto expected_greedy = golden["greedy_logits"].floats();
  auto tolerance = c.json.sub("tolerance");
  int length = static_cast<int>(ids.size());
  Verdict verdict;
  {
    ModelRun run(c.path("model"), mx::float32);
    auto whole = run.logits(ids, length);
    double allowed = tolerance.req<double>("logits_max_abs");
    verdict.require("logits", max_abs(whole, expected), allowed);
    auto decoded = run.decode(ids, greedy);
    double noise = tolerance.req<double>("greedy_logits_max_abs");
    verdict.require("greedy", max_abs(decoded, expected_greedy), noise);
    verdict.require(
        "greedy ids",
        same_picks(decoded, expected_greedy, greedy, run.vocab(), 2 * noise));
    cut_differently(verdict, run, ids, whole, rounding(whole));
  }
  auto type = c.json.req<std::string>("dtype");
  auto key = type + "_compute_logits_max_abs";
  if (tolerance.has(key)) {
    ModelRun run(c.path("model"), type_of(type));
    auto whole = run.logits(ids, length);
    verdict.require(type, max_abs(whole, expected), tolerance.req<double>(key));
    verdict.require(
        type + " mean",
        mean_abs(whole, expected),
        tolerance.req<double>(type + "_compute_logits_mean_abs"));
  }
  return verdict.outcome();
}

Outcome quantized_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["input_ids"].ints();
  auto greedy = golden["greedy_ids"].ints();
  auto own = golden["logits"].floats();
  auto exact =
      golden[golden.has("logits_f32") ? "logits_f32" : "logits"].floats();
  auto expected_greedy = golden["greedy_logits"].floats();
  auto tolerance = c.json.sub("tolerance");
  double noise = tolerance.req<double>("logits_max_abs");
  int length = static_cast<int>(ids.size());
  auto type = c.json.req<std::string>("dtype");
  bool half = type != "float32";
  Verdict verdict;
  {
    ModelRun run(c.path("model"), mx::float32);
    auto whole = run.logits(ids, length);
    double allowed = 1e-3 * std::max(1.0, c.json.opt("logits_std", 1.0));
    verdict.require("logits", max_abs(whole, exact), allowed);
    cut_differently(verdict, run, ids, whole, rounding(whole));
  }
  ModelRun run(c.path("model"), type_of(type));
  auto whole = run.logits(ids, length);
  verdict.require(type, max_abs(whole, own), noise);
  if (half)
    verdict.require(
        "1 - cosine",
        1 - least_cosine(whole, own, run.vocab()),
        1 - tolerance.req<double>("cosine_min"));
  verdict.require(
      "greedy ids",
      same_picks(
          run.decode(ids, greedy),
          expected_greedy,
          greedy,
          run.vocab(),
          noise));
  if (c.json.has("convert")) {
    auto difference = conversion_difference(c);
    verdict.require("conversion: " + difference + ":", difference.empty());
  }
  return verdict.outcome();
}

namespace {

// Whether every tensor that expected_quantization.json lists was read with the
// width and group it says. Paths are those in the file.
bool widths_as_expected(const Case& c, const LoadedModel& model) {
  std::map<std::string, std::string> formats;
  for (const auto& entry : model.parameters->entries())
    if (const auto* linear = std::get_if<Linear>(&entry.handle))
      formats[entry.path] = linear->kernel().format();
  auto path = c.path("expected_quantization.json");
  Fields expected(read_json(path), path);
  for (const auto& [stored, value] : expected.json().items()) {
    auto f = expected.sub(stored);
    auto name = stored;
    for (const char* prefix :
         {"model.language_model.", "language_model.model."})
      if (starts_with(name, prefix))
        name = "model." + name.substr(std::string_view(prefix).size());
    auto it = formats.find(name);
    if (it == formats.end()) continue; // split or renamed by its family
    auto want = fmt::format(
        "affine {} bit, group {}",
        f.req<int>("bits"),
        f.req<int>("group_size"));
    if (!starts_with(it->second, want)) return false;
  }
  return true;
}

} // namespace

Outcome jang_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["input_ids"].ints();
  auto greedy = golden["greedy_ids"].ints();
  auto expected = golden["logits"].floats();
  auto tolerance = c.json.sub("tolerance");
  double allowed = tolerance.sub("float32").req<double>("logits_max_abs");
  int length = static_cast<int>(ids.size());
  Verdict verdict;
  {
    ModelRun run(c.path("model"), mx::float32);
    auto whole = run.logits(ids, length);
    verdict.require("logits", max_abs(whole, expected), allowed);
    verdict.require(
        "greedy ids",
        same_picks(
            run.decode(ids, greedy),
            golden["greedy_logits"].floats(),
            greedy,
            run.vocab(),
            0));
    cut_differently(verdict, run, ids, whole, rounding(whole));
    verdict.require("widths", widths_as_expected(c, run.model()));
  }
  // Either half type may meet a router's near tie the other way.
  auto half = tolerance.sub("half");
  double least = INFINITY, cosine = 0;
  for (auto type : {mx::float16, mx::bfloat16}) {
    ModelRun run(c.path("model"), type);
    auto whole = run.logits(ids, length);
    if (max_abs(whole, expected) >= least) continue;
    least = max_abs(whole, expected);
    cosine = least_cosine(whole, expected, run.vocab());
  }
  verdict.require("half", least, half.req<double>("logits_max_abs"));
  verdict.require("1 - cosine", 1 - cosine, 1 - half.req<double>("cosine_min"));
  return verdict.outcome();
}

namespace {

// What no runner is for: data sets, training runs, fused models.
std::optional<std::string> adapter_direction(const Case& c) {
  if (c.json.has("format")) return "data_sets";
  if (c.json.has("optimizer")) return "training";
  return std::nullopt;
}

// The largest difference of a fused layer's recorded matrices from what the
// adapted ones are as a whole; layers that were packed again are left out.
double fused_difference(const Golden& golden, const LoadedModel& model) {
  double worst = 0;
  for (const auto& entry : model.parameters->entries()) {
    const auto* linear = std::get_if<Linear>(&entry.handle);
    auto name = "fused." + entry.path + ".weight";
    if (!linear || !golden.has(name) || golden[name].dtype != "F32") continue;
    auto dense = mx::contiguous(linear->kernel().dense(mx::float32));
    dense.eval();
    worst = std::max(
        worst,
        max_abs({dense.data<float>(), dense.size()}, golden[name].floats()));
  }
  return worst;
}

} // namespace

Outcome adapter_case(const Case& c) {
  if (auto needed = adapter_direction(c)) {
    if (c.not_built->has("direction", *needed))
      return skipped("not built: direction " + *needed);
    return judge(false, "no runner for direction " + *needed);
  }
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["input_ids"].ints();
  auto expected = golden["logits"].floats();
  auto allowed = c.json.sub("tolerance").req<double>("logits_max_abs");
  int length = static_cast<int>(ids.size());
  auto base = c.path(c.json.req<std::string>("base"));
  Verdict verdict;
  {
    ModelRun run(base, mx::float32);
    verdict.require(
        "base",
        max_abs(run.logits(ids, length), golden["base_logits"].floats()),
        allowed);
  }
  ModelRun run(load_model(
      base, {.dtype = mx::float32, .adapter_path = c.path("adapter")}));
  auto whole = run.logits(ids, length);
  verdict.require("logits", max_abs(whole, expected), allowed);
  cut_differently(verdict, run, ids, whole, rounding(whole));
  verdict.require("fused", fused_difference(golden, run.model()), 1e-4);
  return verdict.outcome();
}

} // namespace mlxlm::conformance

// Family `gguf`: block types against a reference dequantizer, and the default
// model against float32 goldens.
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cache/memory.h"
#include "checkpoint/gguf.h"
#include "conformance.h"
#include "core/files.h"
#include "golden.h"
#include "mlxlm/model.h"
#include "models/load.h"
#include "quant/formats.h"
#include "sha256.h"
#include "weights/loader.h"

namespace mlxlm::conformance {
namespace {

std::vector<float> values(const mx::array& x) {
  auto y = mx::contiguous(mx::astype(x, mx::float32));
  y.eval();
  return {y.data<float>(), y.data<float>() + y.size()};
}

// ---- dequant_*

// The metadata that every one of these files carries.
bool metadata_holds(const GgufMetadata& m) {
  return m.get<double>("test.float") == 1.5 &&
      m.integers("test.array") == std::vector<std::int64_t>{1, 2, 3} &&
      m.strings("test.strings") ==
      std::vector<std::string_view>{"a", "\u00e9", "\u65e5\u672c"} &&
      m.get<bool>("test.bool") == true && m.get<std::int64_t>("test.i64") == -5;
}

// A matrix as our kernels hold it (`packed`) or as MLX arrays (GPUs).
std::vector<float> read_tensor(
    const GgufFile& file,
    const std::string& name,
    const GoldenTensor& golden,
    bool packed) {
  Fields config(Json::object(), "config.json");
  auto loader = Loader::open(
      file,
      {},
      quant::formats(config),
      {.type = mx::float32, .packed = packed});
  auto module = name.substr(0, name.rfind('.'));
  if (golden.shape.size() == 1)
    return values(*loader->root().param(name, {int(golden.shape[0])}));
  auto linear =
      loader->root().linear(module, int(golden.shape[1]), int(golden.shape[0]));
  return values(linear.kernel().dense(mx::float32));
}

Outcome dequantize_case(const Case& c) {
  GgufFile file(c.path("model.gguf"));
  Golden golden(c.path("dequantized.safetensors"));
  double worst = 0, worst_gpu = 0;
  for (auto& [name, tensor] : golden.tensors()) {
    auto expected = tensor.floats();
    auto scale = std::max(max_abs(expected), 1e-30);
    auto found = read_tensor(file, name, tensor, true);
    worst = std::max(worst, max_abs(found, expected) / scale);
    // Where MLX has no exact form, GPUs hold the values in f16.
    found = read_tensor(file, name, tensor, false);
    worst_gpu = std::max(worst_gpu, max_abs(found, expected) / scale);
  }
  bool metadata = metadata_holds(file.metadata());
  return judge(
      worst <= 1e-6 && worst_gpu <= 1e-3 && metadata,
      fmt::format(
          "{:.1e} of max |w|, as MLX arrays {:.1e}{}",
          worst,
          worst_gpu,
          metadata ? "" : ", metadata differ"));
}

// ---- smollm2

constexpr std::string_view default_model = "smollm2";
constexpr std::string_view default_model_sha256 =
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

// The default model as the program runs it: keys and values in `kv_type`.
class Runner {
 public:
  Runner(const std::string& path, mx::Dtype kv_type)
      : loaded_(load_model(path)), kv_type_(kv_type) {}

  // Logits [rows][vocab] of `ids`: the rows named, in one pass.
  std::vector<std::vector<float>> logits(
      const std::vector<int>& ids,
      const std::vector<int>& rows) const {
    auto memory = make_memory(loaded_.model->caches(), {.dtype = kv_type_});
    auto sequence = memory->sequence();
    return pass(*memory, *sequence, ids, rows);
  }

  // The greedy continuation and the logits after the prompt.
  std::pair<std::vector<int>, std::vector<float>> greedy(
      const std::vector<int>& prompt,
      int count,
      int stop) const {
    auto memory = make_memory(loaded_.model->caches(), {.dtype = kv_type_});
    auto sequence = memory->sequence();
    auto row = pass(*memory, *sequence, prompt, {int(prompt.size()) - 1})[0];
    auto first = row;
    std::vector<int> out;
    while (int(out.size()) < count) {
      out.push_back(argmax(row));
      if (out.back() == stop) break;
      row = pass(*memory, *sequence, {out.back()}, {0})[0];
    }
    return {out, first};
  }

 private:
  std::vector<std::vector<float>> pass(
      Memory& memory,
      SequenceMemory& sequence,
      const std::vector<int>& ids,
      const std::vector<int>& rows) const {
    int count = int(ids.size());
    sequence.begin(count);
    Step step({{&sequence, 0, count, sequence.length(), count}});
    mx::array tokens(ids.data(), {1, count}, mx::int32);
    auto flat = values((*loaded_.model)({tokens}, step, memory, rows));
    sequence.commit(count);
    auto width = flat.size() / rows.size();
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < rows.size(); ++i)
      out.emplace_back(
          flat.begin() + std::ptrdiff_t(i * width),
          flat.begin() + std::ptrdiff_t((i + 1) * width));
    return out;
  }

  LoadedModel loaded_;
  mx::Dtype kv_type_;
};

double log_sum_exp(const std::vector<float>& row) {
  double top = *std::max_element(row.begin(), row.end()), sum = 0;
  for (float x : row)
    sum += std::exp(double(x) - top);
  return top + std::log(sum);
}

// The fixture bounds the top 50; the rest of a row, of its largest.
constexpr double whole_row = 5e-4;

struct Worst {
  double top50 = 0, logits = 0, nll = 0, perplexity = 0;
  int greedy = 0, rows = 0;
};

// Equal as long as the recorded margin is wider than 0.02.
bool same_greedy(
    const std::vector<int>& found,
    const std::vector<int>& expected,
    const std::vector<double>& margins) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (margins.at(i) <= 0.02) return true;
    if (i >= found.size() || found[i] != expected[i]) return false;
  }
  return true;
}

void prompts(const Case& c, const Runner& runner, Worst& worst) {
  auto rows = read_json(c.path("generation.json"));
  Golden golden(c.path("last_logits.safetensors"));
  for (auto& row : rows) {
    auto expected = row.at("greedy_ids").get<std::vector<int>>();
    auto [found, first] = runner.greedy(
        row.at("prompt_ids").get<std::vector<int>>(), int(expected.size()), 2);
    worst.greedy += same_greedy(
        found, expected, row.at("greedy_margins").get<std::vector<double>>());
    std::vector<float> top;
    for (int id : row.at("top50_ids").get<std::vector<int>>())
      top.push_back(first.at(std::size_t(id)));
    auto golden_top = row.at("top50_logits").get<std::vector<float>>();
    worst.top50 = std::max(worst.top50, max_abs(top, golden_top));
    auto name = fmt::format("logits{}", worst.rows);
    if (golden.has(name)) {
      auto all = golden[name].floats();
      worst.logits = std::max(worst.logits, max_abs(first, all) / max_abs(all));
    }
    ++worst.rows;
  }
}

void passage(const Case& c, const Runner& runner, Worst& worst) {
  auto json = read_json(c.path("perplexity.json"));
  auto ids = json.at("ids").get<std::vector<int>>();
  auto expected = json.at("nll").get<std::vector<double>>();
  std::vector<int> rows(ids.size() - 1);
  std::iota(rows.begin(), rows.end(), 0);
  auto logits = runner.logits(ids, rows);
  double sum = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto id = std::size_t(ids[i + 1]);
    double nll = log_sum_exp(logits[i]) - logits[i].at(id);
    worst.nll = std::max(worst.nll, std::abs(nll - expected.at(i)));
    sum += nll;
  }
  double golden = json.at("perplexity").get<double>();
  double found = std::exp(sum / double(rows.size()));
  worst.perplexity = std::abs(found / golden - 1);
}

// The same through the public API: the engine's own greedy answer.
int engine_rows(const Case& c, const std::string& path) {
  auto model = load(path);
  GenerateParameters parameters;
  parameters.sampling.temperature = 0;
  int held = 0;
  for (auto& row : read_json(c.path("generation.json"))) {
    auto expected = row.at("greedy_ids").get<std::vector<int>>();
    parameters.max_tokens = int(expected.size());
    auto prompt = row.at("prompt_ids").get<std::vector<int>>();
    bool prompt_same =
        prompt == model->encode(row.at("chat_text").get<std::string>(), false);
    auto generation = model->generate(prompt, parameters);
    std::vector<int> found;
    while (auto event = generation->next())
      if (auto* chunk = std::get_if<TextChunk>(&*event))
        found.insert(found.end(), chunk->tokens.begin(), chunk->tokens.end());
    if (found.size() + 1 == expected.size()) found.push_back(expected.back());
    held += prompt_same &&
        same_greedy(
                found,
                expected,
                row.at("greedy_margins").get<std::vector<double>>());
  }
  return held;
}

Outcome smollm2_case(const Case& c) {
  auto path = resolve(default_model);
  auto sum = sha256(MappedFile(path).bytes());
  if (sum != default_model_sha256)
    return judge(
        false,
        fmt::format(
            "{}: expected the SHA-256 {}, found {}",
            path,
            default_model_sha256,
            sum));
  Worst worst;
  {
    Runner runner(path, mx::float32);
    prompts(c, runner, worst);
    passage(c, runner, worst);
  }
  int engine = engine_rows(c, path);
  auto allowed = c.json.sub("tolerance").sub("float32");
  double logits = allowed.req<double>("top50_logits_max_abs");
  return judge(
      worst.top50 <= logits && worst.logits <= whole_row &&
          worst.greedy == worst.rows && engine == worst.rows &&
          worst.nll <= allowed.req<double>("nll_max_abs") &&
          worst.perplexity <= allowed.req<double>("perplexity_rel"),
      fmt::format(
          "top 50 {:.1e}, all {:.1e} of the largest, greedy {} of {}, engine {} of {}, "
          "nll {:.1e}, perplexity {:.1e}",
          worst.top50,
          worst.logits,
          worst.greedy,
          worst.rows,
          engine,
          worst.rows,
          worst.nll,
          worst.perplexity));
}

} // namespace

Outcome gguf_case(const Case& c) {
  return is_file(c.path("model.gguf")) ? dequantize_case(c) : smollm2_case(c);
}

} // namespace mlxlm::conformance

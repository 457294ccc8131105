// Family `kv_cache`. Scripts: see kv_script.cpp. Batches: ragged passes give
// what each sequence gives alone. Quantized attention and prompt caches: logits
// behind stored keys and values.
#include <mlx/ops.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cache/memory.h"
#include "conformance.h"
#include "core/files.h"
#include "generate/cache_file.h"
#include "golden.h"
#include "kv_cases.h"
#include "model_run.h"

namespace mlxlm::conformance {
namespace {

// Rows [first, first + count) of logits [T, vocab].
std::span<const float> part(
    const Logits& logits,
    int vocab,
    std::size_t first,
    std::size_t count) {
  return std::span(logits).subspan(first * vocab, count * vocab);
}

bool picks(std::span<const float> logits, const std::vector<int>& ids) {
  auto vocab = logits.size() / ids.size();
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (argmax(logits.subspan(i * vocab, vocab)) != ids[i]) return false;
  return true;
}

Outcome batch_case(const Case& c) {
  auto cases = read_json(c.path("cases.json"));
  auto prompts = cases.at("prompts").get<std::vector<std::vector<int>>>();
  auto greedy = cases.at("greedy").get<std::vector<std::vector<int>>>();
  auto expected = Golden(c.path("golden.safetensors"))["first_logits"].floats();
  ModelRun run(c.path(c.json.req<std::string>("model")), mx::float32);
  int vocab = run.vocab();
  double worst = 0, apart = 0;
  std::size_t held = 0;
  std::vector<std::vector<int>> sequences;
  std::vector<Logits> alone;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    alone.push_back(run.decode(prompts[i], greedy[i]));
    worst = std::max(
        worst,
        max_abs(part(alone[i], vocab, 0, 1), part(expected, vocab, i, 1)));
    sequences.push_back(prompts[i]);
    sequences[i].insert(
        sequences[i].end(), greedy[i].begin(), greedy[i].end() - 1);
  }
  // One token of each a pass: sequences of different lengths leave one by one.
  auto together = run.together(sequences, std::vector<int>(prompts.size(), 1));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    auto tail =
        part(together[i], vocab, prompts[i].size() - 1, greedy[i].size());
    held += picks(alone[i], greedy[i]) && picks(tail, greedy[i]);
    apart = std::max(apart, max_abs(tail, alone[i]));
  }
  double allowed = c.json.sub("tolerance").req<double>("first_logits_max_abs");
  return judge(
      worst <= allowed && held == prompts.size() && apart <= allowed,
      fmt::format(
          "first logits {:.1e}, greedy {} of {}, together {:.1e}",
          worst,
          held,
          prompts.size(),
          apart));
}

// logits_<bits>bit_g<group> [T, V]: ids but the last T are read with plain keys
// and values, which then are quantized, the others one by one.
Outcome quantized_attention_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["ids"].ints();
  ModelRun run(c.path(c.json.req<std::string>("model")), mx::float32);
  double worst = 0;
  int rows = 0;
  for (auto& [name, tensor] : golden.tensors()) {
    QuantizedKv how;
    if (std::sscanf(name.c_str(), "logits_%dbit_g%d", &how.bits, &how.group) !=
        2)
      continue;
    ++rows;
    auto count = std::size_t(tensor.shape[0]);
    how.start = int(ids.size() - count);
    run.set_storage(kv_storage(how));
    std::vector<int> first(ids.begin(), ids.begin() + how.start);
    std::vector<int> next(ids.begin() + how.start, ids.end());
    next.push_back(0); // never read
    auto logits = run.decode(first, next);
    worst = std::max(
        worst, max_abs(part(logits, run.vocab(), 1, count), tensor.floats()));
  }
  double allowed = c.json.sub("tolerance").req<double>("logits_max_abs");
  return judge(
      rows > 0 && worst <= allowed,
      fmt::format("logits {:.1e} of {:.0e}", worst, allowed));
}

// A file holds ids but the last pieces; what follows is read one by one and
// then at once. The file is read, and what we write of it is read again.
Outcome prompt_cache_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto ids = golden["ids"].ints();
  auto expected = golden["logits"].floats();
  auto model = load_model(
      c.path(c.json.req<std::string>("model")), {.dtype = mx::float32});
  double worst = 0;
  auto specs = model.model->caches();
  auto follow = [&](const std::string& path) {
    auto file = read_cache_file(path);
    MemoryOptions options{.dtype = mx::float32};
    adopt(file, options);
    auto memory = make_memory(specs, options);
    auto sequence = memory->sequence();
    restore(file, specs, options, *memory, *sequence);
    auto copy = snapshot(specs, options, *memory, *sequence);
    std::vector<float> logits;
    auto rows = golden["logits"].shape[0];
    for (std::int64_t i = 0; i < rows; ++i) {
      int at = sequence->length();
      int count = i + 1 < rows ? 1 : int(ids.size()) - at;
      sequence->begin(count);
      Step step({{sequence.get(), 0, count, at}});
      mx::array tokens(ids.data() + at, {1, count}, mx::int32);
      auto y =
          mx::contiguous((*model.model)({tokens}, step, *memory, {count - 1}));
      y.eval();
      sequence->commit(count);
      logits.insert(logits.end(), y.data<float>(), y.data<float>() + y.size());
    }
    worst = std::max(worst, max_abs(logits, expected));
    return copy;
  };
  auto again = follow(c.path("prompt_cache.safetensors"));
  for (auto layout : {CacheLayout::swift, CacheLayout::python}) {
    auto path = fmt::format(
        "{}/mlxlm-{}-{}.safetensors",
        std::filesystem::temp_directory_path().string(),
        ::getpid(),
        int(layout));
    write_cache_file(path, again, layout, false);
    follow(path);
    std::remove(path.c_str());
  }
  double allowed = c.json.sub("tolerance").req<double>("logits_max_abs");
  return judge(
      worst <= allowed,
      fmt::format("logits {:.1e} of {:.0e}, also written", worst, allowed));
}

} // namespace

KvStorage kv_storage(const QuantizedKv& how) {
  using Kind = kernels::RowCodec::Kind;
  kernels::RowCodec codec{Kind::affine, how.bits, how.group};
  return {.keys = codec, .values = codec, .start = how.start};
}

Outcome kv_case(const Case& c) {
  if (is_file(c.path("prompt_cache.safetensors"))) return prompt_cache_case(c);
  if (is_file(c.path("ops.json"))) return kv_script_case(c);
  return is_file(c.path("cases.json")) ? batch_case(c)
                                       : quantized_attention_case(c);
}

} // namespace mlxlm::conformance

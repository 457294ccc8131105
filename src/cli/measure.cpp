// bench and perplexity.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  auto middle = values.size() / 2;
  return values.size() % 2 ? values[middle]
                           : (values[middle - 1] + values[middle]) / 2;
}

Json to_json(const BenchTrial& t, int depth) {
  Json out = {
      {"prompt_tps", t.prompt_tps},
      {"generation_tps", t.generation_tps},
      {"peak_memory_bytes", t.peak_memory_bytes}};
  if (depth > 0) out["kv_bytes"] = t.kv_bytes;
  if (t.draft.guessed > 0)
    out["draft"] = {
        {"proposed", t.draft.guessed},
        {"accepted", t.draft.taken},
        {"target_calls", t.draft.target_calls}};
  return out;
}

BenchTrial median(const std::vector<BenchTrial>& trials) {
  auto of = [&](auto member) {
    std::vector<double> values;
    for (auto& t : trials)
      values.push_back(double(t.*member));
    return median(std::move(values));
  };
  BenchTrial out;
  out.prompt_tps = of(&BenchTrial::prompt_tps);
  out.generation_tps = of(&BenchTrial::generation_tps);
  out.peak_memory_bytes = std::size_t(of(&BenchTrial::peak_memory_bytes));
  out.kv_bytes = trials.back().kv_bytes;
  out.draft = trials.back().draft;
  return out;
}

std::string line(std::string_view name, const BenchTrial& t) {
  return fmt::format(
      "{}: prompt_tps={:.3f}, generation_tps={:.3f}, peak_memory={:.3f}\n",
      name,
      t.prompt_tps,
      t.generation_tps,
      double(t.peak_memory_bytes) / 1e9);
}

} // namespace

int run_bench(const Values& values) {
  BenchShape shape;
  shape.prompt = values.integer("prompt-tokens");
  shape.generation = values.integer("generation-tokens");
  shape.batch = values.integer("batch-size");
  shape.depth = values.integer("depth");
  bool json = values.flag("json");
  auto model = load_model(values);
  shape.draft = draft_parameters(values);
  model->bench(shape);
  std::vector<BenchTrial> trials;
  for (int i = 0; i < values.integer("num-trials"); ++i) {
    std::this_thread::sleep_for(
        std::chrono::duration<double>(values.number("delay")));
    trials.push_back(model->bench(shape));
    if (!json) print(line(fmt::format("Trial {}", i + 1), trials.back()));
  }
  if (!json) {
    print(line("Median", median(trials)));
    return 0;
  }
  Json list = Json::array();
  for (auto& trial : trials)
    list.push_back(to_json(trial, shape.depth));
  print(
      Json{{"trials", list}, {"median", to_json(median(trials), shape.depth)}}
          .dump(2) +
      "\n");
  return 0;
}

int run_perplexity(const Values& values) {
  if (!values.has("file"))
    throw UsageError("--file: required; the text to measure");
  auto text = read_text(values.text("file"));
  if (!valid_utf8(text))
    fail(ErrorKind::request, values.text("file"), "expected UTF-8 text");
  auto model = load_model(values);
  auto ids = model->encode(text);
  Progress progress("reading the text");
  auto score = model->score(ids, [&](int done, int total) {
    progress.update(std::size_t(done), std::size_t(total));
  });
  progress.finish();
  if (values.flag("json"))
    print(
        Json{
            {"perplexity", score.perplexity()},
            {"mean_nll", score.mean_nll},
            {"tokens", score.tokens}}
            .dump(2) +
        "\n");
  else
    print(fmt::format(
        "Perplexity: {:.4f}\nMean NLL: {:.5f}\nTokens: {}, {:.1f} "
        "tokens-per-sec\n",
        score.perplexity(),
        score.mean_nll,
        score.tokens,
        score.seconds > 0 ? score.tokens / score.seconds : 0));
  return 0;
}

} // namespace mlxlm::cli

#include "cli/running.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/terminal.h"
#include "core/check.h"
#include "core/env.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

ComputeType compute_type(const std::string& name) {
  if (name == "float32") return ComputeType::float32;
  if (name == "bfloat16") return ComputeType::bfloat16;
  return name == "float16" ? ComputeType::float16 : ComputeType::automatic;
}

KvCacheOptions kv_cache(const Values& values) {
  KvCacheOptions out;
  out.scheme = values.text("kv-scheme");
  if (values.given("kv-bits")) {
    if (!out.scheme.empty())
      throw UsageError("--kv-bits: expected it or --kv-scheme, found both");
    out.scheme = affine_kv(values.integer("kv-bits"));
  }
  out.group_size = values.integer("kv-group-size");
  out.quantized_start = values.integer("quantized-kv-start");
  if (values.has("prompt-cache-file") && values.command().name == "generate")
    out.like_file = values.text("prompt-cache-file");
  if (values.given("max-kv-size"))
    out.max_tokens = values.integer("max-kv-size");
  return out;
}

std::string flag_name(const mlxlm::Setting& row) {
  return std::string(row.flag.substr(2));
}

// "2 h 5 min", "40 s"
std::string duration(double seconds) {
  auto s = static_cast<long>(std::min(seconds, 1e7));
  if (s >= 3600) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
  if (s >= 90) return fmt::format("{} min", (s + 30) / 60);
  return fmt::format("{} s", s);
}

std::string detail(const DownloadProgress& p) {
  if (!p.note.empty()) return printable(p.note);
  if (p.bytes_per_second <= 0) return "";
  auto rate = human_bytes(static_cast<std::size_t>(p.bytes_per_second)) + "/s";
  if (p.done >= p.total) return rate;
  return fmt::format("{}, {} left", rate, duration(p.seconds_left));
}

} // namespace

DownloadControl download_control(Progress& progress) {
  DownloadControl control;
  if (!env::flag("HF_HUB_DISABLE_PROGRESS_BARS"))
    control.progress = [&](const DownloadProgress& p) {
      progress.update(p.done, p.total, detail(p));
    };
  control.cancelled = [] { return interrupted(); };
  return control;
}

std::string fetch_model(const std::string& reference, bool weights) {
  Cancellable guard;
  Progress progress("downloading", true);
  FetchOptions options;
  options.control = download_control(progress);
  options.weights = weights;
  return fetch(reference, options);
}

std::shared_ptr<ModelContainer> load_model(const Values& values) {
  LoadOptions options;
  options.dtype = compute_type(values.text("dtype"));
  options.quantize_activations = values.flag("quantize-activations");
  options.threads = values.integer("threads");
  if (values.given("prefill-step-size"))
    options.prefill_step_size = values.integer("prefill-step-size");
  auto path = fetch_model(values.text("model"));
  options.kv_cache = kv_cache(values);
  Progress progress("loading", true);
  return load(path, options, [&](const LoadProgress& p) {
    progress.update(p.done, p.total);
  });
}

GenerateParameters parameters(const Values& values, const TextCodec& codec) {
  auto out = program_defaults();
  for (auto& row : generation_settings()) {
    auto name = flag_name(row);
    if (!values.has(name) || name == "max-tokens") continue;
    for (auto& text : values.list(name))
      set(out, row.name, text);
  }
  out.max_tokens.reset();
  if (int limit = values.integer("max-tokens"); limit >= 0)
    out.max_tokens = limit;
  for (auto& token : values.list("extra-eos-token")) {
    int id = codec.token_id(token);
    if (id < 0)
      fail(
          ErrorKind::request,
          "--extra-eos-token",
          "expected a token of the vocabulary, found \"{}\"",
          token);
    out.extra_eos_tokens.push_back(id);
  }
  validate(out);
  return out;
}

std::string stream(Generation& generation) {
  Cancellable guard;
  Progress prefill("reading the prompt");
  std::string out;
  bool cancelled = false;
  while (auto event = generation.next()) {
    if (interrupted() && !cancelled) {
      generation.cancel();
      cancelled = true;
    }
    if (auto* p = std::get_if<PrefillProgress>(&*event)) {
      prefill.update(std::size_t(p->processed), std::size_t(p->total));
    } else if (auto& text = std::get<TextChunk>(*event).text; !text.empty()) {
      prefill.finish();
      print(text);
      out += text;
    }
  }
  if (generation.info().finish_reason == FinishReason::error)
    fail(ErrorKind::request, "", "{}", generation.info().error);
  return out;
}

void print_statistics(const GenerateInfo& info) {
  auto dim = colourful() ? "\x1b[2m" : "", plain = colourful() ? "\x1b[0m" : "";
  note(fmt::format(
      "{}Prompt: {} tokens, {:.3f} tokens-per-sec",
      dim,
      info.total_prompt_tokens(),
      info.prompt_tps()));
  note(fmt::format(
      "Generation: {} tokens, {:.3f} tokens-per-sec",
      info.generation_tokens,
      info.generation_tps()));
  note(fmt::format(
      "Peak memory: {:.3f} GB{}", double(info.peak_memory_bytes) / 1e9, plain));
}

} // namespace mlxlm::cli

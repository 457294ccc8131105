#include "cli/running.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "cli/terminal.h"
#include "core/check.h"
#include "core/env.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"
#include "generate/codec.h"

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
  if (values.command().name == "generate" && values.has("prompt-cache-file"))
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

// Writes an answer. On a terminal reasoning is dim and its marks are not shown;
// elsewhere the text goes out as it is.
class AnswerPrinter {
 public:
  AnswerPrinter(const ModelContainer& model, std::string_view prompt) {
    if (!stdout_is_terminal() || !colourful()) return;
    auto format = output_format(model);
    if (!format.reasoning) return;
    format.tools = nullptr;
    parser_.emplace(format, OutputOptions{.prompt = std::string(prompt)});
  }

  void write(const std::string& text) {
    if (!parser_) {
      print_answer(text);
      return;
    }
    for (const auto& item : parser_->feed(text))
      show(item);
  }
  void finish() {
    if (!parser_) return;
    for (const auto& item : parser_->finish())
      show(item);
    dim(false);
  }

 private:
  void show(const OutputItem& item) {
    if (auto* thought = std::get_if<ReasoningDelta>(&item)) {
      dim(true);
      print_answer(thought->text);
    } else if (auto* content = std::get_if<ContentDelta>(&item)) {
      dim(false);
      print_answer(content->text);
    }
  }

  void dim(bool on) {
    if (on == dim_) return;
    print(on ? "\x1b[2m" : "\x1b[0m\n\n");
    dim_ = on;
  }

  std::optional<OutputParser> parser_;
  bool dim_ = false;
};

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

namespace {

bool takes(const Values& values, std::string_view name) {
  auto settings = settings_of(values.command().name);
  return std::any_of(settings.begin(), settings.end(), [&](const auto& s) {
    return s.name == name;
  });
}

} // namespace

LoadOptions load_options(const Values& values) {
  LoadOptions options;
  options.dtype = compute_type(values.text("dtype"));
  options.quantize_activations = values.flag("quantize-activations");
  options.adapter_path = values.text("adapter-path");
  if (values.given("adapter-path") && options.adapter_path.empty())
    fail(ErrorKind::request, "--adapter-path", "expected a folder, found \"\"");
  options.threads = values.integer("threads");
  if (values.given("prefill-step-size"))
    options.prefill_step_size = values.integer("prefill-step-size");
  if (values.given("max-kv-memory"))
    options.max_kv_bytes =
        std::size_t(values.integer("max-kv-memory")) * 1000000;
  if (values.command().name == "serve") {
    options.max_batch = values.integer("decode-concurrency");
    options.max_queue = 1 << 24; // the server has a queue of its own
  }
  options.kv_cache = kv_cache(values);
  options.mtp = takes(values, "draft") && values.text("draft") == "mtp";
  if (takes(values, "draft-model") && values.has("draft-model"))
    options.draft_model = fetch_model(values.text("draft-model"));
  const auto& command = values.command().name;
  bool keeps = command == "generate" || command == "chat" || command == "serve";
  if (keeps && values.has("prompt-cache-dir")) {
    options.prompt_cache_dir = values.text("prompt-cache-dir");
    auto megabytes = values.integer("prompt-cache-dir-size");
    options.prompt_cache_dir_bytes = std::uint64_t(megabytes) * 1000000;
  }
  return options;
}

std::shared_ptr<ModelContainer> load_with_progress(
    const std::string& path,
    const LoadOptions& options) {
  Progress progress("loading", true);
  auto model = load(path, options, [&](const LoadProgress& p) {
    progress.update(p.done, p.total);
  });
  progress.finish();
  if (auto obstacle = model->draft_obstacle(); !obstacle.empty())
    note("without the draft model: " + obstacle);
  return model;
}

std::shared_ptr<ModelContainer> load_model(const Values& values) {
  auto path = fetch_model(values.text("model"));
  return load_with_progress(path, load_options(values));
}

DraftParameters draft_parameters(const Values& values) {
  GenerateParameters out;
  for (auto* name : {"draft", "num_draft_tokens"})
    for (auto& row : generation_settings())
      if (row.name == name && values.given(flag_name(row)))
        set(out, name, values.text(flag_name(row)));
  return out.draft;
}

GenerateParameters sampling_parameters(const Values& values) {
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
  validate(out);
  return out;
}

GenerateParameters parameters(const Values& values, const TextCodec& codec) {
  auto out = sampling_parameters(values);
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
  if (values.given("reasoning-budget"))
    out.reasoning_budget = values.integer("reasoning-budget");
  return out;
}

std::string tools_text(const Values& values) {
  return values.has("tools") ? read_text(values.text("tools")) : "";
}

ResponseFormat response_format(
    const Values& values,
    const ModelContainer& model) {
  using Type = ResponseFormat::Type;
  std::vector<ResponseFormat> asked;
  if (values.has("json-schema")) {
    auto schema = values.text("json-schema");
    if (!starts_with(schema, "{")) schema = read_text(schema);
    asked.push_back({Type::json_schema, schema});
  }
  if (values.has("regex")) asked.push_back({Type::regex, values.text("regex")});
  if (auto choices = values.list("choice"); !choices.empty())
    asked.push_back({Type::choice, Json(choices).dump()});
  if (values.has("grammar"))
    asked.push_back({Type::grammar, read_text(values.text("grammar"))});
  auto choice = values.text("tool-choice");
  if (!choice.empty() && choice != "auto" && choice != "none")
    asked.push_back(forced_call(
        model, tools_text(values), choice == "required" ? "" : choice));
  if (asked.size() > 1)
    fail(
        ErrorKind::request,
        "",
        "expected at most one of --json-schema, --regex, --choice, --grammar "
        "and --tool-choice, found {}",
        asked.size());
  return asked.empty() ? ResponseFormat{} : asked[0];
}

std::string stream(
    Generation& generation,
    const ModelContainer& model,
    std::string_view prompt) {
  Cancellable guard;
  AnswerPrinter answer(model, prompt);
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
      answer.write(text);
      out += text;
    }
  }
  answer.finish();
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
  if (info.cached_prompt_tokens > 0)
    note(fmt::format(
        "Of them remembered: {} tokens", info.cached_prompt_tokens));
  note(fmt::format(
      "Generation: {} tokens, {:.3f} tokens-per-sec",
      info.generation_tokens,
      info.generation_tps()));
  if (auto& d = info.draft; d.guessed > 0)
    note(fmt::format(
        "Drafted: {} tokens, {} taken ({:.0f} %), {} passes",
        d.guessed,
        d.taken,
        100 * d.acceptance_rate(),
        d.target_calls));
  note(fmt::format(
      "Peak memory: {:.3f} GB{}", double(info.peak_memory_bytes) / 1e9, plain));
}

} // namespace mlxlm::cli

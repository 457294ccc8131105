#include "cli/served_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <future>
#include <mutex>

#include "checkpoint/gguf.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"
#include "generate/adapters.h"
#include "generate/admission.h"
#include "generate/codec.h"
#include "generate/machine.h"
#include "generate/prompt_scores.h"
#include "mlxlm/version.h"
#include "mlxlm/wired_memory.h"
#include "text/gguf_vocabulary.h"

namespace mlxlm::cli {
namespace {

using serve::EngineFacts;
using Log = std::function<void(const std::string&)>;

class ModelEngine final : public serve::Engine {
 public:
  ModelEngine(
      std::shared_ptr<ModelContainer> model,
      EngineFacts facts,
      std::vector<int> extra_eos_tokens,
      LoadedAdapterPtr adapter)
      : model_(std::move(model)),
        adapter_(std::move(adapter)),
        facts_(std::move(facts)),
        extra_eos_tokens_(std::move(extra_eos_tokens)),
        memory_(model_->memory()) {}

  const EngineFacts& facts() const override {
    return facts_;
  }
  const TextCodec& codec() const override {
    return model_->codec();
  }
  GenerationPtr start(serve::Job job, std::function<void()> wake) override {
    job.parameters.extra_eos_tokens = extra_eos_tokens_;
    auto generation =
        generate_with(*model_, adapter_, std::move(job.prompt), job.parameters);
    generation->notify(std::move(wake));
    return generation;
  }
  ResponseFormat forced_call(
      const std::string& tools,
      const std::string& name,
      bool several) const override {
    return mlxlm::forced_call(*model_, tools, name, several);
  }
  serve::PromptScoresPtr score(
      std::vector<int> prompt,
      int top,
      std::function<void()> wake) override {
    auto out = std::make_shared<serve::PromptScores>();
    score_prompt(
        *model_,
        {.ids = std::move(prompt),
         .top = top,
         .adapter = adapter_,
         .cancelled = [out] { return out->cancelled.load(); },
         .done =
             [out, wake = std::move(wake)](
                 PromptScoreLists lists, std::exception_ptr error) {
               out->lists = std::move(lists);
               out->error = error;
               out->over = true;
               wake();
             }});
    return out;
  }
  // The last figures, where the model is in the middle of a long step.
  MemoryFigures memory() override {
    using namespace std::chrono_literals;
    std::lock_guard lock(mutex_);
    // What an earlier question found too late may be old by now.
    for (auto wait : {0ms, 2ms}) {
      if (!asked_.valid())
        asked_ = std::async(
            std::launch::async, [model = model_] { return model->memory(); });
      if (asked_.wait_for(wait) == std::future_status::ready)
        memory_ = asked_.get();
    }
    auto out = memory_;
    if (adapter_) { // the rest is the model's
      out.weights = adapter_->bytes();
      out.kv = 0;
    }
    return out;
  }
  WiredStatus tickets() const override {
    return wired_memory()->status();
  }
  const std::shared_ptr<ModelContainer>& model() const {
    return model_;
  }

 private:
  std::shared_ptr<ModelContainer> model_;
  LoadedAdapterPtr adapter_; // beside others; null: none
  EngineFacts facts_;
  std::vector<int> extra_eos_tokens_;
  std::mutex mutex_; // of what follows
  std::future<MemoryFigures> asked_;
  MemoryFigures memory_;
};

// ---- names -----------------------------------------------------------------
// "NAME=MODEL" or a reference alone.
struct Named {
  std::string name, reference;
};

// What clients call it: the reference, but no path of this machine.
std::string name_of(std::string reference) {
  while (reference.size() > 1 && reference.back() == '/')
    reference.pop_back();
  if (!is_file(reference) && !is_directory(reference)) return reference;
  auto name = file_name(reference);
  if (ends_with(name, ".gguf")) name.resize(name.size() - 5);
  return name;
}

Named named(const std::string& text) {
  auto equals = text.find('=');
  bool path = is_file(text) || is_directory(text);
  if (path || equals == std::string::npos ||
      text.substr(0, equals).find('/') != std::string::npos)
    return {name_of(text), text};
  if (equals == 0 || equals + 1 == text.size())
    throw UsageError(fmt::format(
        "--model: expected MODEL or NAME=MODEL, found \"{}\"",
        printable(text)));
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<Named> listed(const Values& values) {
  std::vector<Named> out;
  if (!values.given("model") && values.has("models-dir")) return out;
  for (const auto& text : values.list("model"))
    out.push_back(named(text));
  if (values.has("alias")) out.front().name = values.text("alias");
  return out;
}

// ---- folders ---------------------------------------------------------------
bool is_model(const std::string& path) {
  if (is_directory(path)) return is_file(join_path(path, "config.json"));
  return is_file(path) && ends_with(path, ".gguf");
}

std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> out;
  for (auto& name : list_directory(folder))
    if (!starts_with(name, ".")) out.push_back(std::move(name));
  std::sort(out.begin(), out.end());
  return out;
}

// DIR/name, DIR/name.gguf and DIR/org/name.
std::vector<Named> in_folder(const std::string& folder) {
  std::vector<Named> out;
  for (const auto& name : entries(folder)) {
    auto path = join_path(folder, name);
    if (is_model(path)) {
      out.push_back({name_of(path), path});
    } else if (is_directory(path)) {
      for (const auto& inner : entries(path))
        if (auto below = join_path(path, inner); is_model(below))
          out.push_back({name + "/" + name_of(below), below});
    }
  }
  return out;
}

std::string folder_of(const Values& values, const std::string& setting) {
  auto folder = values.text(setting);
  if (!is_directory(folder))
    fail(
        ErrorKind::io,
        "--" + setting,
        "expected a folder, found \"{}\"",
        printable(folder));
  return folder;
}

std::vector<std::string> adapter_names(const Values& values) {
  std::vector<std::string> out;
  if (!values.has("adapters-dir")) return out;
  auto folder = folder_of(values, "adapters-dir");
  for (const auto& name : entries(folder))
    if (is_file(join_path(join_path(folder, name), "adapter_config.json")))
      out.push_back(name);
  return out;
}

// ---- loading ---------------------------------------------------------------
EngineFacts facts_of(const Named& model, const Values& values) {
  auto summary = inspect(model.reference);
  if (!summary.obstacle.empty())
    fail(ErrorKind::config, model.name, "{}", summary.obstacle);
  EngineFacts facts;
  facts.model = model.name;
  facts.fingerprint =
      fmt::format("mlxlm-{}-{}-{}", version(), engine_version(), device());
  facts.created = std::time(nullptr);
  facts.context_length = summary.context_length;
  facts.slots = values.integer("decode-concurrency");
  facts.capabilities = summary.capabilities;
  facts.family = summary.model_type;
  facts.format = lower_ascii(summary.container);
  facts.quantization = summary.quantization;
  facts.bytes = summary.weight_bytes;
  facts.parameters = summary.parameters;
  return facts;
}

// Everything that loading one of them needs.
struct Loader {
  const Values& values;
  std::map<std::string, std::string> paths = {}; // by name
  std::string first = {}; // that the draft model is for
  LoadOptions options = {};
  std::size_t budget = 0; // of all; 0: each its own

  // An adapter goes beside others over `base`, where it is one that can.
  serve::EnginePtr operator()(
      EngineFacts facts,
      const std::string& adapter,
      const serve::EnginePtr& base) const {
    auto how = options;
    if (!adapter.empty())
      how.adapter_path = join_path(values.text("adapters-dir"), adapter);
    if (const auto* below = dynamic_cast<const ModelEngine*>(base.get()))
      if (auto beside = load_adapter(*below->model(), how.adapter_path)) {
        facts = below->facts();
        facts.adapter = adapter;
        return std::make_shared<ModelEngine>(
            below->model(),
            std::move(facts),
            parameters(values, below->codec()).extra_eos_tokens,
            std::move(beside));
      }
    if (facts.model != first) how.draft_model.clear();
    if (budget > 0) {
      auto left =
          std::max<std::size_t>(1, budget - std::min(budget, facts.bytes));
      how.max_kv_bytes =
          how.max_kv_bytes > 0 ? std::min(how.max_kv_bytes, left) : left;
    }
    auto model = load_with_progress(paths.at(facts.model), how);
    facts.adapter = adapter;
    facts.context_length = model->context_length();
    facts.capabilities = model->capabilities();
    facts.output = output_format(*model);
    if (ends_with(model->path(), ".gguf")) {
      GgufFile file(model->path());
      for (const auto& [name, id] : gguf_vocabulary(file).ids)
        facts.named_tokens[name] = id;
    }
    if (!how.draft_model.empty() && model->draft_obstacle().empty())
      facts.draft = name_of(values.text("draft-model"));
    return std::make_shared<ModelEngine>(
        model,
        std::move(facts),
        parameters(values, model->codec()).extra_eos_tokens,
        nullptr);
  }
};

void add(
    serve::ModelsOptions& options,
    Loader& loader,
    const Named& model,
    bool stays) {
  if (loader.paths.count(model.name))
    fail(
        ErrorKind::request,
        model.name,
        "expected models of different names; NAME=MODEL gives one");
  options.models.push_back({facts_of(model, loader.values), {}, stays});
  loader.paths[model.name] = model.reference;
}

void add_folder(
    serve::ModelsOptions& options,
    Loader& loader,
    const Values& values,
    const Log& log) {
  auto folder = folder_of(values, "models-dir");
  for (const auto& model : in_folder(folder)) {
    try {
      add(options, loader, model, false);
    } catch (const Error& error) {
      log(fmt::format("{} is left out: {}", model.name, error.what()));
    }
  }
  if (options.models.empty())
    fail(
        ErrorKind::io,
        "--models-dir",
        "expected folders with a config.json or .gguf files in \"{}\", found none",
        printable(folder));
}

serve::KeepAlive keep_alive(const Values& values) {
  auto out =
      serve::parse_keep_alive(std::string_view(values.text("keep-alive")));
  if (!out)
    throw UsageError(fmt::format(
        "--keep-alive: expected a time as 5m, 90 (seconds), 0 or -1, found \"{}\"",
        printable(values.text("keep-alive"))));
  return *out;
}

} // namespace

void check_models(const Values& values) {
  if (values.given("keep-alive")) keep_alive(values);
  if (values.given("model")) listed(values);
}

serve::ModelsPtr served_models(const Values& values, const Log& log) {
  serve::ModelsOptions options;
  Loader loader{values};
  auto asked = listed(values);
  options.adapters = adapter_names(values);
  bool several = asked.size() > 1 || values.has("models-dir");
  bool stays = !several && !values.given("keep-alive");
  for (auto& model : asked) {
    model.reference = fetch_model(model.reference);
    add(options, loader, model, stays);
  }
  if (values.has("models-dir")) add_folder(options, loader, values, log);
  loader.options = load_options(values);
  loader.first = asked.empty() ? "" : asked.front().name;
  if (several || values.has("adapters-dir") || values.given("memory-budget")) {
    loader.budget = values.given("memory-budget")
        ? std::size_t(values.integer("memory-budget")) * 1000000
        : sequence_budget(free_device_memory());
    options.memory = wired_memory();
    options.group = engine_policy(static_cast<std::int64_t>(loader.budget));
    options.budget = loader.budget;
    loader.options.memory_group = options.group;
  }
  options.first_is_default = !asked.empty();
  options.any_name = values.flag("any-model");
  options.keep_alive = values.given("keep-alive") || several
      ? keep_alive(values)
      : serve::KeepAlive();
  options.patience = std::chrono::seconds(values.integer("load-wait-seconds"));
  options.log = log;
  options.load = loader;
  auto models = std::make_shared<serve::Models>(std::move(options));
  if (!asked.empty()) {
    try {
      models->load({});
    } catch (const serve::ApiError& error) {
      fail(ErrorKind::request, "", "{}", error.message);
    }
  }
  return models;
}

std::string names_of(const serve::Models& models) {
  std::vector<std::string> names;
  for (const auto& one : models.states())
    if (one.adapter.empty()) names.push_back(one.facts.model);
  return join(names, ", ");
}

} // namespace mlxlm::cli

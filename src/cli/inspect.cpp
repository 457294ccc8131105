// inspect: what a checkpoint holds and what it needs, from headers and config
// alone; with --measure from running it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/model.h"

namespace mlxlm::cli {
namespace {

Json to_json(const Capabilities& c) {
  return {
      {"text", c.text},
      {"chat", c.chat},
      {"vision", c.vision},
      {"audio", c.audio},
      {"embedding", c.embedding},
      {"rerank", c.rerank},
      {"tools", c.tools},
      {"reasoning", c.reasoning},
      {"thinking_switch", c.thinking_switch},
      {"mtp", c.mtp}};
}

Json to_json(const ModelSummary& m) {
  Json tensors = Json::array();
  for (auto& t : m.tensors)
    tensors.push_back(
        {{"name", t.name},
         {"shape", t.shape},
         {"format", t.format},
         {"bytes", t.bytes}});
  return {
      {"path", m.path},
      {"container", m.container},
      {"model_type", m.model_type},
      {"quantization", m.quantization},
      {"parameters", m.parameters},
      {"weight_bytes", m.weight_bytes},
      {"layers", m.layers},
      {"vocab", m.vocab},
      {"context_length", m.context_length},
      {"obstacle", m.obstacle.empty() ? Json() : Json(m.obstacle)},
      {"kv_bytes_per_token", m.kv_bytes_per_token},
      {"kv_bytes_of_context", m.kv_bytes_of_context},
      {"available_memory", m.available_memory},
      {"context_that_fits", m.context_that_fits},
      {"capabilities", to_json(m.capabilities)},
      {"config", Json::parse(m.config)},
      {"tensors", std::move(tensors)}};
}

std::string abilities(const Capabilities& c) {
  std::vector<std::string> out;
  const auto json = to_json(c);
  for (auto& [name, value] : json.items())
    if (value == true) out.push_back(name);
  return out.empty() ? "none" : join(out, ", ");
}

std::string row(std::string_view name, const std::string& value) {
  return fmt::format("{:<18} {}\n", name, value);
}

std::string context(const ModelSummary& m) {
  if (!m.obstacle.empty())
    return row("context", fmt::format("{} tokens", m.context_length)) +
        row("cannot be loaded", printable(m.obstacle, 1000));
  auto whole = fmt::format(
      "{} tokens, {} in all, {} more each",
      m.context_length,
      human_bytes(m.kv_bytes_of_context),
      human_bytes(m.kv_bytes_per_token));
  return row("context", whole) +
      row("context that fits", fmt::format("{} tokens", m.context_that_fits));
}

std::string facts(const ModelSummary& m) {
  return row("path", printable(m.path, 1000)) + row("container", m.container) +
      row("model type", printable(m.model_type)) +
      row("quantization", m.quantization) +
      row("parameters",
          fmt::format("{:.1f} million", double(m.parameters) / 1e6)) +
      row("layers", fmt::format("{}", m.layers)) +
      row("vocabulary", fmt::format("{}", m.vocab)) +
      row("can", abilities(m.capabilities)) +
      row("weights", human_bytes(m.weight_bytes)) +
      row("memory free now", human_bytes(m.available_memory)) + context(m);
}

// What each format holds, largest first.
std::string formats(const ModelSummary& m) {
  struct Share {
    std::string format;
    std::size_t tensors = 0, bytes = 0;
  };
  std::vector<Share> shares;
  for (auto& t : m.tensors) {
    auto found = std::find_if(shares.begin(), shares.end(), [&](auto& s) {
      return s.format == t.format;
    });
    if (found == shares.end()) found = shares.insert(found, {t.format});
    ++found->tensors;
    found->bytes += t.bytes;
  }
  std::sort(shares.begin(), shares.end(), [](auto& a, auto& b) {
    return a.bytes > b.bytes;
  });
  std::string out = "\nformats\n";
  for (auto& s : shares)
    out += fmt::format(
        "  {:<28} {:>6} tensors {:>12}\n",
        s.format,
        s.tensors,
        human_bytes(s.bytes));
  return out;
}

std::string parameters(const ModelSummary& m) {
  std::size_t widest = 10;
  for (auto& t : m.tensors)
    widest = std::max(widest, t.name.size());
  widest = std::min<std::size_t>(widest, 60);
  std::string out = "\ntensors\n";
  for (auto& t : m.tensors)
    out += fmt::format(
        "  {:<{}} {:<24} {:<24} {:>10}\n",
        printable(t.name),
        widest,
        fmt::format("[{}]", fmt::join(t.shape, ", ")),
        t.format,
        human_bytes(t.bytes));
  return out;
}

// The names of mlx-swift-lm's measurement, as JSON has them.
Json to_json(const MeasuredBudget& m) {
  return {
      {"weight_bytes", m.weights},
      {"kv_bytes", m.kv},
      {"workspace_bytes", m.workspace},
      {"peak_active_bytes", m.peak_active},
      {"total_bytes", m.total()},
      {"token_count", m.tokens},
      {"prefill_step_size", m.prefill_step_size}};
}

std::string measured(const MeasuredBudget& m) {
  return fmt::format(
             "\nmeasured, {} tokens in passes of {}\n",
             m.tokens,
             m.prefill_step_size) +
      row("weights", human_bytes(m.weights)) +
      row("keys and values", human_bytes(m.kv)) +
      row("workspace", human_bytes(m.workspace)) +
      row("together", human_bytes(m.total()));
}

std::string config(const ModelSummary& m) {
  std::string out = "\nconfig\n";
  const auto json = Json::parse(m.config);
  for (auto& [key, value] : json.items())
    out += fmt::format(
        "  {:<28} {}\n", printable(key), printable(value.dump(), 200));
  return out;
}

} // namespace

int run_inspect(const Values& values) {
  auto reference = values.text(values.has("MODEL") ? "MODEL" : "model");
  auto model = inspect(fetch_model(reference));
  std::optional<MeasuredBudget> budget;
  if (values.has("measure"))
    budget = load(model.path)->measure(values.integer("measure"));
  if (values.flag("json")) {
    auto json = to_json(model);
    if (budget) json["measured"] = to_json(*budget);
    print(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return 0;
  }
  print(facts(model) + formats(model));
  if (budget) print(measured(*budget));
  print(config(model) + parameters(model));
  return 0;
}

} // namespace mlxlm::cli

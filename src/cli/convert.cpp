// convert: a checkpoint into an MLX folder.
#include "mlxlm/convert.h"

#include <fmt/format.h>

#include <chrono>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::cli {
namespace {

// {"*.down_proj": {"bits": 6}, "lm_head": false}
std::vector<std::pair<std::string, std::optional<Quantization>>> layers(
    const Json& json) {
  std::vector<std::pair<std::string, std::optional<Quantization>>> out;
  for (const auto& [pattern, value] : json.items()) {
    auto refuse = [&, &pattern = pattern, &value = value] {
      throw UsageError(fmt::format(
          "--q-layers: {}: expected false or an object of bits, group_size and mode, found {}",
          printable(pattern),
          describe(value)));
    };
    if (value.is_boolean() && !value.get<bool>()) {
      out.emplace_back(pattern, std::nullopt);
      continue;
    }
    if (!value.is_object()) refuse();
    Quantization q;
    for (const auto& [key, item] : value.items()) {
      if (key == "bits" && item.is_number_integer())
        q.bits = item.get<int>();
      else if (key == "group_size" && item.is_number_integer())
        q.group_size = item.get<int>();
      else if (key == "mode" && item.is_string())
        q.mode = item.get<std::string>();
      else
        refuse();
    }
    out.emplace_back(pattern, q);
  }
  return out;
}

// From the JSON itself or the name of a file with it.
Json layers_json(const std::string& text) {
  if (text.find('{') != std::string::npos)
    return parse_json(text, "--q-layers", ErrorKind::request);
  return read_json(text);
}

ConvertOptions options_of(const Values& values) {
  ConvertOptions o;
  o.output = values.text("mlx-path");
  o.quantize = values.flag("quantize");
  o.dequantize = values.flag("dequantize");
  if (values.has("q-bits")) o.quantization.bits = values.integer("q-bits");
  if (values.has("q-group-size"))
    o.quantization.group_size = values.integer("q-group-size");
  o.quantization.mode = values.text("q-mode");
  if (values.has("quant-predicate")) o.recipe = values.text("quant-predicate");
  if (values.has("dtype")) o.dtype = values.text("dtype");
  if (values.has("q-layers")) {
    auto json = layers_json(values.text("q-layers"));
    if (!json.is_object())
      throw UsageError(
          "--q-layers: expected an object, found " + describe(json));
    o.layers = layers(json);
  }
  return o;
}

void report(const Conversion& done, double seconds, bool json) {
  if (json) {
    Json out = {
        {"path", done.path},
        {"tensors", done.tensors},
        {"files", done.files},
        {"bytes", done.bytes},
        {"parameters", done.parameters},
        {"bits_per_weight", done.bits_per_weight},
        {"resumed_bytes", done.resumed_bytes},
        {"seconds", seconds}};
    print(out.dump(2) + "\n");
    return;
  }
  if (done.resumed_bytes > 0)
    note(fmt::format(
        "{} were there from an interrupted run",
        human_bytes(done.resumed_bytes)));
  note(fmt::format(
      "{}: {} tensors, {}, {:.3f} bits per weight",
      done.path,
      done.tensors,
      human_bytes(done.bytes),
      done.bits_per_weight));
}

} // namespace

int run_convert(const Values& values) {
  if (!values.has("model"))
    throw UsageError("convert: expected --model, what to convert");
  if (values.has("upload-repo"))
    throw UsageError(
        "--upload-repo: expected none, mlxlm does not upload; convert, then use the hub's own tools");
  if (values.flag("trust-remote-code"))
    note("--trust-remote-code has no effect: no code of a model is ever run");
  auto options = options_of(values);
  fetch_model(values.text("model")); // with its own progress
  Progress progress("converting", true);
  options.progress = [&](const ConvertProgress& p) {
    progress.update(p.done, p.total);
  };
  auto start = std::chrono::steady_clock::now();
  auto done = convert(values.text("model"), options);
  progress.finish();
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  report(done, seconds.count(), values.flag("json"));
  return 0;
}

} // namespace mlxlm::cli

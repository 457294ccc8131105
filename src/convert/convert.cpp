#include "mlxlm/convert.h"

#include <mlx/compile.h>
#include <mlx/device.h>
#include <mlx/memory.h>

#include <filesystem>

#include "convert/folder.h"
#include "convert/plan.h"
#include "convert/recipe.h"
#include "convert/weights_folder.h"
#include "core/check.h"
#include "core/files.h"
#include "core/strings.h"
#include "mlxlm/hub.h"

namespace mlxlm {
namespace {

using converting::FilePlan;
using converting::Plan;
using converting::WeightsFolder;

namespace fs = std::filesystem;

void check_free(const std::string& path) {
  std::error_code ignored;
  if (path.empty() || fs::exists(fs::symlink_status(path, ignored)))
    fail(
        ErrorKind::request,
        path,
        "expected a folder that does not exist, found one; remove it or name another");
}

// Everything the written bytes depend on. A run goes on with what another one
// left only when this is the same.
std::string describe(
    const std::string& source,
    const Plan& plan,
    const FilePlan& files) {
  std::string out = "source " + source + "\n";
  std::error_code ignored;
  auto add = [&](const fs::path& path) {
    out += fmt::format(
        "{} {} {}\n",
        path.filename().string(),
        fs::file_size(path, ignored),
        fs::last_write_time(path, ignored).time_since_epoch().count());
  };
  if (is_directory(source)) {
    for (const auto& name : list_directory(source))
      if (ends_with(name, ".safetensors") || ends_with(name, ".gguf"))
        add(fs::path(source) / name);
  } else {
    add(source);
  }
  out += plan.config.dump() + "\n";
  for (std::size_t i = 0; i < files.names.size(); ++i)
    out += files.names[i] + " " + files.headers[i] + "\n";
  return out;
}

// The hub id that `reference` is, or nothing.
std::string hub_id(std::string_view reference) {
  std::string text(reference);
  std::error_code ignored;
  if (fs::exists(text, ignored) || text.find('/') == std::string::npos)
    return {};
  return split(split(text, '@')[0], ':')[0];
}

void write_tensors(
    const Plan& plan,
    const FilePlan& files,
    const std::string& folder,
    const std::string& description,
    const ConvertOptions& options,
    Conversion& out) {
  WeightsFolder target(folder, files, description);
  std::size_t done = 0;
  for (std::size_t i = 0; i < plan.tasks.size(); ++i) {
    const auto& task = plan.tasks[i];
    std::size_t bytes = 0;
    for (const auto& output : task.outputs)
      bytes += output.bytes();
    if (target.done(i)) {
      out.resumed_bytes += bytes;
    } else {
      task.run([&](std::size_t output,
                   std::size_t offset,
                   std::span<const std::byte> data) {
        target.write(files.places[i][output], offset, data);
      });
      target.finish(i, bytes);
    }
    done += bytes;
    out.tensors += task.outputs.size();
    if (options.progress)
      options.progress({task.outputs[0].name, done, out.bytes});
  }
  target.close();
}

} // namespace

Conversion convert(std::string_view reference, const ConvertOptions& options) {
  converting::check(options);
  auto output = options.output;
  while (output.size() > 1 && output.back() == '/')
    output.pop_back();
  check_free(output);
  const auto source = fetch(reference);
  if (mx::default_device() == mx::Device::cpu) {
    mx::disable_compile();
    mx::set_cache_limit(std::size_t{32} << 20);
  }

  const auto model = take_inventory(source);
  const auto plan = converting::make_plan(model, options);
  auto files = converting::plan_files(plan.tasks, options.shard_bytes);
  Conversion out;
  out.path = output;
  out.files = files.names.size();
  out.bytes = files.bytes();
  out.parameters = plan.parameters;
  if (out.parameters > 0)
    out.bits_per_weight = static_cast<double>(out.bytes) * 8 /
        static_cast<double>(out.parameters);

  const auto folder = output + ".partial";
  const auto description = describe(source, plan, files);
  write_tensors(plan, files, folder, description, options, out);
  files.index["metadata"] = {
      {"total_size", out.bytes}, {"total_parameters", out.parameters}};
  auto write = [&](const char* name, std::string_view text) {
    write_file(join_path(folder, name), text);
  };
  write("model.safetensors.index.json", converting::python_json(files.index));
  write("config.json", converting::python_json(plan.config));
  if (model.checkpoint.gguf)
    converting::write_tokenizer(*model.checkpoint.gguf, folder);
  else
    converting::copy_files(source, folder);
  write("README.md", converting::model_card(source, hub_id(reference)));

  std::error_code error;
  fs::rename(folder, output, error);
  if (error)
    fail(
        ErrorKind::io,
        output,
        "cannot rename {} to it: {}",
        folder,
        error.message());
  return out;
}

} // namespace mlxlm

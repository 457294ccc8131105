// models: list, pull, rm, verify in the cache shared with Python.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/hub.h"

namespace mlxlm::cli {
namespace {

Json to_json(const LocalModel& m) {
  return {
      {"reference", m.reference},
      {"path", m.path},
      {"bytes", m.bytes},
      {"complete", m.complete}};
}

int list(const Values& values) {
  auto models = local_models();
  if (values.flag("json")) {
    Json out = Json::array();
    for (auto& m : models)
      out.push_back(to_json(m));
    print(out.dump(2) + "\n");
    return 0;
  }
  std::size_t widest = 8;
  for (auto& m : models)
    widest = std::max(widest, m.reference.size());
  std::string out;
  for (auto& m : models)
    out += fmt::format(
        "{:<{}}  {:>9}  {}{}\n",
        m.reference,
        widest,
        human_bytes(m.bytes),
        m.path,
        m.complete ? "" : "  (incomplete)");
  print(out);
  if (models.empty()) note("no models found");
  return 0;
}

DownloadRequest request(const Values& values) {
  auto out = parse_hub_id(values.text("MODEL"));
  out.patterns = values.list("include");
  out.check = values.flag("check");
  return out;
}

int pull(const Values& values) {
  Cancellable guard;
  std::string path;
  {
    Progress progress("downloading", true);
    auto hub = make_hub_downloader(hub_options_from_environment());
    path = hub->download(request(values), download_control(progress));
  }
  if (!values.flag("json")) {
    print(path + "\n");
    return 0;
  }
  auto commit = std::filesystem::path(path).filename().string();
  Json out = {
      {"reference", values.text("MODEL")}, {"path", path}, {"commit", commit}};
  print(out.dump(2) + "\n");
  return 0;
}

int remove(const Values& values) {
  auto reference = values.text("MODEL");
  auto bytes = remove_model(reference);
  if (values.flag("json"))
    print(Json{{"reference", reference}, {"bytes", bytes}}.dump(2) + "\n");
  else
    note(fmt::format("removed {} ({})", reference, human_bytes(bytes)));
  return 0;
}

int verify(const Values& values) {
  Cancellable guard;
  std::vector<FileCheck> files;
  {
    Progress progress("checking", true);
    files = verify_model(values.text("MODEL"), download_control(progress));
  }
  auto wrong = std::count_if(
      files.begin(), files.end(), [](auto& f) { return !f.problem.empty(); });
  if (values.flag("json")) {
    Json out = Json::array();
    for (auto& f : files)
      out.push_back(
          {{"file", f.file}, {"bytes", f.bytes}, {"problem", f.problem}});
    print(out.dump(2) + "\n");
  } else {
    for (auto& f : files)
      print(fmt::format(
          "{} {}{}{}\n",
          f.problem.empty() ? "good   " : "damaged",
          printable(f.file),
          f.problem.empty() ? "" : ": ",
          f.problem));
  }
  if (wrong > 0)
    note(fmt::format(
        "{} of {} files damaged; mlxlm models pull {} --check fetches them "
        "again",
        wrong,
        files.size(),
        values.text("MODEL")));
  return wrong > 0 ? 1 : 0;
}

} // namespace

int run_models(const Values& values) {
  if (values.flag("supported")) {
    print_supported(values.flag("json"));
    return 0;
  }
  auto action = values.text("ACTION");
  if (action == "list") return list(values);
  if (!values.has("MODEL"))
    throw UsageError(fmt::format("models {}: expected a model", action));
  if (action == "pull") return pull(values);
  return action == "rm" ? remove(values) : verify(values);
}

} // namespace mlxlm::cli

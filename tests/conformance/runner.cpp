// mlxlm-conformance [--only GLOB] [--not-built FILE] [--bad-input] DIR...
// Finds the cases below DIR, runs each through its family and prints one line a
// case: `PASS|FAIL|SKIP family/case figure`; the last line counts them.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include "conformance.h"
#include "core/files.h"
#include "core/strings.h"

namespace mlxlm::conformance {
namespace {

namespace fs = std::filesystem;

// The names of the fixture families: the nearest ancestor of a case so named is
// its family.
constexpr std::array family_names = {
    "adapters",
    "chat_templates",
    "embedders",
    "gguf",
    "image_ops",
    "jang",
    "kv_cache",
    "quantized",
    "samplers",
    "text",
    "tokenizer",
    "tool_parsers",
    "turboquant",
    "vision"};

struct Options {
  std::string only = "*";
  std::string not_built = MLXLM_SOURCE_DIR "/tests/not_built.txt";
  bool bad_input = false; // see bad_input.cpp
  std::vector<std::string> roots;
};

Options parse(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; ++i) {
    std::string_view arg = argv[i];
    bool value = arg == "--only" || arg == "--not-built";
    if (value && i + 1 == argc)
      fail(ErrorKind::request, arg, "expected a value");
    if (arg == "--only")
      out.only = argv[++i];
    else if (arg == "--not-built")
      out.not_built = argv[++i];
    else if (arg == "--bad-input")
      out.bad_input = true;
    else if (starts_with(arg, "-"))
      fail(
          ErrorKind::request,
          arg,
          "expected --only, --not-built, --bad-input or a folder");
    else
      out.roots.emplace_back(arg);
  }
  if (out.roots.empty())
    fail(ErrorKind::request, "mlxlm-conformance", "expected a folder of cases");
  return out;
}

struct Found {
  std::string family, name, folder;
  std::string id() const {
    return family + "/" + name;
  }
};

// The family is looked for upwards from the case's parent; the case's own name
// counts last (a family folder may be a case itself).
std::optional<Found> identify(const fs::path& folder) {
  auto is_family = [](const fs::path& p) {
    auto name = p.filename().string();
    return std::find(family_names.begin(), family_names.end(), name) !=
        family_names.end();
  };
  auto parent = folder.parent_path();
  for (auto p = parent; p.has_relative_path(); p = p.parent_path())
    if (is_family(p))
      return Found{
          p.filename().string(),
          folder.lexically_relative(p).generic_string(),
          folder.string()};
  return std::nullopt;
}

void collect(const fs::path& folder, std::vector<Found>& out) {
  if (fs::is_regular_file(folder / "case.json")) {
    auto found = identify(folder);
    if (!found)
      fail(
          ErrorKind::request,
          folder.string(),
          "expected a folder named like a fixture family above the case");
    out.push_back(*found);
  }
  std::vector<fs::path> children;
  for (auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory() &&
        !starts_with(entry.path().filename().string(), "_"))
      children.push_back(entry.path());
  std::sort(children.begin(), children.end());
  for (auto& child : children)
    collect(child, out);
}

// The model_type of a case: its own, or that of the checkpoint it names.
std::optional<std::string> model_type(const Case& c) {
  if (auto own = c.json.find<std::string>("model_type")) return own;
  for (auto folder : {std::string("model"), c.json.opt("model", "")}) {
    auto path = c.path(folder + "/config.json");
    if (folder.empty() || !is_file(path)) continue;
    Fields config(read_json(path, {.nonfinite = true}), path);
    return config.find<std::string>("model_type");
  }
  return std::nullopt;
}

std::optional<std::string> why_not_built(const Case& c) {
  const auto& list = *c.not_built;
  if (list.has("family", c.family)) return "family " + c.family;
  auto type = model_type(c);
  if (type && list.has("model_type", *type)) return "model_type " + *type;
  auto block = c.json.find<std::string>("quantization");
  if (c.family == "gguf" && block && list.has("block", *block))
    return "block " + *block;
  return std::nullopt;
}

Outcome run(const Found& found, const NotBuilt& not_built, bool bad_input) {
  try {
    auto path = join_path(found.folder, "case.json");
    Case c{
        found.family,
        found.name,
        found.folder,
        Fields(read_json(path, {.nonfinite = true}), path),
        &not_built};
    if (auto why = why_not_built(c)) return skipped("not built: " + *why);
    if (bad_input) return bad_input_case(c);
    for (auto& family : families())
      if (family.name == c.family) return family.run(c);
    return judge(false, "no runner for this family");
  } catch (const std::exception& e) {
    return judge(false, printable(e.what(), 400));
  }
}

int run_all(const Options& options) {
  std::vector<Found> cases;
  for (auto& root : options.roots)
    collect(fs::weakly_canonical(fs::absolute(root)), cases);
  NotBuilt not_built;
  if (is_file(options.not_built))
    not_built = NotBuilt(read_file(options.not_built), options.not_built);
  int counts[3] = {0, 0, 0};
  for (auto& c : cases) {
    if (!glob_match(options.only, c.id())) continue;
    auto outcome = run(c, not_built, options.bad_input);
    constexpr const char* words[] = {"PASS", "FAIL", "SKIP"};
    auto status = static_cast<int>(outcome.status);
    ++counts[status];
    fmt::print("{} {} {}\n", words[status], c.id(), outcome.figure);
    std::fflush(stdout);
  }
  fmt::print(
      "{} passed, {} failed, {} skipped\n", counts[0], counts[1], counts[2]);
  return counts[1] > 0 ? 1 : 0;
}

} // namespace

NotBuilt::NotBuilt(std::string_view text, std::string_view where) {
  constexpr std::array kinds = {"family", "model_type", "block", "direction"};
  int number = 0;
  for (auto& line : split(text, '\n')) {
    ++number;
    std::vector<std::string> words;
    for (auto& word : split(line.substr(0, line.find('#')), ' '))
      if (!word.empty() && word != "\r") words.push_back(word);
    if (words.empty()) continue;
    if (words.size() != 2 ||
        std::find(kinds.begin(), kinds.end(), words[0]) == kinds.end())
      fail(
          ErrorKind::config,
          fmt::format("{}:{}", where, number),
          "expected `family|model_type|block|direction NAME`, found \"{}\"",
          printable(line));
    entries_.emplace(words[0], words[1]);
  }
}

bool NotBuilt::has(std::string_view kind, std::string_view name) const {
  return entries_.contains(std::pair<std::string, std::string>(kind, name));
}

std::string Case::path(std::string_view file) const {
  return join_path(folder, file);
}

Outcome judge(bool ok, std::string figure) {
  return {
      ok ? Outcome::Status::pass : Outcome::Status::fail, std::move(figure)};
}

Outcome skipped(std::string figure) {
  return {Outcome::Status::skip, std::move(figure)};
}

} // namespace mlxlm::conformance

int main(int argc, char** argv) {
  try {
    return mlxlm::conformance::run_all(mlxlm::conformance::parse(argc, argv));
  } catch (const std::exception& e) {
    fmt::print(stderr, "mlxlm-conformance: {}\n", e.what());
    return 2;
  }
}

// C02 of the catalogue of hostile input: whatever value a field of a config
// has, a family builds or refuses it in one line. Built as outlines: sizes and
// checks, no weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "mlxlm/error.h"
#include "models/families.h"
#include "weights/loader.h"

namespace mlxlm {
namespace {

namespace fs = std::filesystem;

std::vector<Json> hostile() {
  return {
      0,
      -1,
      1,
      7,
      1 << 20,
      std::int64_t{1} << 31,
      std::uint64_t{1} << 63,
      1e308,
      -0.5,
      "12",
      "",
      true,
      false,
      nullptr,
      Json::array(),
      Json::array({0}),
      Json::array({-1, 1e9, "x"}),
      Json::object(),
      Json::object({{"rope_type", "yarn"}, {"type", 5}, {"factor", 0}})};
}

// Every path to a value, members of objects included.
void paths(
    const Json& value,
    const Json::json_pointer& at,
    std::vector<Json::json_pointer>& out) {
  for (const auto& [key, member] : value.items()) {
    out.push_back(at / key);
    if (member.is_object()) paths(member, at / key, out);
  }
}

// Nothing, or what left the build that should not.
std::string finding(const models::Family& family, const Json& config) {
  try {
    auto loader = Loader::random({}, {.outline = true});
    auto model = family.build(Fields(config, "config.json"), loader->root());
    model->caches();
  } catch (const Error& e) {
    // Names file and field, or the module whose sizes do not fit.
    std::string text = e.what();
    if (text.find(": expected ") == text.npos || text.find('\n') != text.npos)
      return "an error of another form: " + text;
  } catch (const std::exception& e) {
    return std::string("an exception of another kind: ") + e.what();
  }
  return {};
}

void expect_none(const models::Family& family, const Json& config) {
  std::vector<Json::json_pointer> all;
  paths(config, Json::json_pointer(), all);
  for (const auto& at : all) {
    if (at.to_string() == "/model_type") continue;
    for (const auto& value : hostile()) {
      auto changed = config;
      changed[at] = value;
      auto found = finding(family, changed);
      EXPECT_EQ(found, "") << family.model_type << " with " << at.to_string()
                           << " = " << value.dump();
    }
  }
}

// What the carried fixtures have, where ./test has unpacked them, or others.
std::vector<fs::path> configs() {
  std::vector<fs::path> out;
  for (const char* folder :
       {"build/fixtures/text", "build/shared-fixtures/text"}) {
    std::error_code none;
    fs::path root = fs::path(MLXLM_SOURCE_DIR) / folder;
    for (const auto& entry : fs::directory_iterator(root, none))
      if (fs::exists(entry.path() / "model" / "config.json"))
        out.push_back(entry.path() / "model" / "config.json");
  }
  return out;
}

} // namespace

TEST(HostileConfig, OfEveryFixture) {
  if (configs().empty())
    GTEST_SKIP() << "expected unpacked fixtures (./test unit), found none";
  std::set<std::string> seen;
  for (const auto& path : configs()) {
    auto config = read_json(path.string(), {.nonfinite = true});
    if (config.contains("text_config")) config = config["text_config"];
    auto type = config.value("model_type", "");
    const auto* family = models::find_family(type);
    if (!family || !seen.insert(config.dump()).second) continue;
    expect_none(*family, config);
  }
}

} // namespace mlxlm

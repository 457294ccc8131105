// Loading a quantized checkpoint: memory, progress, and pages given back.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"
#include "models/load.h"

namespace mlxlm {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder()
      : path_(
            fs::temp_directory_path() /
            ("mlxlm_loading_" + std::to_string(std::random_device{}()))) {
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path operator/(const char* name) const {
    return path_ / name;
  }
  std::string path() const {
    return path_.string();
  }

 private:
  fs::path path_;
};

// A Llama of 4 bits and about 180 MB.
class Checkpoint4Bit {
 public:
  explicit Checkpoint4Bit(const Folder& folder) {
    matrix("model.embed_tokens", 32000, 2048);
    for (int i = 0; i < 4; ++i) {
      auto layer = fmt::format("model.layers.{}.", i);
      for (const char* name : {"q_proj", "o_proj"})
        matrix(layer + "self_attn." + name, 2048, 2048);
      for (const char* name : {"k_proj", "v_proj"})
        matrix(layer + "self_attn." + name, 512, 2048);
      for (const char* name : {"gate_proj", "up_proj"})
        matrix(layer + "mlp." + name, 8192, 2048);
      matrix(layer + "mlp.down_proj", 2048, 8192);
      tensor(layer + "input_layernorm.weight", "F16", {2048}, 2);
      tensor(layer + "post_attention_layernorm.weight", "F16", {2048}, 2);
    }
    tensor("model.norm.weight", "F16", {2048}, 2);
    write(folder);
  }
  std::size_t bytes() const {
    return bytes_;
  }

 private:
  void matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    tensor(name + ".weight", "U32", {rows, cols / 8}, 4);
    tensor(name + ".scales", "F16", {rows, cols / 64}, 2);
    tensor(name + ".biases", "F16", {rows, cols / 64}, 2);
  }
  void tensor(
      const std::string& name,
      const char* type,
      const std::vector<std::int64_t>& shape,
      std::size_t size) {
    auto end = bytes_;
    for (auto dim : shape)
      size *= static_cast<std::size_t>(dim);
    end += size;
    header_[name] = {
        {"dtype", type}, {"shape", shape}, {"data_offsets", {bytes_, end}}};
    bytes_ = end;
  }
  void write(const Folder& folder) const {
    Json config = {
        {"model_type", "llama"},
        {"hidden_size", 2048},
        {"num_hidden_layers", 4},
        {"intermediate_size", 8192},
        {"vocab_size", 32000},
        {"num_attention_heads", 32},
        {"num_key_value_heads", 8},
        {"tie_word_embeddings", true},
        {"quantization", {{"group_size", 64}, {"bits", 4}}}};
    std::ofstream(folder / "config.json") << config.dump();
    auto header = header_.dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    std::uint64_t length = header.size();
    std::ofstream out(folder / "model.safetensors", std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << header;
    std::string block(1 << 20, '\x11');
    for (std::size_t left = bytes_; left > 0;) {
      auto n = std::min(left, block.size());
      out.write(block.data(), static_cast<std::streamsize>(n));
      left -= n;
    }
  }

  Json header_ = Json::object();
  std::size_t bytes_ = 0;
};

// A line of /proc/self/status in bytes; 0 where there is none.
std::size_t status(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (starts_with(line, key + ":"))
      return std::stoull(line.substr(key.size() + 1)) * 1024;
  return 0;
}

// Bytes of the file's mapping that lie in memory.
std::size_t resident(const std::string& file) {
  std::ifstream in("/proc/self/smaps");
  bool inside = false;
  std::size_t sum = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.find('-') < 17) inside = ends_with(line, file);
    if (inside && starts_with(line, "Rss:"))
      sum += std::stoull(line.substr(4)) * 1024;
  }
  return sum;
}

double seconds(auto&& work) {
  auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

TEST(Loading, OneCopyInMemoryAndEveryByteOnce) {
  mx::set_default_device(mx::Device::cpu);
  Folder folder;
  Checkpoint4Bit checkpoint(folder);
  auto file = (folder / "model.safetensors").string();
  auto plain = seconds([&] {
    std::ifstream in(file, std::ios::binary);
    std::vector<char> buffer(fs::file_size(file));
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
  });
  const auto before = status("VmRSS");
  std::ofstream("/proc/self/clear_refs") << 5; // the peak starts anew
  std::size_t done = 0, total = 0, calls = 0;
  ModelOptions options;
  options.progress = [&](std::size_t d, std::size_t t) {
    EXPECT_GE(d, done);
    done = d;
    total = t;
    ++calls;
  };
  std::optional<LoadedModel> model;
  auto took = seconds([&] { model = load_model(folder.path(), options); });
  EXPECT_EQ(total, checkpoint.bytes());
  EXPECT_EQ(done, total);
  EXPECT_GT(calls, 30u);
  EXPECT_EQ(model->quantization, "affine 4 bit, group 64");
  RecordProperty("load_seconds", std::to_string(took));
  RecordProperty("plain_read_seconds", std::to_string(plain));
  std::printf("load %.3f s, plain read %.3f s\n", took, plain);
  if (before == 0) GTEST_SKIP() << "no /proc";
  const auto peak = status("VmHWM");
  EXPECT_LE(
      peak - std::min(peak, before),
      checkpoint.bytes() + checkpoint.bytes() / 10 + (std::size_t{80} << 20));
  EXPECT_LE(resident(file), checkpoint.bytes() / 20);
}

} // namespace
} // namespace mlxlm

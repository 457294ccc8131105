// A whole checkpoint of a stranger: the config that a GGUF file's metadata
// make, or an index of safetensors files; then every tensor under its Hugging
// Face name, all its rows read.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "checkpoint/checkpoint.h"
#include "fuzz.h"

using namespace mlxlm;

namespace {

// One folder a process; its files are written anew for every input.
const std::string& folder() {
  static const std::string path = [] {
    auto name = "mlxlm_fuzz_" + std::to_string(::getpid());
    auto made = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directories(made);
    constexpr std::string_view header =
        R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
    std::string file(8, '\0');
    file[0] = static_cast<char>(header.size());
    write_file(made / "a.safetensors", file + std::string(header) + "xy");
    write_file(made / "config.json", "{}");
    return made.string();
  }();
  return path;
}

volatile unsigned sum = 0;

void read(const Checkpoint& checkpoint) {
  for (auto& [name, tensor] :
       rewritten(*checkpoint.tensors, checkpoint.rules)) {
    std::vector<std::byte> scratch(tensor.row_bytes());
    for (std::int64_t row = 0; row < tensor.rows() && row < 64; ++row) {
      auto bytes = tensor.row(row, scratch);
      fuzz::hold(bytes.size() == tensor.row_bytes());
      sum = sum + fuzz::touch(bytes);
    }
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::text(data, size);
  bool gguf = input.starts_with("GGUF");
  auto path = folder() + (gguf ? "/x.gguf" : "/model.safetensors.index.json");
  std::ofstream(path, std::ios::binary) << input; // write_file would sync
  fuzz::refused_or_done([&] { read(open_checkpoint(gguf ? path : folder())); });
  return 0;
}

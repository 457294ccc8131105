// The GGUF reader: whatever the bytes, metadata and tensors lie inside the
// file, and every list can be read as every type without leaving it.
#include "checkpoint/gguf.h"

#include "fuzz.h"

using namespace mlxlm;

namespace {

volatile unsigned sum = 0;

void read_key(const GgufMetadata& metadata, std::string_view key) {
  sum = sum + unsigned(describe(*metadata.find(key)).size());
  fuzz::refused_or_done([&] {
    for (auto text : metadata.strings(key))
      sum = sum + fuzz::touch(std::as_bytes(std::span(text)));
  });
  fuzz::refused_or_done([&] { metadata.integers(key); });
  fuzz::refused_or_done([&] { metadata.numbers(key); });
  fuzz::refused_or_done([&] { metadata.get<std::int64_t>(key); });
  fuzz::refused_or_done([&] { metadata.get<double>(key); });
  fuzz::refused_or_done([&] { metadata.get<std::string_view>(key); });
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  fuzz::refused_or_done([&] {
    auto content = parse_gguf(fuzz::bytes(data, size), "fuzz");
    for (const auto& [key, value] : content.metadata.entries())
      read_key(content.metadata, key);
    for (const auto& tensor : content.tensors) {
      const auto& kind = info(tensor.storage);
      auto blocks = tensor.elements() / kind.block;
      fuzz::hold(tensor.bytes.size() == std::size_t(blocks) * kind.bytes);
      sum = sum + fuzz::touch(tensor.bytes);
    }
  });
  return 0;
}

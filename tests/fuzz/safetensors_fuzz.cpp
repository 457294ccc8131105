// The safetensors reader: whatever the bytes, tensors lie inside the file and
// have exactly the bytes of their shape.
#include "checkpoint/safetensors.h"

#include "fuzz.h"

using namespace mlxlm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  fuzz::refused_or_done([&] {
    auto content = parse_safetensors(fuzz::bytes(data, size), "fuzz");
    volatile unsigned sum = 0;
    for (const auto& tensor : content.tensors) {
      const auto& kind = info(tensor.storage);
      auto blocks = tensor.elements() / kind.block;
      fuzz::hold(tensor.bytes.size() == std::size_t(blocks) * kind.bytes);
      sum = sum + fuzz::touch(tensor.bytes);
    }
  });
  return 0;
}

// Memory that holds nothing of its own: no sequences, no bytes.
#pragma once

#include "cache/memory.h"
#include "core/check.h"

namespace mlxlm {

class BytelessMemory : public Memory {
 public:
  std::unique_ptr<SequenceMemory> sequence() override {
    fail(
        ErrorKind::internal,
        "memory",
        "expected a pass without sequences of its own, found a request for one");
  }
  std::size_t bytes() const override {
    return 0;
  }
  std::size_t bytes_per_token() const override {
    return 0;
  }
  std::size_t bytes_for(int) const override {
    return 0;
  }
  int max_tokens() const override {
    return 1 << 30;
  }
  bool partial_commit() const override {
    return true;
  }
  void release_unused() override {}
};

} // namespace mlxlm

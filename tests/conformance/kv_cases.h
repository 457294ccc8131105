// What the kinds of case of the family `kv_cache` share.
#pragma once

#include "cache/memory.h"
#include "conformance.h"

namespace mlxlm::conformance {

// Of a case with quantized keys and values.
struct QuantizedKv {
  int bits = 0, group = 64;
  int start = 0; // tokens before it is
};

KvStorage kv_storage(const QuantizedKv& how);

Outcome kv_script_case(const Case&);

} // namespace mlxlm::conformance

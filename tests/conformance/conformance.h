// The conformance runner's vocabulary: a case is a folder with a case.json, a
// family is a function that runs one case through the real loader.
//
// To add a family: write `Outcome foo_case(const Case&)` in foo_cases.cpp,
// declare it here and add its row to families.cpp.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "core/fields.h"

namespace mlxlm::conformance {

// What tests/not_built.txt lists: pairs such as {"model_type", "bamba"}.
class NotBuilt {
 public:
  NotBuilt() = default;
  // Lines `KIND NAME`, `#` starts a comment. KIND: family, model_type, block,
  // direction. Throws Error(config) for anything else.
  NotBuilt(std::string_view text, std::string_view where);
  bool has(std::string_view kind, std::string_view name) const;

 private:
  std::set<std::pair<std::string, std::string>, std::less<>> entries_;
};

struct Case {
  std::string family; // "quantized"
  std::string name; // path below the family folder, "llama_bf16_4bit_g64"
  std::string folder; // where case.json lies
  Fields json; // case.json
  const NotBuilt* not_built = nullptr;

  std::string path(std::string_view file) const;
};

struct Outcome {
  enum class Status { pass, fail, skip };
  Status status = Status::pass;
  // What was measured, one line: "logits 3.1e-05 of 2e-03, greedy 16 of 16".
  std::string figure;
};
// Passes when `ok`. `figure` is shown either way.
Outcome judge(bool ok, std::string figure);
// Only for what not_built.txt names; see Case::not_built.
Outcome skipped(std::string figure);

// A thrown Error is a FAIL with its message, so functions need not catch.
using CaseFunction = Outcome (*)(const Case&);
struct Family {
  std::string_view name;
  CaseFunction run;
};
std::span<const Family> families();

// The runners, in files of their own.
Outcome adapter_case(const Case&);
Outcome bad_input_case(const Case&); // instead of the family's, on request
Outcome gguf_case(const Case&);
Outcome jang_case(const Case&);
Outcome kv_case(const Case&);
Outcome quantized_case(const Case&);
Outcome sampler_case(const Case&);
Outcome template_case(const Case&);
Outcome text_case(const Case&);
Outcome tokenizer_case(const Case&);
Outcome tool_case(const Case&);
Outcome turboquant_case(const Case&);

} // namespace mlxlm::conformance

#include "text/rust.h"

#include <gtest/gtest.h>

namespace mlxlm::text {
namespace {

TEST(Rust, ErrorsComeBackAsText) {
  mlxlm_tokenizer* tokenizer = nullptr;
  RustBuffer error;
  EXPECT_EQ(mlxlm_tokenizer_from_json(slice("{"), &tokenizer, error.out()), 0);
  EXPECT_NE(error.view().find("EOF"), std::string_view::npos) << error.view();
}

} // namespace
} // namespace mlxlm::text

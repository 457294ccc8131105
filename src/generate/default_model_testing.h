// A test fixture with the default model, loaded once for all tests of a suite;
// they are skipped where it is not installed.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "mlxlm/error.h"
#include "mlxlm/model.h"

namespace mlxlm {

class WithDefaultModel : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("MLXLM_DEPS", MLXLM_SOURCE_DIR "/.deps", 0);
    try {
      resolve("smollm2");
    } catch (const Error&) {
      return;
    }
    model_ = load("smollm2");
  }
  static void TearDownTestSuite() {
    model_.reset();
  }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << "smollm2 is not installed";
  }

  static inline std::shared_ptr<ModelContainer> model_;
};

} // namespace mlxlm

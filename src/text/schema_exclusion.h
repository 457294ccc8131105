// Which schemas exclude one another: other types, other constants, ranges that
// do not meet, objects of which a needed property does.
#pragma once

#include <memory>

#include "core/json.h"

namespace mlxlm {

// The steps of all proofs together are bounded; beyond, nothing is proven.
class SchemaExclusion {
 public:
  // `root`: what references are followed in; it stays as it is.
  explicit SchemaExclusion(const Json& root);
  ~SchemaExclusion();

  // Whether no value can be of both, which are parts of the root. False: it
  // could not be shown.
  bool proven(const Json& a, const Json& b);

 private:
  class Search;
  std::unique_ptr<Search> search_;
};

} // namespace mlxlm

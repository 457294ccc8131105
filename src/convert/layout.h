// What mlx-lm's folders do differently from what a family's tensors are called
// here: names, and which matrices its convert packs in which way.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace mlxlm::converting {

// One row says one thing of one family. Patterns: `*` is any run of characters.
struct Difference {
  enum class Kind {
    name, // `pattern` is called `to` (with the runs of `pattern`)
    bare, // a matrix that is an array of its module: never packed
    eight_bits, // packed in 8 bits, groups of 64, whatever was asked for
    never, // a module that is left as it is
    keep_type, // a tensor that --dtype does not touch
    column, // a matrix [a, b] that mlx-lm has as [a, b, 1]
    scalar, // one value in an array, without dimensions there
    less_one, // norm weights that mlx-lm stores without the one
    latent, // keys and values of all heads from one latent: taken apart into
            // `embed_q` [heads, rank, nope] and `unembed_out` [heads, v, rank]
  };
  std::string_view model_type; // of the family's row; "*": all
  Kind kind;
  std::string_view pattern;
  std::string_view to = {};
};

std::span<const Difference> differences();

// The differences of one family.
class Layout {
 public:
  // `wrapper`: model_type of the multimodal config around it, or empty.
  Layout(std::string model_type, std::string wrapper);
  // A tensor's name in the folder.
  std::string name(std::string_view ours) const;
  bool is(Difference::Kind kind, std::string_view path) const;

 private:
  bool mine(const Difference& row) const;
  std::string model_type_, wrapper_;
};

} // namespace mlxlm::converting

// Renaming and rearranging the tensors of a checkpoint, as data. Rules apply in
// order, each to what the ones before it left; nothing is read until a tensor
// is used.
//
//   {rename("transformer.h.*", "model.layers.*"),
//   drop("*.rotary_emb.inv_freq"),
//    stack("*.experts.#.w1.*", "*.switch_mlp.gate_proj.*")}
//
// In patterns `*` is any run of characters; in the result each `*` stands for
// the run of the same number. `#` is a decimal number (stack only).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/row_tensor.h"

namespace mlxlm {

namespace rewrite {
struct Rename {
  std::string from, to;
};
struct Drop {
  std::string pattern;
};
// Tensors numbered 0..n-1 by `#` become one with a new first axis.
struct Stack {
  std::string from, to;
};
// One tensor into equal parts along `axis`; interleaved: part k takes every
// n-th.
struct Split {
  std::string from;
  std::vector<std::string> to;
  int axis = 0;
  bool interleaved = false;
};
// Rows of one tensor, the given numbers of them, become tensors.
struct Cut {
  std::string from;
  std::vector<std::string> to;
  std::vector<std::int64_t> rows;
};
struct MoveAxis {
  std::string pattern;
  int from, to;
};
struct MergeAxes { // the last two dimensions become one
  std::string pattern;
};
struct Offset {
  std::string pattern;
  float value;
};
struct UnpairRows {
  std::string pattern;
  std::int64_t heads;
};
struct Orient {
  std::string pattern;
  std::int64_t inputs;
};
struct FirstRows {
  std::string pattern;
  std::int64_t count;
};
} // namespace rewrite

using Rule = std::variant<
    rewrite::Rename,
    rewrite::Drop,
    rewrite::Stack,
    rewrite::Split,
    rewrite::Cut,
    rewrite::MoveAxis,
    rewrite::MergeAxes,
    rewrite::Offset,
    rewrite::UnpairRows,
    rewrite::Orient,
    rewrite::FirstRows>;

Rule rename(std::string from, std::string to);
Rule drop(std::string pattern);
Rule stack(std::string from, std::string to);
Rule split(
    std::string from,
    std::vector<std::string> to,
    int axis = 0,
    bool interleaved = false);
Rule cut(
    std::string from,
    std::vector<std::string> to,
    std::vector<std::int64_t> rows);
Rule move_axis(std::string pattern, int from, int to);
Rule merge_axes(std::string pattern);
Rule offset(std::string pattern, float value);
// llama.cpp stores the rows of q and k for interleaved rotary pairs.
Rule unpair_rows(std::string pattern, std::int64_t heads);
// Matrices whose rows are the inputs, as the dimensions tell, are transposed.
Rule orient(std::string pattern, std::int64_t inputs);
// Of tensors with more rows than `count`, the first ones.
Rule first_rows(std::string pattern, std::int64_t count);

// `text` rewritten from `from` to `to`, or nothing when it does not match.
std::optional<std::string> substitute(
    std::string_view text,
    std::string_view from,
    std::string_view to);

// A tensor's name behind the rules that rename, as if no other rule took it.
std::string renamed(std::string name, const std::vector<Rule>& rules);

using TensorMap = std::map<std::string, RowTensor, std::less<>>;

// The tensors of `source` under their new names. Throws Error(weights) when two
// get the same name or a part is missing.
TensorMap rewritten(const TensorSource& source, const std::vector<Rule>& rules);
TensorMap rewritten(TensorMap tensors, const std::vector<Rule>& rules);

} // namespace mlxlm

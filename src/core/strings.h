// Text helpers that every room needs.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm {

bool valid_utf8(std::string_view text);
// Length of the longest prefix of `bytes` that ends on a character boundary: an
// incomplete (but so far valid) last character is left out.
std::size_t complete_utf8(std::string_view bytes);
// Replaces every maximal invalid part by U+FFFD, as Python's errors="replace".
std::string replace_invalid_utf8(std::string_view bytes);
// One line, control characters escaped, at most `limit` bytes: what an error
// may quote of something from outside.
std::string printable(std::string_view text, std::size_t limit = 120);

std::vector<std::string> split(std::string_view text, char separator);
std::string join(
    std::span<const std::string> parts,
    std::string_view separator);
bool starts_with(std::string_view text, std::string_view prefix);
bool ends_with(std::string_view text, std::string_view suffix);
std::string lower_ascii(std::string_view text);
// `*` (any run) and `?` (any one character).
bool glob_match(std::string_view pattern, std::string_view text);

// The `count` candidates nearest to `name` by edit distance, best first; leaves
// out hopeless ones.
std::vector<std::string> nearest(
    std::string_view name,
    std::span<const std::string> candidates,
    std::size_t count = 3);
// "1.2 GB", "345 MB": decimal units, as mlx-lm prints.
std::string human_bytes(std::size_t bytes);

} // namespace mlxlm

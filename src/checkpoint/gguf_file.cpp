// GGUF files on disk, whole or split into parts.

#include <charconv>

#include "checkpoint/gguf.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

constexpr const char* count_key = "split.count";
constexpr std::size_t suffix_length =
    std::string_view("-00001-of-00003.gguf").size();

// The path of part `number` of `count`, from the path of any part.
std::string part_path(
    const std::string& path,
    std::int64_t number,
    std::int64_t count) {
  return fmt::format(
      "{}-{:05}-of-{:05}.gguf",
      path.substr(0, path.size() - suffix_length),
      number,
      count);
}

} // namespace

GgufFile::GgufFile(const std::string& path) : path_(path) {
  add_part(path);
  auto count = metadata().get<std::int64_t>(count_key).value_or(1);
  if (count < 1 || count > 65'535)
    fail(
        ErrorKind::weights,
        metadata().where(count_key),
        "expected 1 to 65535 parts, found {}",
        count);
  if (count > 1) open_parts(count);
  for (auto& part : parts_)
    for (const auto& tensor : part.tensors)
      if (!index_.emplace(tensor.name, &tensor).second)
        fail(
            ErrorKind::weights,
            tensor.where(),
            "expected each tensor in one part, found it in two");
}

// All parts, `path_` being any of them, in place of it.
void GgufFile::open_parts(std::int64_t count) {
  const auto& path = path_;
  auto number = metadata().req<std::int64_t>("split.no") + 1;
  if (number < 1 || number > count || path.size() <= suffix_length ||
      part_path(path, number, count) != path)
    fail(
        ErrorKind::weights,
        file_name(path),
        "expected a name ending in -{:05}-of-{:05}.gguf for this part, found another",
        number,
        count);
  files_.clear();
  parts_.clear();
  for (std::int64_t i = 1; i <= count; ++i) {
    auto part = part_path(path, i, count);
    if (!is_file(part))
      fail(
          ErrorKind::weights,
          file_name(part),
          "expected part {} of {}, found no such file",
          i,
          count);
    add_part(part);
    const auto& found = parts_.back().metadata;
    if (found.req<std::int64_t>("split.no") + 1 != i ||
        found.req<std::int64_t>(count_key) != count)
      fail(
          ErrorKind::weights,
          file_name(part),
          "expected part {} of {}, found part {} of {}",
          i,
          count,
          found.req<std::int64_t>("split.no") + 1,
          found.req<std::int64_t>(count_key));
  }
  auto total = metadata().get<std::int64_t>("split.tensors.count");
  std::size_t found = 0;
  for (const auto& part : parts_)
    found += part.tensors.size();
  if (total && *total != static_cast<std::int64_t>(found))
    fail(
        ErrorKind::weights,
        file_name(path),
        "expected {} tensors in all parts, found {}",
        *total,
        found);
}

void GgufFile::add_part(const std::string& path) {
  files_.push_back(std::make_shared<const MappedFile>(path));
  parts_.push_back(parse_gguf(files_.back()->bytes(), file_name(path)));
  for (auto& tensor : parts_.back().tensors)
    tensor.file = files_.back();
}

const TensorView* GgufFile::find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second;
}

std::vector<std::string> GgufFile::names() const {
  std::vector<std::string> out;
  for (const auto& part : parts_)
    for (const auto& tensor : part.tensors)
      out.push_back(tensor.name);
  return out;
}

} // namespace mlxlm

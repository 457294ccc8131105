#include "checkpoint/safetensors.h"

#include <algorithm>

#include "checkpoint/checked.h"
#include "checkpoint/safetensors_header.h"
#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

using Range = SafetensorsHeader::Range;

// Each tensor's bytes are exactly its shape, inside the data.
void check_sizes(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::uint64_t data_bytes,
    std::string_view where) {
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const auto& t = content.tensors[i];
    auto in = [&] { return fmt::format("{}: {}", where, printable(t.name)); };
    auto [begin, end] = offsets[i];
    if (begin > end)
      fail(
          ErrorKind::weights,
          in(),
          "expected data_offsets in order, found [{}, {}]",
          begin,
          end);
    if (end > data_bytes)
      fail(
          ErrorKind::weights,
          in(),
          "expected data up to byte {}, found a file with {}; incomplete download?",
          end,
          data_bytes);
    const auto& type = info(t.storage);
    auto size = storage_bytes(t.shape, type.block, type.bytes);
    if (!size)
      fail(
          ErrorKind::weights,
          in(),
          "expected a shape that can be held, found [{}] of {}",
          fmt::join(t.shape, ", "),
          type.name);
    if (*size != end - begin)
      fail(
          ErrorKind::weights,
          in(),
          "expected {} bytes for [{}] of {}, found {}",
          *size,
          fmt::join(t.shape, ", "),
          type.name,
          end - begin);
  }
}

// No gaps, no overlaps, no bytes left over.
void check_coverage(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::uint64_t data_bytes,
    std::string_view where) {
  std::vector<std::size_t> order(offsets.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) {
    return offsets[a] < offsets[b];
  });
  std::uint64_t covered = 0;
  for (std::size_t i : order) {
    auto [begin, end] = offsets[i];
    if (begin != covered)
      fail(
          ErrorKind::weights,
          fmt::format("{}: {}", where, printable(content.tensors[i].name)),
          "expected data to begin at byte {}, found {}: {}",
          covered,
          begin,
          begin < covered ? "it overlaps another tensor" : "a gap before it");
    covered = end;
  }
  if (covered != data_bytes)
    fail(
        ErrorKind::weights,
        where,
        "expected {} bytes of data, found {}: bytes after the last tensor",
        covered,
        data_bytes);
}

void check_unique(
    const SafetensorsContent& content,
    const std::vector<Range>& offsets,
    std::string_view where) {
  std::unordered_map<std::string_view, std::size_t> seen;
  seen.reserve(content.tensors.size());
  for (std::size_t i = 0; i < content.tensors.size(); ++i) {
    auto [at, fresh] = seen.emplace(content.tensors[i].name, i);
    if (!fresh)
      fail(
          ErrorKind::weights,
          where,
          "expected each tensor once, found {} at data bytes {} and {}",
          printable(content.tensors[i].name),
          offsets[at->second].first,
          offsets[i].first);
  }
}

std::uint64_t header_length(
    std::span<const std::byte> bytes,
    std::string_view where,
    const SafetensorsLimits& limits) {
  if (bytes.size() < 8)
    fail(
        ErrorKind::weights,
        where,
        "expected a safetensors file, found {} bytes: shorter than its header",
        bytes.size());
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 |
        std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(i)]);
  if (length < 2 || length > limits.header_bytes)
    fail(
        ErrorKind::weights,
        where,
        "expected a header of 2 to {} bytes, found {}",
        limits.header_bytes,
        length);
  if (length > bytes.size() - 8)
    fail(
        ErrorKind::weights,
        where,
        "file is {} bytes, its header needs {}; incomplete download?",
        bytes.size(),
        length + 8);
  return length;
}

} // namespace

SafetensorsContent parse_safetensors(
    std::span<const std::byte> bytes,
    std::string_view where,
    const SafetensorsLimits& limits) {
  const auto length = header_length(bytes, where, limits);
  std::string_view header(
      reinterpret_cast<const char*>(bytes.data()) + 8, length);
  auto [content, offsets] = read_safetensors_header(header, where, limits);
  auto data = bytes.subspan(8 + length);
  check_sizes(content, offsets, data.size(), where);
  check_unique(content, offsets, where);
  check_coverage(content, offsets, data.size(), where);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    auto [begin, end] = offsets[i];
    content.tensors[i].bytes = data.subspan(begin, end - begin);
    content.tensors[i].offset = 8 + length + begin;
  }
  return std::move(content);
}

SafetensorsSource::SafetensorsSource(const std::vector<std::string>& paths) {
  for (const auto& path : paths) {
    auto file = std::make_shared<const MappedFile>(path);
    auto content = parse_safetensors(file->bytes(), file_name(path));
    for (auto& tensor : content.tensors) {
      tensor.file = file;
      tensors_.push_back(std::move(tensor));
    }
    metadata_.merge(content.metadata);
  }
  index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    auto [at, fresh] = index_.emplace(tensors_[i].name, i);
    if (!fresh)
      fail(
          ErrorKind::weights,
          tensors_[i].where(),
          "expected each tensor in one file, found it also in {}",
          file_name(tensors_[at->second].file->path()));
  }
}

const TensorView* SafetensorsSource::find(std::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

std::vector<std::string> SafetensorsSource::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& tensor : tensors_)
    out.push_back(tensor.name);
  return out;
}

} // namespace mlxlm

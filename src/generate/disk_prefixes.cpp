#include "generate/disk_prefixes.h"

#include <mlx/transforms.h>

#include <algorithm>
#include <exception>

#include "core/check.h"
#include "hub/digest.h"

namespace mlxlm {
namespace {

using LayerKind = cache::Layer::Kind;

disk::Key hash(
    std::span<const std::byte> before,
    std::span<const std::byte> bytes) {
  auto sha = hub::make_sha256();
  sha->update(before);
  sha->update(bytes);
  auto text = sha->finish();
  disk::Key key;
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i < key.size(); ++i)
    key[i] = static_cast<std::byte>(
        digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
  return key;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

disk::Key with(const disk::Key& key, std::string_view word) {
  return hash(key, bytes_of(word));
}

// Of the tokens behind the last block, where a sequence ended last and where a
// message ended first; and of a block's very end.
disk::Key tail_key(const disk::Key& key) {
  return with(key, "tail");
}
disk::Key mark_key(const disk::Key& key) {
  return with(key, "mark");
}
disk::Key end_key(const disk::Key& key) {
  return with(key, "end");
}

} // namespace

DiskPrefixes::DiskPrefixes(
    disk::StoreOptions options,
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& memory_options,
    std::shared_ptr<Memory> memory)
    : layout_(specs),
      type_(memory_options.dtype),
      block_tokens_(memory_options.page_tokens),
      memory_(std::move(memory)),
      root_(hash(bytes_of("mlxlm prefix 2\n"), bytes_of(options.owner))),
      store_(std::move(options)) {
  layout_.limit(memory_options.max_tokens, memory_options.keep_tokens);
  plain_ = layout_.recurrent.empty() &&
      std::none_of(
               layout_.groups.begin(), layout_.groups.end(), [](auto& group) {
                 return group.geometry.window > 0;
               });
}

bool DiskPrefixes::windowed(const cache::Layer& layer) const {
  auto group = static_cast<std::size_t>(layer.group);
  return layout_.groups[group].geometry.window > 0;
}

// keys[n]: of what the first n blocks hold.
DiskPrefixes::Keys DiskPrefixes::chain(
    const std::vector<int>& tokens,
    std::uint64_t key,
    int blocks) const {
  Keys keys{with(root_, std::to_string(key))};
  std::span all(tokens);
  for (int i = 0; i < blocks; ++i) {
    auto ids =
        all.subspan(static_cast<std::size_t>(i) * block_tokens_, block_tokens_);
    keys.push_back(hash(keys.back(), std::as_bytes(ids)));
  }
  return keys;
}

// ---- leaving

// Rows [first, last) of a layer: packed pages whole and as they are, others as
// numbers.
void DiskPrefixes::add_rows(
    PrefixPart& part,
    SequenceMemory& memory,
    int layer,
    int first,
    int last) const {
  for (int at = first, end; at < last; at = end) {
    int number = at / block_tokens_;
    end = std::min(last, (number + 1) * block_tokens_);
    auto bytes = memory.packed_page(layer, number);
    if (bytes.empty())
      part.rows.push_back({layer, at, memory.rows(layer, at, end - at, false)});
    else
      part.pages.push_back({layer, number, std::move(bytes)});
  }
}

PrefixPart DiskPrefixes::block(
    const std::vector<int>& tokens,
    SequenceMemory& memory,
    int number) const {
  PrefixPart part;
  part.first = number * block_tokens_;
  auto begin = tokens.begin() + part.first;
  part.ids.assign(begin, begin + block_tokens_);
  for (std::size_t i = 0; i < layout_.layers.size(); ++i) {
    const auto& layer = layout_.layers[i];
    bool own = layer.kind == LayerKind::keys_values && !layer.borrows;
    if (!own || windowed(layer)) continue;
    auto index = static_cast<int>(i);
    add_rows(part, memory, index, part.first, part.first + block_tokens_);
  }
  return part;
}

PrefixPart DiskPrefixes::end_of(
    const std::vector<int>& tokens,
    SequenceMemory& memory) const {
  int length = memory.length();
  PrefixPart part;
  part.first = length / block_tokens_ * block_tokens_;
  part.ids.assign(tokens.begin() + part.first, tokens.begin() + length);
  Segment segment{&memory, 0, 1, length};
  for (std::size_t i = 0; i < layout_.layers.size(); ++i) {
    const auto& layer = layout_.layers[i];
    auto index = static_cast<int>(i);
    if (layer.kind == LayerKind::recurrent) {
      auto& states = part.states.emplace_back();
      states.layer = index;
      auto slot = static_cast<std::size_t>(layer.slot);
      auto count = static_cast<int>(layout_.recurrent[slot].states.size());
      for (int k = 0; k < count; ++k)
        states.states.push_back(memory_->layer(index).state(segment, k));
      mx::eval(states.states);
    }
    if (layer.kind != LayerKind::keys_values || layer.borrows) continue;
    std::vector<std::pair<int, int>> runs{{part.first, length}};
    if (windowed(layer)) {
      auto group = static_cast<std::size_t>(layer.group);
      runs = layout_.groups[group].geometry.shown(length);
    }
    for (auto [first, last] : runs)
      add_rows(part, memory, index, first, last);
  }
  return part;
}

void DiskPrefixes::leave(
    const std::vector<int>& tokens,
    std::uint64_t key,
    SequenceMemory& memory) {
  try {
    leave_all(tokens, key, memory);
  } catch (const std::exception&) {
    // Only a chance to save work later is lost.
  }
}

void DiskPrefixes::leave_all(
    const std::vector<int>& tokens,
    std::uint64_t key,
    SequenceMemory& memory) {
  int length = memory.length();
  int blocks = length / block_tokens_;
  auto keys = chain(tokens, key, blocks);
  for (int i = 0; i < blocks; ++i)
    if (!store_.has(keys[i + 1]))
      store_.put(keys[i + 1], encode(block(tokens, memory, i), type_));
  if (length > blocks * block_tokens_)
    store_.replace(
        tail_key(keys.back()), encode(end_of(tokens, memory), type_));
  if (!plain_) leave_ends(tokens, memory, keys);
}

// Places before the end that can be come back to: where states are kept (ends
// of messages, of pages), and the last blocks that windows still reach.
void DiskPrefixes::leave_ends(
    const std::vector<int>& tokens,
    SequenceMemory& memory,
    const Keys& keys) {
  bool states = !layout_.recurrent.empty();
  int whole = memory.length() / block_tokens_ * block_tokens_;
  int at = states ? memory.length() - 1 : whole;
  auto copy = memory.fork();
  for (int places = states ? 5 : 2; places > 0 && at > 0; --places) {
    at = copy->trim(at);
    if (at == 0 || (!states && at % block_tokens_ != 0)) return;
    const auto& key = keys[static_cast<std::size_t>(at / block_tokens_)];
    bool behind = at % block_tokens_ != 0;
    auto place = behind ? mark_key(key) : end_key(key);
    if (!store_.has(place))
      store_.put(place, encode(end_of(tokens, *copy), type_));
    at -= states ? 1 : block_tokens_;
  }
}

// ---- finding
std::optional<PrefixPart> DiskPrefixes::read(const disk::Key& key) {
  auto bytes = store_.get(key);
  if (!bytes) return std::nullopt;
  try {
    return decode(*bytes, type_, layout_);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Whether a sequence can be made that ends at or behind `blocks` blocks and
// leaves at least one token of the prompt.
std::optional<DiskPrefixes::Place> DiskPrefixes::place(
    const Keys& keys,
    int blocks,
    const std::vector<int>& prompt) {
  auto most = static_cast<int>(prompt.size()) - 1;
  int first = blocks * block_tokens_;
  const auto& key = keys[static_cast<std::size_t>(blocks)];
  for (const auto& tail : {tail_key(key), mark_key(key)}) {
    auto end = store_.has(tail) ? read(tail) : std::nullopt;
    if (!end || end->first != first) continue;
    auto rest = prompt.begin() + first;
    auto ends = std::mismatch(
        end->ids.begin(), end->ids.end(), rest, prompt.begin() + most);
    auto same = static_cast<int>(ends.first - end->ids.begin());
    bool all = ends.first == end->ids.end();
    if (same > 0 && (plain_ || all))
      return Place{blocks, std::move(end), first + same};
  }
  if (plain_) return Place{blocks, std::nullopt, first};
  if (blocks == 0 || !store_.has(end_key(key))) return std::nullopt;
  auto end = read(end_key(key));
  if (!end || end->first != first || !end->ids.empty()) return std::nullopt;
  return Place{blocks, std::move(end), first};
}

std::optional<PrefixFound> DiskPrefixes::find(
    const std::vector<int>& prompt,
    std::uint64_t key,
    int least,
    const Begin& begin) {
  auto most = static_cast<int>(prompt.size()) - 1;
  auto keys = chain(prompt, key, std::max(most, 0) / block_tokens_);
  int blocks = 0;
  while (blocks + 1 < static_cast<int>(keys.size()) &&
         store_.has(keys[static_cast<std::size_t>(blocks) + 1]))
    ++blocks;
  for (; (blocks + 1) * block_tokens_ > least && blocks >= 0; --blocks) {
    auto found = place(keys, blocks, prompt);
    if (!found || found->length <= least || found->length == 0) continue;
    int usable = blocks;
    if (auto memory = restore(keys, *found, prompt, begin, usable))
      return PrefixFound{std::move(memory), found->length};
    blocks = std::min(blocks, usable + 1); // less one
  }
  return std::nullopt;
}

std::unique_ptr<SequenceMemory> DiskPrefixes::restore(
    const Keys& keys,
    const Place& place,
    const std::vector<int>& prompt,
    const Begin& begin,
    int& usable) {
  int behind = place.end ? static_cast<int>(place.end->ids.size()) : 0;
  int length = place.blocks * block_tokens_ + behind;
  auto memory = memory_->sequence();
  try {
    begin(*memory, length);
  } catch (const Error&) {
    usable = 0; // no room
    return nullptr;
  }
  try {
    for (int i = 0; i < place.blocks; ++i) {
      auto part = read(keys[static_cast<std::size_t>(i) + 1]);
      auto ids = prompt.begin() + i * block_tokens_;
      bool good =
          part && part->first == i * block_tokens_ &&
          std::equal(
              part->ids.begin(), part->ids.end(), ids, ids + block_tokens_);
      if (!good) {
        memory->rollback();
        usable = i;
        return nullptr;
      }
      usable = i; // a page that does not fit is missing
      apply(*part, *memory, length);
    }
    usable = place.blocks;
    if (place.end) apply(*place.end, *memory, length);
  } catch (const std::exception&) {
    memory->rollback();
    return nullptr;
  }
  memory->commit(length);
  memory->mark();
  if (memory->length() > place.length) memory->trim(place.length);
  return memory->length() == place.length ? std::move(memory) : nullptr;
}

void DiskPrefixes::apply(
    const PrefixPart& part,
    SequenceMemory& memory,
    int length) {
  for (const auto& rows : part.rows)
    memory.set_rows(rows.layer, rows.first, rows.rows);
  for (const auto& page : part.pages)
    memory.set_packed_page(page.layer, page.number, page.bytes);
  Segment segment{&memory, 0, length, 0};
  for (const auto& layer : part.states)
    for (std::size_t i = 0; i < layer.states.size(); ++i)
      memory_->layer(layer.layer)
          .set_state(segment, static_cast<int>(i), layer.states[i]);
}

} // namespace mlxlm

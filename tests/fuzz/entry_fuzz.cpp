// Entries on disk: what parses is byte for byte what writing it would give, and
// an entry with any byte changed is not one.
#include "disk/entry.h"

#include <algorithm>

#include "fuzz.h"

using namespace mlxlm;
using namespace mlxlm::disk;

namespace {

std::vector<std::byte> whole(const Entry& entry) {
  auto file = entry_head(entry);
  file.insert(file.end(), entry.payload.begin(), entry.payload.end());
  return file;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::bytes(data, size);
  if (auto entry = parse_entry(input)) {
    fuzz::touch(entry->payload);
    fuzz::hold(std::ranges::equal(whole(*entry), input));
  }
  if (size < 8) return 0;
  Entry made{};
  auto owner = std::min<std::size_t>(data[0], size - 8);
  made.owner = fuzz::text(data + 8, owner);
  made.payload = input.subspan(8 + owner);
  made.key.fill(input[1]);
  auto file = whole(made);
  auto again = parse_entry(file);
  fuzz::hold(again && again->owner == made.owner && again->key == made.key);
  fuzz::hold(std::ranges::equal(again->payload, made.payload));
  auto place = (data[2] | data[3] << 8 | data[4] << 16) % file.size();
  if (data[5] == 0) return 0;
  file[place] ^= std::byte{data[5]};
  fuzz::hold(!parse_entry(file));
  file.resize(place);
  fuzz::hold(!parse_entry(file));
  return 0;
}

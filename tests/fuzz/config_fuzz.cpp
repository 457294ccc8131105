// config.json: whatever the text, it is refused or becomes typed values; what
// was accepted can be written and read again.
#include "core/fields.h"
#include "fuzz.h"

using namespace mlxlm;

namespace {

template <typename T>
void read_as(const Fields& fields, const std::string& key) {
  fuzz::refused_or_done([&] { fields.req<T>(key); });
  fuzz::refused_or_done([&] { fields.find<T>(key); });
}

void read_all(const Fields& fields) {
  for (const auto& [key, value] : fields.json().items()) {
    read_as<bool>(fields, key);
    read_as<int>(fields, key);
    read_as<std::int64_t>(fields, key);
    read_as<float>(fields, key);
    read_as<double>(fields, key);
    read_as<std::string>(fields, key);
    read_as<std::vector<int>>(fields, key);
    read_as<std::vector<std::string>>(fields, key);
    fuzz::refused_or_done([&] { fields.range(key, 1, 1 << 20); });
    fuzz::hold(!describe(value).empty());
    if (fields.is_object(key)) read_all(fields.sub(key));
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // The first byte picks how lenient the reading is.
  JsonLimits limits{
      .duplicate_keys = (data[0] & 1) != 0, .nonfinite = (data[0] & 2) != 0};
  fuzz::refused_or_done([&] {
    auto json = parse_json(
        fuzz::text(data + 1, size - 1), "fuzz", ErrorKind::config, limits);
    auto written =
        json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    parse_json(written, "fuzz again", ErrorKind::config, limits);
    if (json.is_object()) read_all(Fields(std::move(json), "config.json"));
  });
  return 0;
}

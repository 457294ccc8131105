// What a hub answers and what a user types: refused, or every name that comes
// out stays below the folder it is meant for.
#include <algorithm>
#include <filesystem>

#include "fuzz.h"
#include "hub/address.h"
#include "hub/digest.h"
#include "hub/listing.h"
#include "hub/names.h"
#include "hub/select.h"

using namespace mlxlm;
using namespace mlxlm::hub;

namespace {

void hold_inside(const std::string& path) {
  auto whole = (std::filesystem::path("/r") / path).lexically_normal();
  fuzz::hold(whole.string() == "/r/" + path);
}

void hold_listing(const Listing& listing) {
  for (const auto& file : listing) {
    hold_inside(file.path);
    fuzz::hold(is_sha256(file.blob()) || is_git_id(file.blob()));
  }
  fuzz::refused_or_done([&] {
    for (const auto& file : weight_files(listing, {}, std::nullopt))
      fuzz::hold(!file.path.empty());
  });
  side_files(listing, {});
  auto again = parse_tree_file(to_tree_file(listing));
  fuzz::hold(again.size() == listing.size());
  for (std::size_t i = 0; i < again.size(); ++i)
    fuzz::hold(
        again[i].path == listing[i].path && again[i].size == listing[i].size &&
        again[i].blob() == listing[i].blob());
}

void id(const std::string& text) {
  auto parsed = parse_id(text);
  if (!parsed) return;
  hold_inside("models--" + parsed->org + "--" + parsed->name);
  hold_inside("refs/" + parsed->revision);
  if (!parsed->variant.empty()) hold_inside(parsed->variant);
  auto again = parse_id(parsed->text());
  fuzz::hold(again && again->text() == parsed->text());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      fuzz::refused_or_done([&] {
        Listing listing;
        add_tree_page(text, listing);
        finish(listing);
        hold_listing(listing);
      });
      break;
    case 1:
      fuzz::refused_or_done([&] { hold_listing(parse_tree_file(text)); });
      break;
    case 2:
      fuzz::refused_or_done(
          [&] { fuzz::hold(is_commit(parse_model_info(text))); });
      break;
    case 3:
      id(text);
      break;
    default:
      next_page(text);
      auto next = redirected("https://hub.example/a", text);
      fuzz::hold(next.empty() || origin_of(next).rfind("https://", 0) == 0);
  }
  return 0;
}

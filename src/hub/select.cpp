#include "hub/select.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::hub {
namespace {

// Every glob of mlx-lm's list but the weights, so that it finds a snapshot that
// was fetched here complete.
constexpr std::string_view side_patterns[] = {
    "*.json",
    "*.py",
    "tokenizer.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja"};

// What llama.cpp takes without a choice, then what is nearest to it.
constexpr std::string_view usual_variants[] = {
    "q4_k_m",
    "q4_0",
    "q4_1",
    "q4_k_s",
    "q5_k_m",
    "q6_k",
    "q8_0",
    "bf16",
    "f16"};

bool at_top(std::string_view path) {
  return path.find('/') == std::string_view::npos;
}

template <typename Predicate>
Listing matching(const Listing& listing, Predicate&& predicate) {
  Listing out;
  for (const auto& file : listing)
    if (predicate(std::string_view(file.path))) out.push_back(file);
  return out;
}

// A GGUF file that is a language model, not a projector or calibration data.
bool is_model_gguf(std::string_view path) {
  auto name = lower_ascii(path.substr(path.rfind('/') + 1));
  return ends_with(name, ".gguf") && name.find("mmproj") == std::string::npos &&
      name.find("imatrix") == std::string::npos;
}

bool is_first_part(std::string_view path) {
  return is_gguf_part(path) && path.substr(path.size() - 19, 5) == "00001";
}

// "q4_k_m" in "name-Q4_K_M.gguf" or "Q4_K_M/name-00001-of-00002.gguf", as a
// word of its own: not "q4_k" in "q4_k_m".
bool names_variant(std::string_view path, std::string_view variant) {
  auto low = lower_ascii(path);
  auto word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  for (auto at = low.find(variant); at != std::string::npos;
       at = low.find(variant, at + 1)) {
    auto end = at + variant.size();
    if ((at == 0 || !word(low[at - 1])) &&
        (end == low.size() || !word(low[end])))
      return true;
  }
  return false;
}

// The files the index names, or nothing when it says nothing useful.
std::optional<std::set<std::string>> indexed(const std::string& index) {
  std::set<std::string> out;
  try {
    const auto json = parse_json(index, index_name);
    for (const auto& [tensor, file] : json.at("weight_map").items())
      out.insert(file.get<std::string>());
  } catch (const std::exception&) {
    return std::nullopt; // the loader says what is wrong with it
  }
  return out;
}

Listing safetensors(
    const Listing& listing,
    const std::optional<std::string>& index) {
  if (index)
    if (auto names = indexed(*index)) {
      auto found = matching(listing, [&](auto path) {
        return names->count(std::string(path)) != 0;
      });
      if (!found.empty() && found.size() == names->size()) return found;
    }
  for (const char* pattern :
       {"model*.safetensors", "weight*.safetensors", "*.safetensors"}) {
    auto found = matching(listing, [&](auto path) {
      return at_top(path) && glob_match(pattern, path);
    });
    if (!found.empty()) return found;
  }
  return {};
}

std::vector<std::string> gguf_names(const Listing& listing) {
  std::vector<std::string> out;
  for (const auto& file : listing)
    if (is_model_gguf(file.path)) out.push_back(file.path);
  return out;
}

Listing gguf(const Listing& listing, std::string_view variant) {
  auto names = gguf_names(listing);
  auto chosen = choose_gguf(names, variant);
  if (chosen.empty() && !variant.empty())
    fail(
        ErrorKind::request,
        "model",
        "expected a GGUF file for \"{}\", found {}",
        printable(variant),
        names.empty() ? "none" : printable(join(names, ", "), 600));
  if (!is_gguf_part(chosen))
    return matching(listing, [&](auto path) { return path == chosen; });
  // "-00001-of-00003.gguf": the same before the number and behind it.
  auto stem = chosen.substr(0, chosen.size() - 20);
  auto end = chosen.substr(chosen.size() - 14);
  return matching(listing, [&](auto path) {
    return is_gguf_part(path) && path.size() == chosen.size() &&
        starts_with(path, stem) && ends_with(path, end);
  });
}

} // namespace

bool is_side_file(std::string_view path) {
  for (auto pattern : side_patterns)
    if (glob_match(pattern, path)) return true;
  return false;
}

// "NAME-00001-of-00003.gguf"
bool is_gguf_part(std::string_view path) {
  constexpr std::string_view form = "-#####-of-#####.gguf";
  if (path.size() < form.size()) return false;
  path.remove_prefix(path.size() - form.size());
  for (std::size_t i = 0; i < form.size(); ++i)
    if (form[i] == '#' ? !(path[i] >= '0' && path[i] <= '9')
                       : path[i] != form[i])
      return false;
  return true;
}

std::string choose_gguf(
    const std::vector<std::string>& names,
    std::string_view variant) {
  auto usable = [](const std::string& name) {
    return is_model_gguf(name) && (!is_gguf_part(name) || is_first_part(name));
  };
  auto wanted = lower_ascii(variant);
  for (const auto& name : names)
    if (usable(name) && (name == variant || lower_ascii(name) == wanted))
      return name;
  auto find = [&](std::string_view word) -> std::string {
    for (const auto& name : names)
      if (usable(name) && names_variant(name, word)) return name;
    return "";
  };
  if (!variant.empty()) return find(wanted);
  for (auto usual : usual_variants)
    if (auto name = find(usual); !name.empty()) return name;
  for (const auto& name : names)
    if (usable(name)) return name;
  return "";
}

bool wants_gguf(const Listing& listing, const Want& want) {
  if (!want.variant.empty()) return true;
  return safetensors(listing, std::nullopt).empty() &&
      !gguf_names(listing).empty();
}

Listing side_files(const Listing& listing, const Want& want) {
  if (!want.patterns.empty())
    return matching(listing, [&](auto path) {
      return std::any_of(
          want.patterns.begin(), want.patterns.end(), [&](auto& pattern) {
            return glob_match(pattern, path);
          });
    });
  if (wants_gguf(listing, want)) return {};
  return matching(listing, is_side_file);
}

Listing weight_files(
    const Listing& listing,
    const Want& want,
    const std::optional<std::string>& index) {
  if (!want.patterns.empty()) return {};
  if (wants_gguf(listing, want)) return gguf(listing, want.variant);
  if (!want.weights) return {};
  auto found = safetensors(listing, index);
  if (found.empty())
    fail(
        ErrorKind::request,
        "model",
        "expected .safetensors or .gguf files in the repository, found neither");
  return found;
}

} // namespace mlxlm::hub

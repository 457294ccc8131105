#include "settings/chain.h"

#include <algorithm>
#include <array>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

struct StageName {
  std::string_view name; // as generate/sampling/table.cpp has it
  bool penalty; // changes logits; the others drop tokens
  char letter; // of llama.cpp; 0: none
  std::string_view others = {}; // spellings, between blanks
};

constexpr std::array<StageName, 13> stage_names{{
    {"penalties", true, 'e'},
    {"repetition_penalty", true, 0},
    {"presence_penalty", true, 0},
    {"frequency_penalty", true, 0},
    {"dry", true, 'd'},
    {"top_n_sigma", false, 's'},
    {"typical_p", false, 'y', "typ_p typ typical"},
    {"top_p", false, 'p', "nucleus"},
    {"min_p", false, 'm'},
    {"xtc", false, 'x'},
    {"top_k", false, 'k'},
    {"mirostat", false, 0},
    {"temperature", false, 't', "temp"},
}};

// "Top-K", "topk" and "top_k" are one.
std::string folded(std::string_view name) {
  auto out = lower_ascii(name);
  std::erase_if(out, [](char c) { return c == '_' || c == '-' || c == ' '; });
  return out;
}

const StageName* find_stage(std::string_view text) {
  auto name = folded(text);
  for (const auto& stage : stage_names) {
    if (folded(stage.name) == name) return &stage;
    for (const auto& other : split(stage.others, ' '))
      if (!other.empty() && folded(other) == name) return &stage;
  }
  return nullptr;
}

const StageName* by_letter(char letter) {
  auto at = std::find_if(
      stage_names.begin(), stage_names.end(), [&](const StageName& stage) {
        return stage.letter == letter;
      });
  return letter == 0 || at == stage_names.end() ? nullptr : &*at;
}

[[noreturn]] void unknown_stage(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& stage : stage_names)
    names.emplace_back(stage.name);
  fail(
      ErrorKind::request,
      "samplers",
      "expected names among {}, found \"{}\"",
      join(names, ", "),
      printable(name, 60));
}

} // namespace

std::vector<std::string> parse_chain(std::string_view text) {
  std::string plain(text);
  std::replace(plain.begin(), plain.end(), ';', ',');
  std::vector<std::string> chain;
  for (const auto& name : split(plain, ',')) {
    if (const auto* stage = find_stage(name)) {
      chain.emplace_back(stage->name);
      continue;
    }
    if (plain != name) unknown_stage(name);
    for (char letter : name) {
      const auto* stage = by_letter(letter);
      if (!stage) unknown_stage(name);
      chain.emplace_back(stage->name);
    }
  }
  if (chain.empty()) unknown_stage(text);
  return chain;
}

void check_chain(std::span<const std::string> chain) {
  bool narrowed = false;
  for (const auto& name : chain) {
    const auto* stage = find_stage(name);
    if (!stage || stage->name != name) unknown_stage(name);
    if (stage->penalty && narrowed)
      fail(
          ErrorKind::request,
          "samplers",
          "expected \"{}\" before what drops tokens, found it after",
          name);
    narrowed = narrowed || !stage->penalty;
  }
}

} // namespace mlxlm

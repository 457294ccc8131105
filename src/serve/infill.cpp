#include "serve/infill.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "serve/body.h"

namespace mlxlm::serve {
namespace {

// Marks as model families spell them.
struct Spelling {
  const char *before, *after, *gap;
};
constexpr Spelling spellings[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, // Qwen
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}, // StarCoder, Granite
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, // DeepSeek
    {"<PRE>", "<SUF>", "<MID>"},
    {"▁<PRE>", "▁<SUF>", "▁<MID>"}, // Code Llama
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"}, // GLM-4.5
    {"<|prefix|>", "<|suffix|>", "<|middle|>"}, // Falcon-H1
};
constexpr const char* repository_marks[] =
    {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
constexpr const char* file_marks[] = {"<|file_sep|>", "<file_sep>"};

struct Marks {
  int before, after, gap;
};

int id_of(const NamedTokens& named, std::string_view part) {
  auto found = named.find(part);
  return found == named.end() ? -1 : found->second;
}

std::optional<Marks> marks_of(
    const TextCodec& codec,
    const NamedTokens& named) {
  // The second names are those of older files.
  for (auto [before, after, gap] :
       {Spelling{"fim_pre", "fim_suf", "fim_mid"},
        Spelling{"prefix", "suffix", "middle"}}) {
    Marks marks = {
        id_of(named, before), id_of(named, after), id_of(named, gap)};
    if (marks.before >= 0 && marks.after >= 0 && marks.gap >= 0) return marks;
  }
  for (const auto& s : spellings) {
    Marks marks = {
        codec.token_id(s.before),
        codec.token_id(s.after),
        codec.token_id(s.gap)};
    if (marks.before >= 0 && marks.after >= 0 && marks.gap >= 0) return marks;
  }
  return std::nullopt;
}

template <std::size_t N>
int first_known(
    const TextCodec& codec,
    int known,
    const char* const (&names)[N]) {
  if (known >= 0) return known;
  for (const char* name : names)
    if (int id = codec.token_id(name); id >= 0) return id;
  return -1;
}

void append(std::vector<int>& ids, const std::vector<int>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

// Repository-level prompts as Qwen2.5-Coder was trained on them (arXiv
// 2409.12186) and llama-server builds them.
std::vector<int> file_tokens(
    const std::vector<InfillFile>& files,
    const TextCodec& codec,
    const NamedTokens& named) {
  std::vector<int> ids;
  if (files.empty()) return ids;
  auto text = [&](const std::string& t) {
    append(ids, codec.encode(t, false));
  };
  int repository =
      first_known(codec, id_of(named, "fim_rep"), repository_marks);
  int file = first_known(codec, id_of(named, "fim_sep"), file_marks);
  if (repository >= 0) {
    ids.push_back(repository);
    text("myproject\n");
  }
  for (const auto& one : files) {
    if (file >= 0) {
      ids.push_back(file);
      text(one.name + "\n");
    } else {
      text("\n\n--- snippet ---\n\n");
    }
    text(one.text);
  }
  if (file >= 0) {
    ids.push_back(file);
    text("filename\n");
  }
  return ids;
}

// What the tokenizer puts before every text.
std::vector<int> beginning(const TextCodec& codec) {
  auto ids = codec.encode("", true);
  if (ids.size() != 1) ids.clear();
  return ids;
}

} // namespace

InfillPrompt infill_prompt(
    const InfillText& text,
    const TextCodec& codec,
    const NamedTokens& named,
    std::size_t room,
    const char* param) {
  auto marks = marks_of(codec, named);
  if (!marks)
    bad_request(
        param,
        fmt::format(
            "{}: this model's tokens cannot mark a gap to be filled", param),
        "unsupported");
  auto before = codec.encode(text.before, false);
  auto after = codec.encode(text.after, false);
  auto begun = codec.encode(text.begun, false);
  auto first = beginning(codec);
  auto fixed = first.size() + begun.size() + 3;
  room = room > fixed ? room - fixed : 0;
  auto most_before = room - std::min(room, std::min(after.size(), room / 4));
  auto cut = before.size() - std::min(before.size(), most_before);
  auto most_after = room - (before.size() - cut);
  InfillPrompt out;
  out.truncated = cut > 0 || after.size() > most_after;
  after.resize(std::min(after.size(), most_after));
  auto left = room - (before.size() - cut) - after.size();

  auto files = file_tokens(text.files, codec, named);
  auto skipped = files.size() - std::min(files.size(), left);
  out.truncated = out.truncated || skipped > 0;
  auto& ids = out.ids;
  ids = std::move(first);
  ids.insert(ids.end(), files.begin() + std::ptrdiff_t(skipped), files.end());
  ids.push_back(marks->before);
  ids.insert(ids.end(), before.begin() + std::ptrdiff_t(cut), before.end());
  append(ids, begun);
  ids.push_back(marks->after);
  append(ids, after);
  ids.push_back(marks->gap);
  return out;
}

} // namespace mlxlm::serve

// Every setting of a generation, once: name, flag, type, defaults, range, help.
// A sampler's parameters are rows here; its stage is a row of
// generate/sampling/table.cpp.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <type_traits>

#include "core/check.h"
#include "core/strings.h"
#include "mlxlm/generate.h"
#include "settings/chain.h"

namespace mlxlm {
namespace {

[[noreturn]] void wrong(
    const Setting& s,
    std::string_view expected,
    std::string_view found) {
  fail(
      ErrorKind::request,
      s.name,
      "expected {}, found \"{}\"",
      expected,
      printable(found, 60));
}

template <typename T>
T parse(const Setting& s, std::string_view text) {
  if constexpr (std::is_integral_v<T>) {
    T value{};
    auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
      wrong(s, "an integer", text);
    return value;
  } else {
    // Not from_chars: libc++ lacks it for floating point.
    std::istringstream in{std::string(text)};
    in.imbue(std::locale::classic());
    double value = 0;
    if (!(in >> value) || in.peek() != std::istringstream::traits_type::eof())
      wrong(s, "a number", text);
    return static_cast<T>(value);
  }
}

template <typename T>
void check_range(const Setting& s, T value) {
  auto x = static_cast<double>(value);
  if (!(x >= s.low && x <= s.high))
    fail(
        ErrorKind::request,
        s.name,
        "expected a value from {} to {}, found {}",
        s.low,
        s.high,
        value);
}

template <typename T>
T parse_in_range(const Setting& s, std::string_view text) {
  T value = parse<T>(s, text);
  check_range(s, value);
  return value;
}

// How a row reads a value from text and checks one that was set in code.
struct Access {
  void (*set)(GenerateParameters&, const Setting&, std::string_view);
  void (*check)(const GenerateParameters&, const Setting&);
};

template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
struct Plain<std::optional<T>> {
  using type = T;
};

template <typename T>
void check_value(const Setting& s, const T& value) {
  check_range(s, value);
}
template <typename T>
void check_value(const Setting& s, const std::optional<T>& value) {
  if (value) check_range(s, *value);
}

template <auto Member>
Access sampled() { // a number of SamplingParameters
  using T = typename Plain<std::remove_reference_t<
      decltype(std::declval<SamplingParameters&>().*Member)>>::type;
  return {
      [](GenerateParameters& p, const Setting& s, std::string_view text) {
        p.sampling.*Member = parse_in_range<T>(s, text);
      },
      [](const GenerateParameters& p, const Setting& s) {
        check_value(s, p.sampling.*Member);
      }};
}

template <auto Member>
Access general() { // a number of GenerateParameters
  using T = typename Plain<std::remove_reference_t<
      decltype(std::declval<GenerateParameters&>().*Member)>>::type;
  return {
      [](GenerateParameters& p, const Setting& s, std::string_view text) {
        p.*Member = parse_in_range<T>(s, text);
      },
      [](const GenerateParameters& p, const Setting& s) {
        check_value(s, p.*Member);
      }};
}

void set_logit_bias(
    GenerateParameters& p,
    const Setting& s,
    std::string_view text) {
  for (const auto& pair : split(text, ',')) {
    auto parts = split(pair, ':');
    if (parts.size() != 2) wrong(s, "ID:VALUE[,ID:VALUE...]", text);
    p.sampling.logit_bias.emplace_back(
        parse<int>(s, parts[0]), parse_in_range<float>(s, parts[1]));
  }
}

void check_logit_bias(const GenerateParameters& p, const Setting& s) {
  for (auto [token, bias] : p.sampling.logit_bias)
    check_range(s, bias);
}

void set_chain(GenerateParameters& p, const Setting&, std::string_view text) {
  auto chain = p.sampling.chain;
  for (auto& name : parse_chain(text))
    chain.push_back(std::move(name));
  check_chain(chain);
  p.sampling.chain = std::move(chain);
}

void check_chain_of(const GenerateParameters& p, const Setting&) {
  check_chain(p.sampling.chain);
}

constexpr std::size_t most_breakers = 32, longest_breaker = 40; // bytes

void check_breaker(const Setting& s, std::string_view text, std::size_t count) {
  if (text.empty() || text.size() > longest_breaker)
    wrong(s, fmt::format("a text of 1 to {} bytes", longest_breaker), text);
  if (count > most_breakers)
    wrong(s, fmt::format("at most {} texts", most_breakers), text);
}

// The first replaces the usual ones.
void set_breaker(
    GenerateParameters& p,
    const Setting& s,
    std::string_view text) {
  auto& list = p.sampling.dry_sequence_breakers;
  if (!list) list.emplace();
  if (text != "none") list->emplace_back(text);
  check_breaker(s, text, list->size());
}

void check_breakers(const GenerateParameters& p, const Setting& s) {
  const auto& list = p.sampling.dry_sequence_breakers;
  if (!list) return;
  for (const auto& text : *list)
    check_breaker(s, text, list->size());
}

void set_stop(GenerateParameters& p, const Setting& s, std::string_view text) {
  if (text.empty()) wrong(s, "a text", text);
  p.stop.emplace_back(text);
}

void check_stop(const GenerateParameters& p, const Setting& s) {
  for (const auto& text : p.stop)
    if (text.empty()) wrong(s, "a text", text);
}

int place_of(std::string_view word, const Setting& s) {
  auto words = split(s.choices, ' ');
  auto at = std::find(words.begin(), words.end(), word);
  return at == words.end() ? -1 : static_cast<int>(at - words.begin());
}

// An enum of DraftParameters, whose values are in the order of the choices.
template <auto Member>
Access drafting() {
  return {
      [](GenerateParameters& p, const Setting& s, std::string_view text) {
        int place = place_of(text, s);
        if (place < 0) wrong(s, fmt::format("one of {}", s.choices), text);
        auto& value = p.draft.*Member;
        value = static_cast<std::remove_reference_t<decltype(value)>>(place);
      },
      [](const GenerateParameters&, const Setting&) {}};
}

struct Row {
  Setting setting;
  Access access;
};

constexpr double unlimited = std::numeric_limits<int>::max();
constexpr double seed_limit = 18446744073709551615.0;
using S = SamplingParameters;
using G = GenerateParameters;
using enum SettingType;

// clang-format off
// name, flag, type, default, the program's default, range; help
const std::array<Row, 32> rows{{
    {{"max_tokens", "--max-tokens", integer, "", "100", -1, unlimited,
      "Most tokens of the answer; -1 is no limit"},
     general<&G::max_tokens>()},
    {{"temperature", "--temp", real, "0.6", "0", 0, 1e4,
      "Randomness; 0 takes the most likely token"},
     sampled<&S::temperature>()},
    {{"top_p", "--top-p", real, "1", "1", 0, 1,
      "Draw from the most likely tokens with this mass; 0 and 1 are off"},
     sampled<&S::top_p>()},
    {{"min_p", "--min-p", real, "0", "0", 0, 1,
      "Drop tokens less likely than this share of the best; 0 is off"},
     sampled<&S::min_p>()},
    {{"top_k", "--top-k", integer, "0", "0", 0, unlimited,
      "Draw from this many most likely tokens; 0 is off"},
     sampled<&S::top_k>()},
    {{"min_tokens_to_keep", "--min-tokens-to-keep", integer, "1", "1", 1, unlimited,
      "Tokens that min-p never drops"},
     sampled<&S::min_tokens_to_keep>()},
    {{"xtc_probability", "--xtc-probability", real, "0", "0", 0, 1,
      "How often XTC excludes the top choices; 0 is off"},
     sampled<&S::xtc_probability>()},
    {{"xtc_threshold", "--xtc-threshold", real, "0.1", "0.1", 0, 0.5,
      "Probability above which XTC calls a token a top choice"},
     sampled<&S::xtc_threshold>()},
    {{"repetition_penalty", "--repetition-penalty", real, "", "", 0, 1e4,
      "Divides logits of recent tokens; 0 and 1 are off"},
     sampled<&S::repetition_penalty>()},
    {{"repetition_context_size", "--repetition-context-size", integer, "20", "20", 0, unlimited,
      "Recent tokens that it looks at"},
     sampled<&S::repetition_context_size>()},
    {{"presence_penalty", "--presence-penalty", real, "", "", -1e4, 1e4,
      "Subtracted once from logits of recent tokens"},
     sampled<&S::presence_penalty>()},
    {{"presence_context_size", "--presence-context-size", integer, "20", "20", 0, unlimited,
      "Recent tokens that it looks at"},
     sampled<&S::presence_context_size>()},
    {{"frequency_penalty", "--frequency-penalty", real, "", "", -1e4, 1e4,
      "Subtracted from logits of recent tokens for each occurrence"},
     sampled<&S::frequency_penalty>()},
    {{"frequency_context_size", "--frequency-context-size", integer, "20", "20", 0, unlimited,
      "Recent tokens that it looks at"},
     sampled<&S::frequency_context_size>()},
    {{"logit_bias", "--logit-bias", map, "", "", -1e9, 1e9,
      "ID:VALUE pairs added to logits"},
     {set_logit_bias, check_logit_bias}},
    {{"typical_p", "--typical-p", real, "1", "1", 0, 1,
      "Draw from tokens whose surprise is near the expected one; 1 is off"},
     sampled<&S::typical_p>()},
    {{"top_n_sigma", "--top-n-sigma", real, "0", "0", -1, 1e4,
      "Drop tokens this many standard deviations below the best; 0 and -1 are off"},
     sampled<&S::top_n_sigma>()},
    {{"mirostat", "--mirostat", integer, "0", "0", 0, 2,
      "Keep the surprise of the text steady: version 1 or 2; 0 is off"},
     sampled<&S::mirostat>()},
    {{"mirostat_tau", "--mirostat-tau", real, "5", "5", 0, 100,
      "Bits of surprise a token that mirostat aims at"},
     sampled<&S::mirostat_tau>()},
    {{"mirostat_eta", "--mirostat-eta", real, "0.1", "0.1", 0, 1,
      "How fast mirostat learns"},
     sampled<&S::mirostat_eta>()},
    {{"dry_multiplier", "--dry-multiplier", real, "0", "0", 0, 1e4,
      "Punishes what would lengthen a repetition (DRY); 0 is off"},
     sampled<&S::dry_multiplier>()},
    {{"dry_base", "--dry-base", real, "1.75", "1.75", 1, 100,
      "Grows the punishment with each token repeated"},
     sampled<&S::dry_base>()},
    {{"dry_allowed_length", "--dry-allowed-length", integer, "2", "2", 0, unlimited,
      "Repeated tokens that go unpunished"},
     sampled<&S::dry_allowed_length>()},
    {{"dry_penalty_last_n", "--dry-penalty-last-n", integer, "-1", "-1", -1, unlimited,
      "Recent tokens that DRY looks at; -1 is all"},
     sampled<&S::dry_penalty_last_n>()},
    {{"dry_sequence_breakers", "--dry-sequence-breaker", list, "", "", 0, 0,
      "Texts that repetitions do not reach across, for the usual ones; none: no such"},
     {set_breaker, check_breakers}},
    {{"min_tokens", "--min-tokens", integer, "0", "0", 0, unlimited,
      "Tokens that come before the answer may end"},
     sampled<&S::min_tokens>()},
    {{"samplers", "--samplers", list, "", "", 0, 0,
      "Stages in the order they run: penalties;dry;top_k;top_p;temperature ..."},
     {set_chain, check_chain_of}},
    {{"seed", "--seed", integer, "", "", 0, seed_limit,
      "Makes the answer repeatable"},
     general<&G::seed>()},
    {{"stop", "--stop", list, "", "", 0, 0,
      "Text that ends the answer"},
     {set_stop, check_stop}},
    {{"draft", "--draft", choice, "auto", "auto", 0, 0,
      "What guesses tokens ahead; auto is the draft model if there is one",
      "auto none prompt-lookup model mtp"},
     drafting<&DraftParameters::kind>()},
    {{"num_draft_tokens", "--num-draft-tokens", integer, "", "", 0, 64,
      "Most tokens guessed at once; 15 for prompt lookup, else 3"},
     {[](G& p, const Setting& s, std::string_view text) {
        p.draft.num_tokens = parse_in_range<int>(s, text);
      },
      [](const G& p, const Setting& s) { check_value(s, p.draft.num_tokens); }}},
    {{"draft_acceptance", "--draft-acceptance", choice, "rejection", "rejection", 0, 0,
      "Which guesses are taken: by chance, or where the model draws the same",
      "rejection equality"},
     drafting<&DraftParameters::acceptance>()},
}};
// clang-format on

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = [] {
    std::vector<Setting> result;
    for (const auto& row : rows)
      result.push_back(row.setting);
    return result;
  }();
  return all;
}

} // namespace

std::span<const Setting> generation_settings() {
  return settings();
}

void set(
    GenerateParameters& parameters,
    std::string_view name,
    std::string_view value) {
  std::vector<std::string> names;
  for (const auto& [setting, access] : rows) {
    if (setting.name == name) return access.set(parameters, setting, value);
    names.emplace_back(setting.name);
  }
  fail(
      ErrorKind::request,
      "settings",
      "expected one of {}, found \"{}\"",
      join(names, ", "),
      printable(name, 60));
}

GenerateParameters program_defaults() {
  GenerateParameters parameters;
  for (const auto& [setting, access] : rows)
    if (!setting.program.empty())
      access.set(parameters, setting, setting.program);
  return parameters;
}

void validate(const GenerateParameters& parameters) {
  for (const auto& [setting, access] : rows)
    access.check(parameters, setting);
}

void validate(const SamplingParameters& parameters) {
  validate(GenerateParameters{.sampling = parameters});
}

} // namespace mlxlm

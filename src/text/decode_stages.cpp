// The decoders of the `tokenizers` crate, one class each, in a form that takes
// one token at a time. Each says in a word what the crate's decode_chain does.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/fields.h"
#include "core/strings.h"
#include "text/detokenizer.h"

namespace mlxlm::text {
namespace {

using Pieces = std::vector<std::string>;

std::string replace_all(
    std::string_view text,
    std::string_view from,
    std::string_view to) {
  std::string result;
  for (;;) {
    auto at = from.empty() ? std::string_view::npos : text.find(from);
    result += text.substr(0, at);
    if (at == std::string_view::npos) {
      return result;
    }
    result += to;
    text.remove_prefix(at + from.size());
  }
}

// GPT-2's printable stand-ins for bytes, by code point: bytes that print in
// Latin-1 stand for themselves, the others follow from U+0100 on.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    int next = 256;
    for (int b = 0; b < 256; ++b) {
      bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) ||
          (b >= 0xAE && b <= 0xFF);
      bytes_[printable ? b : next++] = static_cast<std::int16_t>(b);
    }
  }

  // The bytes that a token stands for, or nothing when a character of it stands
  // for none.
  std::optional<std::string> bytes_of(std::string_view token) const {
    std::string result;
    for (std::size_t i = 0; i < token.size(); ++i) {
      unsigned c = static_cast<unsigned char>(token[i]);
      if (c >= 0x80) {
        if (c > 0xC5 || i + 1 == token.size()) { // two bytes, below U+0180
          return std::nullopt;
        }
        c = (c & 0x1F) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3F);
      }
      if (c >= bytes_.size() || bytes_[c] < 0) {
        return std::nullopt;
      }
      result += static_cast<char>(bytes_[c]);
    }
    return result;
  }

 private:
  std::array<std::int16_t, 324> bytes_;
};

// Tokens are spelled bytes; the bytes of all tokens together are UTF-8.
class ByteLevel : public DecodeStage {
 public:
  void push(std::string piece, Pieces& out) override {
    static const ByteAlphabet alphabet;
    auto bytes = alphabet.bytes_of(piece);
    held_ += bytes ? *bytes : piece;
    auto whole = complete_utf8(held_);
    if (whole > 0) {
      out.push_back(
          replace_invalid_utf8(std::string_view(held_).substr(0, whole)));
      held_.erase(0, whole);
    }
  }
  void finish(Pieces& out) override {
    out.push_back(replace_invalid_utf8(held_));
    held_.clear();
  }

 private:
  std::string held_;
};

// A run of <0xNN> tokens is their bytes if these are UTF-8 all together, and
// else one U+FFFD each; so a run is certain only when it ends.
class ByteFallback : public DecodeStage {
 public:
  void push(std::string piece, Pieces& out) override {
    if (auto byte = byte_of(piece)) {
      run_ += static_cast<char>(*byte);
      return;
    }
    finish(out);
    out.push_back(std::move(piece));
  }
  void finish(Pieces& out) override {
    if (run_.empty()) {
      return;
    }
    if (valid_utf8(run_)) {
      out.push_back(run_);
    } else {
      out.insert(out.end(), run_.size(), "\xEF\xBF\xBD");
    }
    run_.clear();
  }

 private:
  static std::optional<int> byte_of(std::string_view piece) {
    if (piece.size() != 6 || !starts_with(piece, "<0x") || piece[5] != '>') {
      return std::nullopt;
    }
    int value = 0;
    for (char c : piece.substr(3, 2)) {
      int digit = hex(c);
      if (digit < 0) {
        return std::nullopt;
      }
      value = value * 16 + digit;
    }
    return value;
  }
  static int hex(char c) {
    if (c >= '0' && c <= '9') {
      return c - '0';
    }
    c = static_cast<char>(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  }

  std::string run_;
};

// Replaces a string inside each piece.
class Replace : public DecodeStage {
 public:
  Replace(std::string from, std::string to)
      : from_(std::move(from)), to_(std::move(to)) {}
  void push(std::string piece, Pieces& out) override {
    out.push_back(replace_all(piece, from_, to_));
  }

 private:
  std::string from_, to_;
};

// Takes up to `start` times `content` off the front and `stop` times off the
// back of every piece; off the front only, of the one text that Fuse made.
class Strip : public DecodeStage {
 public:
  Strip(std::string content, int start, int stop, bool fused)
      : content_(std::move(content)),
        start_(start),
        stop_(stop),
        fused_(fused),
        left_(start) {}

  void push(std::string piece, Pieces& out) override {
    std::string_view rest = piece;
    auto left = fused_ ? left_ : start_;
    while (left > 0 && starts_with(rest, content_)) {
      rest.remove_prefix(content_.size());
      --left;
    }
    if (fused_ && !piece.empty()) {
      left_ = rest.empty() ? left : 0;
    }
    for (int i = 0; i < stop_ && ends_with(rest, content_); ++i) {
      rest.remove_suffix(content_.size());
    }
    out.emplace_back(rest);
  }

 private:
  std::string content_;
  int start_, stop_;
  bool fused_;
  int left_; // still to take off the front of the text
};

// "▁" is a space; at the very beginning it is nothing, unless never prepended.
class Metaspace : public DecodeStage {
 public:
  Metaspace(std::string mark, bool drop_first)
      : mark_(std::move(mark)), drop_(drop_first) {}
  void push(std::string piece, Pieces& out) override {
    out.push_back(replace_all(piece, mark_, drop_ ? "" : " "));
    drop_ = false;
  }

 private:
  std::string mark_;
  bool drop_;
};

// Words are parted by spaces; a piece with the prefix continues one.
class WordPiece : public DecodeStage {
 public:
  WordPiece(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void push(std::string piece, Pieces& out) override {
    if (!first_) {
      if (starts_with(piece, prefix_)) {
        piece.erase(0, prefix_.size());
      } else {
        piece = std::string(" ").append(piece);
      }
    }
    first_ = false;
    out.push_back(cleanup_ ? cleaned(std::move(piece)) : std::move(piece));
  }

 private:
  static std::string cleaned(std::string text) {
    static constexpr std::pair<const char*, const char*> rules[] = {
        {" .", "."},
        {" ?", "?"},
        {" !", "!"},
        {" ,", ","},
        {" ' ", "'"},
        {" n't", "n't"},
        {" 'm", "'m"},
        {" do not", " don't"},
        {" 's", "'s"},
        {" 've", "'ve"},
        {" 're", "'re"}};
    for (auto [from, to] : rules) {
      text = replace_all(text, from, to);
    }
    return text;
  }

  std::string prefix_;
  bool cleanup_, first_ = true;
};

// The suffix ends a word: a space, but not after the last token.
class WordEnds : public DecodeStage {
 public:
  explicit WordEnds(std::string suffix) : suffix_(std::move(suffix)) {}
  void push(std::string piece, Pieces& out) override {
    if (last_) {
      out.push_back(replace_all(*last_, suffix_, " "));
    }
    last_ = std::move(piece);
  }
  void finish(Pieces& out) override {
    if (last_) {
      out.push_back(replace_all(*last_, suffix_, ""));
    }
    last_.reset();
  }

 private:
  std::string suffix_;
  std::optional<std::string> last_;
};

// No decoder: tokens joined by spaces.
class Spaced : public DecodeStage {
 public:
  void push(std::string piece, Pieces& out) override {
    out.push_back(first_ ? "" : " ");
    out.back() += piece;
    first_ = false;
  }

 private:
  bool first_ = true;
};

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

class Builder {
 public:
  std::vector<std::unique_ptr<DecodeStage>> stages;

  void add(const Fields& d) {
    auto type = d.req<std::string>("type");
    if (type == "Sequence") {
      for (const auto& part : d.req<Json>("decoders")) {
        add(Fields(part, "tokenizer.json: decoder"));
      }
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "ByteLevel") {
      add<ByteLevel>();
      fused_ = true;
    } else if (type == "ByteFallback") {
      add<ByteFallback>();
    } else if (type == "Replace") {
      add_replace(d);
    } else if (type == "Strip") {
      add_strip(d);
    } else if (type == "Metaspace") {
      bool never = d.opt<std::string>("prepend_scheme", "always") == "never";
      add<Metaspace>(d.req<std::string>("replacement"), !never);
    } else if (type == "WordPiece") {
      add<WordPiece>(d.req<std::string>("prefix"), d.req<bool>("cleanup"));
    } else if (type == "BPEDecoder") {
      add<WordEnds>(d.req<std::string>("suffix"));
    } else {
      fail(
          ErrorKind::text,
          d.where("type"),
          "expected a decoder that can be streamed, found {}",
          printable(type));
    }
  }

 private:
  template <typename Stage, typename... Args>
  void add(Args&&... args) {
    stages.push_back(std::make_unique<Stage>(std::forward<Args>(args)...));
  }

  void add_strip(const Fields& d) {
    int stop = d.range("stop", 0, 1 << 20);
    if (fused_ && stop > 0) {
      fail(
          ErrorKind::text,
          d.where("stop"),
          "expected 0 after Fuse, found {}",
          stop);
    }
    add<Strip>(
        d.req<std::string>("content"),
        d.range("start", 0, 1 << 20),
        stop,
        fused_);
  }

  void add_replace(const Fields& d) {
    auto pattern = d.sub("pattern");
    if (!pattern.has("String")) {
      fail(
          ErrorKind::text,
          pattern.where(),
          "expected a plain string, found a regular expression");
    }
    auto from = pattern.req<std::string>("String");
    if (fused_ && characters(from) > 1) {
      fail(
          ErrorKind::text,
          pattern.where(),
          "expected one character after Fuse, found {}",
          printable(from));
    }
    add<Replace>(std::move(from), d.req<std::string>("content"));
  }

  bool fused_ = false; // pieces are parts of one text, not tokens
};

} // namespace

std::vector<std::unique_ptr<DecodeStage>> decode_stages(const Json& decoder) {
  Builder builder;
  if (decoder.is_null()) {
    builder.stages.push_back(std::make_unique<Spaced>());
  } else {
    builder.add(Fields(decoder, "tokenizer.json: decoder"));
  }
  return std::move(builder.stages);
}

} // namespace mlxlm::text

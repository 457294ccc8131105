// Streams of ids through every kind of decoder and through stop strings: pieces
// are whole characters, together they are what decoding at once gives, and what
// is shown is the text up to a stop string. The first byte picks the decoder;
// each further byte is an id.
#include <array>
#include <string>
#include <vector>

#include "core/strings.h"
#include "fuzz.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"

using namespace mlxlm;

namespace {

constexpr std::array decoders = {
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true})",
    R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":
{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},
{"type":"Strip","content":" ","start":1,"stop":0}]})",
    R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"always",
"split":true})",
    R"({"type":"WordPiece","prefix":"##","cleanup":true})",
    R"({"type":"BPEDecoder","suffix":"</w>"})",
    "null"};

// 128 spelled bytes and fallback bytes, then words.
std::vector<std::string> vocabulary() {
  std::vector<std::string> all;
  for (int b = 0xA1; b < 0x100; b += 2) // stand for themselves in byte-level
    all.push_back(
        {static_cast<char>(0xC0 | b >> 6),
         static_cast<char>(0x80 | (b & 0x3F))});
  constexpr char hex[] = "0123456789ABCDEF";
  for (int b = 0x70; b < 0x100; b += 2)
    all.push_back(std::string("<0x") + hex[b >> 4] + hex[b & 15] + ">");
  for (const char* word :
       {"▁",
        "▁a",
        "b",
        "##c",
        ".",
        "n't",
        "x</w>",
        "</w>",
        " ",
        "日本",
        "Ġthe",
        "a</w>b"})
    all.emplace_back(word);
  return all;
}

TokenizerPtr tokenizer(std::size_t kind) {
  static std::array<TokenizerPtr, decoders.size()> made;
  auto& t = made[kind % decoders.size()];
  if (!t) {
    Json vocab = Json::object();
    for (const auto& token : vocabulary())
      vocab[token] = vocab.size();
    Json json = {
        {"decoder", Json::parse(decoders[kind % decoders.size()])},
        {"model",
         {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
    t = Tokenizer::from_json(json.dump());
  }
  return t;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  if (size == 0) return 0;
  auto t = tokenizer(data[0]);
  std::vector<int> ids(data + 1, data + size);
  Detokenizer detokenizer(t);
  StopStrings stops({"a b", "\xE6\x97\xA5", "the"});
  std::string all, shown;
  auto take = [&](const std::string& piece) {
    fuzz::hold(valid_utf8(piece));
    all += piece;
    shown += stops.feed(piece);
  };
  for (int id : ids)
    take(detokenizer.push(id));
  take(detokenizer.finish());
  shown += stops.finish();
  fuzz::hold(all == t->decode(ids));
  fuzz::hold(starts_with(all, shown));
  if (stops.stopped())
    fuzz::hold(starts_with(
        std::string_view(all).substr(shown.size()), stops.matched()));
  else
    fuzz::hold(shown == all);
  return 0;
}

// tokenizer.json of a stranger: refused with a line of text, or a tokenizer
// that encodes what the fuzzer says and whose pieces, streamed, are what it
// decodes at once. The input is the file, and after a zero byte the text.
#include "fuzz.h"
#include "text/detokenizer.h"

using namespace mlxlm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  auto input = fuzz::text(data, size);
  auto end = input.find('\0');
  fuzz::refused_or_done([&] {
    auto tokenizer = Tokenizer::from_json(input.substr(0, end), "fuzz");
    auto text = end == input.npos ? "Hello, 1st wörld!" : input.substr(end + 1);
    auto ids = tokenizer->encode(text, {.max_bytes = 4096});
    auto whole = tokenizer->decode(ids);
    Detokenizer detokenizer(tokenizer);
    std::string streamed;
    for (int id : ids)
      streamed += detokenizer.push(id);
    streamed += detokenizer.finish();
    fuzz::hold(streamed == whole);
  });
  return 0;
}

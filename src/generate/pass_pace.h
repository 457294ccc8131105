// How much of a prompt a pass may read beside sequences that decode, so that
// these keep their pace: it learns from passes how long a decode step takes and
// what a token of a prompt adds. Pure: it sees numbers and times.
#pragma once

#include <map>

namespace mlxlm {

class PassPace {
 public:
  // A pass with prompt tokens takes about this many times what one without
  // takes. Prompts then get 1 - 1 / stretch of the time; three times is where
  // running answers are felt to stutter, and passes vary. Where more sequences
  // read than decode, the time prompts get grows in that proportion: as many
  // users wait for it.
  static constexpr double stretch = 2.5;
  // Seconds: a pass may always take so long. Twenty tokens a second are more
  // than anybody reads, and prompts cut smaller take twice as long in all.
  static constexpr double unfelt = 0.05;
  // Kernels take rows by eight.
  static constexpr int tile = 8;

  // What a pass took: sequences that decoded, tokens of prompts.
  void note(int decoding, int prompt, double seconds);
  // Tokens of prompts beside so many sequences that decode, where so many read
  // theirs; at most `most`.
  int prompt_tokens(int decoding, int reading, int most) const;

 private:
  double step_of(int decoding) const;

  std::map<int, double>
      steps_; // sequences: seconds of a pass that only decodes
  double each_ = 0; // seconds that a token of a prompt adds; 0: none seen yet
};

} // namespace mlxlm

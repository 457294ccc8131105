// How many tokens to draft ahead, from how many of the earlier ones were taken.
#pragma once

namespace mlxlm {

// What drafting costs, in passes of the model for one token.
struct DraftCosts {
  double guess = 0; // the drafter's work for a token
  double row = 0; // a row more in the pass that verifies
  // What more than so many rows cost besides; 0 rows: nothing.
  int cheap_rows = 0;
  double many_rows = 0;
  // What led to a wrong guess has to be read again, in a pass without guesses.
  bool again = false;
};

// Of one sequence. It depends on what was taken alone, never on clocks, so an
// answer can be repeated.
class DraftLength {
 public:
  DraftLength(int most, DraftCosts costs) : most_(most), costs_(costs) {}

  // Of the next pass. 0: better without. Now and then one is tried all the
  // same.
  int next();
  void learn(int guessed, int taken);
  // The chance that a guess is taken, given that those before it were.
  double chance() const {
    return taken_ / tried_;
  }

 private:
  int best() const;

  int most_;
  DraftCosts costs_;
  // Guesses decided on, older ones counting less; it starts out hopeful.
  double tried_ = 2, taken_ = 1.6;
  int pause_ = 0, next_pause_ = 4;
};

} // namespace mlxlm

// Constraints from the parameters of requests, for one model. What grammars
// need of the vocabulary is made when the first request asks for it; compiled
// grammars are kept for a while.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "generate/constraint.h"
#include "mlxlm/generate.h"
#include "text/output_parser.h"

namespace mlxlm {

class ConstraintMaker {
 public:
  // `vocab`: entries of a row of logits.
  ConstraintMaker(
      TokenizerPtr tokenizer,
      int vocab,
      std::shared_ptr<const std::set<int>> stop_tokens);

  // Null when nothing is asked for. `most`: tokens that may be drawn, of which
  // some are kept for an answer that has to come behind reasoning. Throws
  // Error(request) for what cannot be compiled. May be called from several
  // threads.
  std::shared_ptr<const Constraint> make(
      const GenerateParameters& parameters,
      std::span<const int> prompt,
      int most);

 private:
  Grammar grammar(const GrammarSource& source);
  void add_reasoning(std::string_view prompt, ConstraintOptions& options) const;
  void keep_answer(
      const GenerateParameters& parameters,
      int most,
      ConstraintOptions& options) const;

  TokenizerPtr tokenizer_;
  int vocab_;
  std::shared_ptr<const std::set<int>> stop_tokens_;
  OutputFormat format_;
  const ReasoningFormat* reasoning_; // null: it has none
  std::mutex mutex_;
  GrammarVocabularyPtr vocabulary_;
  // The last used first.
  std::list<std::pair<GrammarSource, Grammar>> compiled_;
};

} // namespace mlxlm

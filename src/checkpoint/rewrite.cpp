#include "checkpoint/rewrite.h"

#include <charconv>
#include <numeric>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

struct Match {
  std::vector<std::string_view> runs; // what each `*` stands for
  std::optional<std::int64_t> number; // what `#` stands for
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Shortest runs first. Patterns have a handful of stars and come from code.
bool match(std::string_view text, std::string_view pattern, Match& out) {
  while (!pattern.empty() && pattern[0] != '*' && pattern[0] != '#') {
    if (text.empty() || text[0] != pattern[0]) return false;
    text.remove_prefix(1);
    pattern.remove_prefix(1);
  }
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '#') {
    std::size_t n = 0;
    while (n < text.size() && n < 9 && is_digit(text[n]))
      ++n;
    std::int64_t number = 0;
    if (n == 0 ||
        std::from_chars(text.data(), text.data() + n, number).ec != std::errc())
      return false;
    out.number = number;
    return match(text.substr(n), pattern.substr(1), out);
  }
  for (std::size_t n = 0; n <= text.size(); ++n) {
    out.runs.push_back(text.substr(0, n));
    const auto depth = out.runs.size();
    if (match(text.substr(n), pattern.substr(1), out)) return true;
    out.runs.resize(depth - 1);
  }
  return false;
}

std::string fill(std::string_view to, const Match& m) {
  std::string out;
  std::size_t next = 0;
  for (char c : to) {
    if (c == '*') {
      MLXLM_CHECK(
          next < m.runs.size(),
          "a rule's result has no more stars than its pattern");
      out += m.runs[next++];
    } else {
      out += c;
    }
  }
  return out;
}

class Rewriter {
 public:
  explicit Rewriter(TensorMap tensors) : tensors_(std::move(tensors)) {}

  void operator()(const rewrite::Rename& rule) {
    each(rule.from, [&](RowTensor tensor, const Match& m) {
      put(fill(rule.to, m), std::move(tensor));
    });
  }
  void operator()(const rewrite::Drop& rule) {
    each(rule.pattern, [](const RowTensor&, const Match&) {});
  }
  void operator()(const rewrite::Stack& rule) {
    std::map<std::string, std::map<std::int64_t, RowTensor>> groups;
    each(rule.from, [&](RowTensor tensor, const Match& m) {
      groups[fill(rule.to, m)].emplace(m.number.value_or(0), std::move(tensor));
    });
    for (auto& [name, parts] : groups) {
      std::vector<RowTensor> in_order;
      for (auto& [number, part] : parts) {
        if (number != static_cast<std::int64_t>(in_order.size()))
          fail(
              ErrorKind::weights,
              part.where(),
              "expected parts numbered from 0 without gaps, found {} after {} of them",
              number,
              in_order.size());
        in_order.push_back(std::move(part));
      }
      put(name, RowTensor::stack(in_order));
    }
  }
  void operator()(const rewrite::Split& rule) {
    const auto parts = static_cast<std::int64_t>(rule.to.size());
    each(rule.from, [&](const RowTensor& tensor, const Match& m) {
      const auto dimensions = static_cast<int>(tensor.shape().size());
      const int axis = rule.axis < 0 ? rule.axis + dimensions : rule.axis;
      const auto dim = axis >= 0 && axis < dimensions
          ? tensor.shape()[static_cast<std::size_t>(axis)]
          : 0;
      if (dim == 0 || dim % parts != 0)
        fail(
            ErrorKind::weights,
            tensor.where(),
            "expected axis {} to divide into {}, found [{}]",
            rule.axis,
            parts,
            fmt::join(tensor.shape(), ", "));
      for (std::int64_t k = 0; k < parts; ++k)
        put(fill(rule.to[static_cast<std::size_t>(k)], m),
            rule.interleaved
                ? tensor.slice(axis, k, dim, parts)
                : tensor.slice(
                      axis, k * (dim / parts), (k + 1) * (dim / parts)));
    });
  }
  void operator()(const rewrite::Cut& rule) {
    const auto sum =
        std::accumulate(rule.rows.begin(), rule.rows.end(), std::int64_t{0});
    each(rule.from, [&](const RowTensor& tensor, const Match& m) {
      if (tensor.shape().empty() || tensor.shape()[0] != sum)
        fail(
            ErrorKind::weights,
            tensor.where(),
            "expected {} rows, found [{}]",
            fmt::join(rule.rows, " + "),
            fmt::join(tensor.shape(), ", "));
      std::int64_t first = 0;
      for (std::size_t i = 0; i < rule.to.size(); ++i) {
        put(fill(rule.to[i], m), tensor.slice(0, first, first + rule.rows[i]));
        first += rule.rows[i];
      }
    });
  }
  void operator()(const rewrite::MoveAxis& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      const int n = static_cast<int>(tensor.shape().size());
      const int from = rule.from < 0 ? rule.from + n : rule.from;
      const int to = rule.to < 0 ? rule.to + n : rule.to;
      std::vector<int> axes;
      for (int i = 0; i < n; ++i)
        if (i != from) axes.push_back(i);
      if (from < 0 || from >= n || to < 0 || to >= n)
        fail(
            ErrorKind::weights,
            tensor.where(),
            "expected axes {} and {}, found [{}]",
            rule.from,
            rule.to,
            fmt::join(tensor.shape(), ", "));
      axes.insert(axes.begin() + to, from);
      put(tensor.name(), tensor.permute(axes));
    });
  }
  void operator()(const rewrite::MergeAxes& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      auto shape = tensor.shape();
      if (shape.size() < 2)
        fail(
            ErrorKind::weights,
            tensor.where(),
            "expected two dimensions or more, found [{}]",
            fmt::join(shape, ", "));
      const auto inner = shape.back();
      shape.pop_back();
      shape.back() *= inner;
      put(tensor.name(), tensor.reshape(shape));
    });
  }
  void operator()(const rewrite::Offset& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      put(tensor.name(), tensor.plus(rule.value));
    });
  }
  void operator()(const rewrite::UnpairRows& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      put(tensor.name(), tensor.unpair_rows(rule.heads));
    });
  }
  void operator()(const rewrite::Orient& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      const auto& shape = tensor.shape();
      const auto n = shape.size();
      const bool turned =
          n >= 2 && shape[n - 1] != rule.inputs && shape[n - 2] == rule.inputs;
      std::vector<int> axes(n);
      std::iota(axes.begin(), axes.end(), 0);
      if (turned) std::swap(axes[n - 1], axes[n - 2]);
      put(tensor.name(), turned ? tensor.permute(axes) : tensor);
    });
  }
  void operator()(const rewrite::FirstRows& rule) {
    each(rule.pattern, [&](const RowTensor& tensor, const Match&) {
      const auto& shape = tensor.shape();
      const bool longer = !shape.empty() && shape[0] > rule.count;
      put(tensor.name(), longer ? tensor.slice(0, 0, rule.count) : tensor);
    });
  }

  TensorMap take() {
    return std::move(tensors_);
  }

 private:
  // Takes out every tensor that matches and gives it to `use`.
  void each(const std::string& pattern, auto&& use) {
    TensorMap taken;
    for (auto it = tensors_.begin(); it != tensors_.end();) {
      Match m;
      if (match(it->first, pattern, m)) {
        auto here = it++;
        taken.insert(tensors_.extract(here));
      } else {
        ++it;
      }
    }
    for (auto& [name, tensor] : taken) {
      Match m;
      match(name, pattern, m);
      use(std::move(tensor), m);
    }
  }
  void put(const std::string& name, RowTensor tensor) {
    tensor.set_name(name);
    auto [at, fresh] = tensors_.emplace(name, std::move(tensor));
    if (!fresh)
      fail(
          ErrorKind::weights,
          at->second.where(),
          "expected one tensor to become {}, found two",
          printable(name));
  }

  TensorMap tensors_;
};

} // namespace

Rule rename(std::string from, std::string to) {
  return rewrite::Rename{std::move(from), std::move(to)};
}
Rule drop(std::string pattern) {
  return rewrite::Drop{std::move(pattern)};
}
Rule stack(std::string from, std::string to) {
  return rewrite::Stack{std::move(from), std::move(to)};
}
Rule split(
    std::string from,
    std::vector<std::string> to,
    int axis,
    bool interleaved) {
  return rewrite::Split{std::move(from), std::move(to), axis, interleaved};
}
Rule cut(
    std::string from,
    std::vector<std::string> to,
    std::vector<std::int64_t> rows) {
  MLXLM_CHECK(to.size() == rows.size(), "each part has its rows");
  return rewrite::Cut{std::move(from), std::move(to), std::move(rows)};
}
Rule move_axis(std::string pattern, int from, int to) {
  return rewrite::MoveAxis{std::move(pattern), from, to};
}
Rule merge_axes(std::string pattern) {
  return rewrite::MergeAxes{std::move(pattern)};
}
Rule offset(std::string pattern, float value) {
  return rewrite::Offset{std::move(pattern), value};
}
Rule unpair_rows(std::string pattern, std::int64_t heads) {
  return rewrite::UnpairRows{std::move(pattern), heads};
}
Rule orient(std::string pattern, std::int64_t inputs) {
  return rewrite::Orient{std::move(pattern), inputs};
}
Rule first_rows(std::string pattern, std::int64_t count) {
  return rewrite::FirstRows{std::move(pattern), count};
}

std::optional<std::string> substitute(
    std::string_view text,
    std::string_view from,
    std::string_view to) {
  Match m;
  if (!match(text, from, m)) return std::nullopt;
  return fill(to, m);
}

std::string renamed(std::string name, const std::vector<Rule>& rules) {
  for (const auto& rule : rules)
    if (const auto* r = std::get_if<rewrite::Rename>(&rule))
      if (auto other = substitute(name, r->from, r->to)) name = *other;
  return name;
}

TensorMap rewritten(
    const TensorSource& source,
    const std::vector<Rule>& rules) {
  TensorMap tensors;
  for (const auto& name : source.names()) {
    const auto* view = source.find(name);
    MLXLM_CHECK(view != nullptr, "a source finds the tensors it names");
    tensors.emplace(name, RowTensor(std::make_shared<const TensorView>(*view)));
  }
  return rewritten(std::move(tensors), rules);
}

TensorMap rewritten(TensorMap tensors, const std::vector<Rule>& rules) {
  Rewriter rewriter(std::move(tensors));
  for (const auto& rule : rules)
    std::visit(rewriter, rule);
  return rewriter.take();
}

} // namespace mlxlm

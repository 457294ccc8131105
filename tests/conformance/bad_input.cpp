// `--bad-input`: every case's checkpoint made wrong, one thing at a time. Each
// integer of its config.json becomes what no integer of a config is, each
// tensor is missing, of another shape, or has a stranger beside it. All of them
// must end in one error that names the field or tensor, what was expected and
// what was found - or load, where the model does not ask for it.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>

#include "checkpoint/checkpoint.h"
#include "conformance.h"
#include "core/strings.h"
#include "models/load.h"

namespace mlxlm::conformance {

namespace {

// A checkpoint's tensors with some of them changed. A null view: missing.
class Altered : public TensorSource {
 public:
  Altered(std::shared_ptr<const TensorSource> from) : from_(std::move(from)) {}

  void remove(const std::string& name) {
    changed_[name] = {};
  }
  // Zeros of this shape in place of `name`, or beside the others.
  void put(
      const std::string& name,
      Storage storage,
      std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (auto dim : shape)
      count *= static_cast<std::size_t>(dim);
    auto& c = changed_[name];
    const auto& type = info(storage);
    c.bytes.assign(
        count / static_cast<std::size_t>(type.block) *
            static_cast<std::size_t>(type.bytes),
        std::byte{});
    c.view.name = name;
    c.view.storage = storage;
    c.view.shape = std::move(shape);
    c.view.bytes = c.bytes;
    c.there = true;
  }
  const TensorView* find(std::string_view name) const override {
    auto it = changed_.find(name);
    if (it == changed_.end()) return from_->find(name);
    return it->second.there ? &it->second.view : nullptr;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (auto& name : from_->names())
      if (!changed_.contains(name)) out.push_back(name);
    for (const auto& [name, change] : changed_)
      if (change.there) out.push_back(name);
    return out;
  }

 private:
  struct Change {
    bool there = false;
    std::vector<std::byte> bytes;
    TensorView view;
  };
  std::shared_ptr<const TensorSource> from_;
  std::map<std::string, Change, std::less<>> changed_;
};

// A text that outlives a process that crashes: shared with its parent.
class Note {
 public:
  Note()
      : text_(static_cast<char*>(mmap(
            nullptr,
            size,
            PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS,
            -1,
            0))) {
    MLXLM_CHECK(text_ != MAP_FAILED, "a page is there");
  }
  ~Note() {
    munmap(text_, size);
  }
  Note(const Note&) = delete;
  Note& operator=(const Note&) = delete;
  void set(const std::string& text) const {
    std::strncpy(text_, text.c_str(), size - 1);
  }
  std::string get() const {
    return text_;
  }

 private:
  static constexpr std::size_t size = 4096;
  char* text_;
};

// Counts what became of the inputs and keeps the first that went wrong.
class Tally {
 public:
  Tally(const Note& note, std::shared_ptr<const TensorSource> good)
      : note_(note), good_(std::move(good)) {}
  // `name`: of the field or tensor. `must_fail`: loading is wrong, and so is an
  // error that does not name it.
  void attempt(
      const Checkpoint& checkpoint,
      const std::string& what,
      const std::string& name,
      bool must_fail) {
    note_.set(what);
    auto start = std::chrono::steady_clock::now();
    try {
      remembered(checkpoint);
      ++loaded_;
      if (must_fail) wrong(what, "loads");
      if (!must_fail && checkpoint.tensors != good_) free_.insert(name);
    } catch (const Error& e) {
      ++refused_;
      judge(what, e, name, must_fail);
    } catch (const std::exception& e) {
      wrong(what, fmt::format("not an Error: {}", e.what()));
    }
    std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - start;
    if (took.count() > 1) wrong(what, fmt::format("took {} s", took.count()));
  }
  Outcome outcome() const {
    return conformance::judge(
        wrong_ == 0,
        fmt::format(
            "{} refused, {} not asked for{}{}, {} wrong{}{}",
            refused_,
            loaded_,
            free_.empty() ? "" : ", tensors ",
            fmt::join(free_, " "),
            wrong_,
            first_.empty() ? "" : ": ",
            first_));
  }

 private:
  void judge(
      const std::string& what,
      const Error& e,
      const std::string& name,
      bool must_name) {
    std::string text = e.what();
    if (e.kind() == ErrorKind::internal) return wrong(what, text);
    if (text.find('\n') != std::string::npos) return wrong(what, text);
    if (text.find(name) != std::string::npos) return;
    if (must_name) return wrong(what, text);
    // Tensors, or another field, that contradict it.
    bool told =
        (e.kind() == ErrorKind::weights || e.kind() == ErrorKind::config) &&
        text.find("expected") != std::string::npos &&
        text.find("found") != std::string::npos;
    if (!told) wrong(what, text);
  }
  void wrong(const std::string& what, const std::string& how) {
    ++wrong_;
    if (wrong_ > 3) return;
    if (!first_.empty()) first_ += " | ";
    first_ += what + ": " + printable(how, 200);
  }

  const Note& note_;
  std::shared_ptr<const TensorSource> good_;
  std::set<std::string> free_; // tensors that may be missing or otherwise
  int refused_ = 0, loaded_ = 0, wrong_ = 0;
  std::string first_;
};

// The places of all integers in `json`, lists' items apart.
void integers(
    const Json& json,
    const Json::json_pointer& at,
    std::vector<Json::json_pointer>& out) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) integers(value, at / key, out);
    if (value.is_number_integer()) out.push_back(at / key);
  }
}

const std::vector<Json>& bad_values() {
  static const std::vector<Json> values = {
      0,
      -1,
      std::int64_t{1} << 31,
      std::uint64_t{1} << 63,
      1e308,
      0.5,
      "12",
      nullptr,
      Json::array(),
      Json::object(),
      true};
  return values;
}

void alter_config(Tally& tally, const Checkpoint& good) {
  std::vector<Json::json_pointer> places;
  integers(good.config.json(), Json::json_pointer(), places);
  for (const auto& place : places)
    for (const auto& value : bad_values()) {
      auto json = good.config.json();
      json[place] = value;
      auto bad = good;
      bad.config = Fields(std::move(json), "config.json");
      tally.attempt(
          bad,
          fmt::format("{} = {}", place.to_string(), value.dump()),
          place.back(),
          false);
    }
}

void alter_tensors(Tally& tally, const Checkpoint& good) {
  auto with = [&](auto&& change) {
    auto source = std::make_shared<Altered>(good.tensors);
    change(*source);
    auto bad = good;
    bad.tensors = source;
    return bad;
  };
  auto stranger = std::string("model.layers.0.stranger.weight");
  tally.attempt(
      with([&](Altered& a) {
        a.put(stranger, Storage::f32, {2, 2});
      }),
      "a stranger",
      stranger,
      true);
  for (const auto& name : good.tensors->names()) {
    const auto* view = good.tensors->find(name);
    tally.attempt(
        with([&](Altered& a) { a.remove(name); }),
        "without " + name,
        name,
        false);
    for (std::size_t axis = 0; axis < view->shape.size(); ++axis) {
      auto shape = view->shape;
      shape[axis] += axis + 1 == shape.size() ? info(view->storage).block : 1;
      tally.attempt(
          with([&](Altered& a) { a.put(name, view->storage, shape); }),
          fmt::format("{} [{}]", name, fmt::join(shape, ", ")),
          name,
          false);
    }
  }
}

Outcome attempt_all(const Case& c, const Note& note) {
  auto good = open_checkpoint(c.path("model"));
  note.set("nothing changed");
  remembered(good);
  Tally tally(note, good.tensors);
  alter_config(tally, good);
  alter_tensors(tally, good);
  return tally.outcome();
}

} // namespace

// In a process of its own: what crashes is told by name as well.
Outcome bad_input_case(const Case& c) {
  if (!is_directory(c.path("model"))) return skipped("no checkpoint");
  Note input, figure;
  std::fflush(nullptr);
  auto child = fork();
  if (child == 0) {
    Outcome outcome;
    try {
      outcome = attempt_all(c, input);
    } catch (const std::exception& e) {
      outcome = judge(false, printable(e.what(), 400));
    }
    figure.set(outcome.figure);
    _exit(outcome.status == Outcome::Status::pass ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child)
    fail(ErrorKind::io, c.name, "expected a process, found none");
  if (WIFSIGNALED(status))
    return judge(
        false, fmt::format("{}: signal {}", input.get(), WTERMSIG(status)));
  return judge(WEXITSTATUS(status) == 0, figure.get());
}

} // namespace mlxlm::conformance

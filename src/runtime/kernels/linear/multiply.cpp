#include "runtime/kernels/linear/multiply.h"

#include <algorithm>

#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/target.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

constexpr std::size_t second_level = std::size_t{384}
    << 10; // bytes of activations
constexpr int most_item_rows = 128; // of a block
constexpr int most_panels = 8; // multiplied together where rows are many

// Activations as the matrices need them, in tiles of rows.
struct Prepared {
  std::vector<std::byte> records;
  std::size_t record_stride = 0; // bytes of a row
  std::vector<float> floats;
  const float* float_tiles = nullptr;
};

// Rows that lie together in a Prepared: those of all segments, or of one.
struct Group {
  int slot, count;
  const int* from;
};

// A block of rows times a run of panels.
struct PanelItem {
  int segment, row, rows, panel, panels;
};

std::vector<Group> groups_of(std::span<const Segment> segments, int rows) {
  if (!segments[0].from) {
    return {{0, rows, nullptr}};
  }
  std::vector<Group> groups;
  int slot = 0;
  for (const auto& s : segments) {
    groups.push_back({slot, s.count, s.from});
    slot += s.count;
  }
  return groups;
}

class Preparation {
 public:
  Preparation(
      const Target& target,
      Values x,
      int cols,
      bool int8,
      Prepared& out)
      : target_(target), x_(x), cols_(cols), int8_(int8), out_(out) {
    record_ = int8 ? target.record_bytes_int8 : target.record_bytes;
  }

  void run(std::span<const Group> groups, bool records, bool floats) {
    auto slots = std::size_t(groups.back().slot + groups.back().count);
    auto units = std::size_t(cols_ + unit_inputs - 1) / unit_inputs;
    out_.record_stride = units * record_;
    if (records) {
      out_.records.resize(slots * out_.record_stride);
    }
    bool as_is = slots == 1 && x_.type == Float::f32 && !groups[0].from;
    if (floats && !as_is) {
      out_.floats.resize(slots * cols_);
    }
    out_.float_tiles =
        as_is ? static_cast<const float*>(x_.data) : out_.floats.data();
    floats = floats && !as_is;
    std::vector<Group> tiles;
    for (const auto& g : groups) {
      for (int row = 0; row < g.count;) {
        int m = tile_rows(g.count - row, target_.most_tile);
        tiles.push_back({g.slot + row, m, g.from ? g.from + row : nullptr});
        row += m;
      }
    }
    int together = std::max(1, 4096 / cols_);
    auto count = static_cast<int>(tiles.size());
    // Few tiles of long rows: pieces of them.
    int pieces = std::max(1, tiles[0].count * cols_ / 16384);
    int wide = (cols_ / pieces + unit_inputs) / unit_inputs * unit_inputs;
    pieces = (cols_ + wide - 1) / wide;
    if (count >= 4 * thread_count()) {
      pieces = 1;
      wide = cols_;
    }
    parallel_for((count + together - 1) / together * pieces, [&](int i) {
      int first = i % pieces * wide, last = std::min(cols_, first + wide);
      i /= pieces;
      for (int t = i * together; t < std::min(count, (i + 1) * together); t++) {
        tile(tiles[t], first, last, records, floats);
      }
    });
  }

 private:
  // Inputs [first, last) of a tile.
  void tile(const Group& tile, int first, int last, bool records, bool floats)
      const {
    for (int i = 0; i < tile.count; i++) {
      int index = tile.from ? tile.from[i] : tile.slot + i;
      const auto* row = load(index, first, last);
      if (records) {
        auto stride = static_cast<std::size_t>(tile.count * record_);
        auto* out = out_.records.data() + tile.slot * out_.record_stride +
            first / unit_inputs * stride +
            static_cast<std::size_t>(i * record_);
        target_.quantize(row, last - first, int8_, out, stride);
      }
      if (floats) {
        auto* out = out_.floats.data() + std::size_t(tile.slot) * cols_ + i;
        for (int k = first; k < last; k++) {
          out[std::size_t(k) * tile.count] = row[k - first];
        }
      }
    }
  }

  const float* load(int row, int first, int last) const {
    auto offset = std::size_t(row) * cols_ + first;
    if (x_.type == Float::f32) {
      return static_cast<const float*>(x_.data) + offset;
    }
    thread_local std::vector<float> values;
    values.resize(last - first);
    to_floats(x_, offset, values);
    return values.data();
  }

  const Target& target_;
  Values x_;
  int cols_;
  bool int8_;
  Prepared& out_;
  int record_;
};

std::vector<PanelItem> divide(
    std::span<const Segment> segments,
    std::size_t stride) {
  // Records are gone through in chunks of units, floats in whole rows.
  auto most = stride == 0
      ? std::size_t(most_item_rows)
      : std::clamp<std::size_t>(
            second_level / stride / 8 * 8, 16, most_item_rows);
  std::size_t work = 0; // panels times row blocks
  for (const auto& s : segments) {
    work += s.matrix->panels() * ((s.count + most - 1) / most);
  }
  // Large items first: the last ones decide how long a thread waits for others.
  auto threads = static_cast<std::size_t>(thread_count());
  auto left = work;
  auto next_run = [&] {
    auto share = threads == 1 ? left : left / (threads * 4);
    return static_cast<int>(std::clamp<std::size_t>(share, 1, left));
  };
  std::vector<PanelItem> items;
  for (std::size_t i = 0; i < segments.size(); i++) {
    const auto& s = segments[i];
    int block = static_cast<int>(most);
    for (int row = 0; row < s.count; row += block) {
      int rows = std::min(block, s.count - row);
      for (int panel = 0; panel < s.matrix->panels();) {
        int panels = std::min(next_run(), s.matrix->panels() - panel);
        items.push_back({static_cast<int>(i), row, rows, panel, panels});
        panel += panels;
        left -= panels;
      }
    }
  }
  return items;
}

// Writes the outputs of one panel.
void write(
    const Segment& s,
    Float type,
    const PanelItem& item,
    int panel,
    std::span<float> tile) {
  int first = panel * panel_rows;
  int lanes = std::min(panel_rows, s.matrix->rows() - first);
  float bias[panel_rows] = {};
  if (s.bias.data) {
    to_floats(s.bias, first, {bias, std::size_t(lanes)});
  }
  for (int i = 0; i < item.rows; i++) {
    auto values = tile.subspan(std::size_t(i) * panel_rows, lanes);
    if (s.bias.data) {
      for (int r = 0; r < lanes; r++) {
        values[r] += bias[r];
      }
    }
    int row = item.row + i;
    auto at = std::size_t(s.to ? s.to[row] : row) * s.matrix->rows() + first;
    from_floats(values, type, s.out, at);
  }
}

void run_item(
    const Target& target,
    const Segment& s,
    int slot,
    const PanelItem& item,
    const Prepared& prepared,
    Float type,
    bool int8) {
  constexpr int few = 24; // rows whose sums stay in registers, panel by panel
  int together = item.rows > few ? most_panels : 1;
  auto values = std::size_t(item.rows) * panel_rows; // of a panel
  thread_local std::vector<float> space;
  space.resize(2 * values * together);
  float *tile = space.data(), *up = tile + values * together;
  auto row = std::size_t(slot + item.row);
  auto product = [&](const Packed& matrix, int panel, int panels, float* out) {
    PanelJob job;
    job.matrix = &matrix;
    job.panel = std::size_t(s.expert) * matrix.panels() + panel;
    job.panels = panels;
    job.x = multiplies_floats(matrix)
        ? reinterpret_cast<const std::byte*>(
              prepared.float_tiles + row * matrix.cols())
        : prepared.records.data() + row * prepared.record_stride;
    job.rows = item.rows;
    job.int8 = int8;
    job.out = out;
    target.panel(job);
  };
  int end = item.panel + item.panels;
  for (int panel = item.panel; panel < end; panel += together) {
    int panels = std::min(together, end - panel);
    product(*s.matrix, panel, panels, tile);
    if (s.up) {
      product(*s.up, panel, panels, up);
      target.gate(s.act, tile, up, static_cast<int>(values * panels));
    }
    for (int p = 0; p < panels; p++) {
      write(s, type, item, panel + p, {tile + values * p, values});
    }
  }
}

} // namespace

void multiply(
    Values x,
    int rows,
    int cols,
    bool int8,
    std::span<const Segment> segments) {
  if (rows == 0 || segments.empty()) {
    return;
  }
  const auto& target = kernels::target();
  thread_local Prepared prepared;
  auto any = [&](bool floats) {
    return std::any_of(segments.begin(), segments.end(), [&](const Segment& s) {
      return multiplies_floats(*s.matrix) == floats ||
          (s.up && multiplies_floats(*s.up) == floats);
    });
  };
  bool floats = any(true);
  auto groups = groups_of(segments, rows);
  Preparation(target, x, cols, int8, prepared).run(groups, any(false), floats);
  auto stride = floats ? std::size_t(cols) * sizeof(float) : 0;
  auto items = divide(segments, stride);
  auto& shared = prepared; // the caller's, not each thread's own
  parallel_for(static_cast<int>(items.size()), [&](int i) {
    const auto& item = items[i];
    int slot = groups[groups.size() == 1 ? 0 : item.segment].slot;
    run_item(target, segments[item.segment], slot, item, shared, x.type, int8);
  });
  constexpr std::size_t keep = std::size_t{4} << 20;
  if (prepared.records.size() + prepared.floats.size() * sizeof(float) > keep) {
    prepared = {};
  }
}

void to_floats(Values x, std::size_t offset, std::span<float> out) {
  auto convert = [&](const auto* from, auto to_float) {
    for (std::size_t i = 0; i < out.size(); i++) {
      out[i] = to_float(from[offset + i]);
    }
  };
  switch (x.type) {
    case Float::f32:
      convert(static_cast<const float*>(x.data), [](float v) { return v; });
      break;
    case Float::f16:
      convert(static_cast<const std::uint16_t*>(x.data), from_f16);
      break;
    case Float::bf16:
      convert(static_cast<const std::uint16_t*>(x.data), from_bf16);
      break;
  }
}

void from_floats(
    std::span<const float> x,
    Float type,
    void* out,
    std::size_t offset) {
  auto convert = [&](auto* to, auto from_float) {
    for (std::size_t i = 0; i < x.size(); i++) {
      to[offset + i] = from_float(x[i]);
    }
  };
  switch (type) {
    case Float::f32:
      convert(static_cast<float*>(out), [](float v) { return v; });
      break;
    case Float::f16:
      convert(static_cast<std::uint16_t*>(out), to_f16);
      break;
    case Float::bf16:
      convert(static_cast<std::uint16_t*>(out), to_bf16);
      break;
  }
}

} // namespace mlxlm::kernels

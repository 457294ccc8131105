#include "runtime/kernels/linear/multiply.h"

#include <algorithm>

#include "runtime/kernels/linear/floats.h"
#include "runtime/kernels/linear/target.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {
namespace {

constexpr std::size_t second_level = std::size_t{384}
    << 10; // bytes of activations
constexpr int most_rows = 96; // of a block

// Activations as the matrices need them.
struct Activity {
  std::vector<std::byte> records;
  std::size_t record_stride = 0;
  std::vector<float> floats;
  const std::byte* float_rows = nullptr;
};

// A block of rows times a run of panels.
struct Item {
  int segment, row, rows, panel, panels;
};

void quantize_rows(
    const Target& target,
    Values x,
    int rows,
    int cols,
    bool int8,
    Activity& activity) {
  auto units = std::size_t(cols + unit_inputs - 1) / unit_inputs;
  activity.record_stride =
      units * (int8 ? target.record_bytes_int8 : target.record_bytes);
  activity.records.resize(activity.record_stride * rows);
  auto quantize = [&](int row) {
    auto* out = activity.records.data() + activity.record_stride * row;
    if (x.type == Float::f32) {
      auto* data = static_cast<const float*>(x.data) + std::size_t(row) * cols;
      target.quantize(data, cols, int8, out);
      return;
    }
    thread_local std::vector<float> values;
    values.resize(cols);
    to_floats(x, std::size_t(row) * cols, values);
    target.quantize(values.data(), cols, int8, out);
  };
  int together = std::max(1, 32768 / cols);
  parallel_for((rows + together - 1) / together, [&](int i) {
    for (int row = i * together; row < std::min(rows, (i + 1) * together);
         row++) {
      quantize(row);
    }
  });
}

void float_rows(Values x, int rows, int cols, Activity& activity) {
  if (x.type == Float::f32) {
    activity.float_rows = static_cast<const std::byte*>(x.data);
    return;
  }
  activity.floats.resize(std::size_t(rows) * cols);
  to_floats(x, 0, activity.floats);
  activity.float_rows =
      reinterpret_cast<const std::byte*>(activity.floats.data());
}

std::vector<Item> divide(
    std::span<const Segment> segments,
    std::size_t stride) {
  auto most =
      std::clamp<std::size_t>(second_level / stride / 8 * 8, 16, most_rows);
  std::size_t work = 0; // panels times row blocks
  for (const auto& s : segments) {
    work += s.matrix->panels() * ((s.count + most - 1) / most);
  }
  int threads = thread_count();
  auto run = static_cast<int>(
      threads == 1 ? work : std::max<std::size_t>(1, work / (threads * 8)));
  std::vector<Item> items;
  for (std::size_t i = 0; i < segments.size(); i++) {
    const auto& s = segments[i];
    int block = static_cast<int>(most);
    for (int row = 0; row < s.count; row += block) {
      int rows = std::min(block, s.count - row);
      for (int panel = 0; panel < s.matrix->panels(); panel += run) {
        int panels = std::min(run, s.matrix->panels() - panel);
        items.push_back({static_cast<int>(i), row, rows, panel, panels});
      }
    }
  }
  return items;
}

// Writes the outputs of one panel.
void write(
    const Segment& s,
    Float type,
    const Item& item,
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
    const Item& item,
    const Activity& activity,
    std::size_t float_stride,
    Float type,
    bool int8) {
  alignas(64) float tile[most_rows * panel_rows];
  alignas(64) float up[most_rows * panel_rows];
  auto product = [&](const Packed& matrix, int panel, float* out) {
    bool floats = multiplies_floats(matrix);
    PanelJob job;
    job.matrix = &matrix;
    job.panel = std::size_t(s.expert) * matrix.panels() + panel;
    job.x = floats ? activity.float_rows : activity.records.data();
    job.stride = floats ? float_stride : activity.record_stride;
    job.index = s.from ? s.from + item.row : nullptr;
    if (!s.from) {
      job.x += job.stride * item.row;
    }
    job.rows = item.rows;
    job.int8 = int8;
    job.out = out;
    target.panel(job);
  };
  for (int panel = item.panel; panel < item.panel + item.panels; panel++) {
    product(*s.matrix, panel, tile);
    if (s.up) {
      product(*s.up, panel, up);
      target.gate(s.gate, tile, up, item.rows * panel_rows);
    }
    write(s, type, item, panel, {tile, std::size_t(item.rows) * panel_rows});
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
  thread_local Activity activity;
  auto any = [&](bool floats) {
    return std::any_of(segments.begin(), segments.end(), [&](const Segment& s) {
      return multiplies_floats(*s.matrix) == floats ||
          (s.up && multiplies_floats(*s.up) == floats);
    });
  };
  if (any(false)) {
    quantize_rows(target, x, rows, cols, int8, activity);
  }
  if (any(true)) {
    float_rows(x, rows, cols, activity);
  }
  auto float_stride = std::size_t(cols) * sizeof(float);
  auto items =
      divide(segments, any(true) ? float_stride : activity.record_stride);
  auto& shared = activity; // the caller's, not each thread's own
  parallel_for(static_cast<int>(items.size()), [&](int i) {
    const auto& item = items[i];
    run_item(
        target,
        segments[item.segment],
        item,
        shared,
        float_stride,
        x.type,
        int8);
  });
  constexpr std::size_t keep = std::size_t{4} << 20;
  if (activity.records.size() + activity.floats.size() * 4 > keep) {
    activity = {};
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

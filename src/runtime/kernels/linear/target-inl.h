// The parts of a target: included first, inside an anonymous namespace of its
// file. A file defines what is declared here, then includes panel-inl.h, which
// builds the table's functions from it.

constexpr int info_bytes = static_cast<int>(sizeof(UnitInfo));

// Part of a panel, codes unpacked to bytes.
struct Chunk {
  const std::uint8_t* codes; // [units][unit_bytes]
  const float* params; // [groups, or half units][2][16]: scales, biases
  int units;
  int shift; // unit u uses group u >> shift
};

struct Half { // f16 bits
  std::uint16_t bits;
};
struct Brain { // bf16 bits
  std::uint16_t bits;
};

// Sixteen f16.
inline void load_f16(const std::uint8_t* p, float* out);
// Replaces the indices of a unit by their entries, of sixteen.
void lookup(const std::uint8_t* entries, std::uint8_t* unit);
// The values of one record.
void store_values(const std::int16_t* values, bool int8, std::byte* record);
// Add the products of a tile of M rows to out[M][16]. `Halves`: two groups in a
// unit.
template <int M, bool Halves, bool Int8>
void multiply(const Chunk& chunk, const std::byte* x, float* out);
template <int M, typename Element>
void multiply_dense(const Element* w, int inputs, const float* x, float* out);
// Asks the memory for units to come; panels lie one after the other.
class Ahead {
 public:
  Ahead(const Packed& m, std::size_t panel)
      : codes_(m.codes(panel)),
        params_(m.params(panel)),
        unit_codes_(static_cast<std::size_t>(64 * m.spec().bits)),
        unit_params_(panel_rows * m.row_params() / m.units()),
        stride_(m.panel_bytes()),
        units_(m.units()) {}

  // When units [first, first + count) are about to be read.
  void ask(int first, int count) const {
    constexpr int distance = 16;
    first += distance;
    bool next = first >= units_;
    auto unit = static_cast<std::size_t>(next ? first - units_ : first);
    auto skip = next ? stride_ : 0;
    lines(codes_ + skip + unit * unit_codes_, count * unit_codes_);
    lines(params_ + skip + unit * unit_params_, count * unit_params_);
  }

 private:
  static void lines(const std::uint8_t* p, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 64) {
      __builtin_prefetch(p + i);
    }
  }

  const std::uint8_t* codes_;
  const std::uint8_t* params_;
  std::size_t unit_codes_, unit_params_, stride_;
  int units_;
};

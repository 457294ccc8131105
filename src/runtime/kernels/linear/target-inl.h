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

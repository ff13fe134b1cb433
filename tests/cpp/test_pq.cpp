// Product quantization on every level against the scalar one, on buffers without spare room: codes, tables and sums bit
// for bit.
#include <algorithm>
#include <vector>

#include "check.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

struct Shape {
  std::size_t d, m;
  int bits;
};
const Shape kShapes[] = {{1, 1, 4},   {12, 4, 8},   {63, 7, 4},  {64, 8, 8},  {96, 24, 4},
                         {96, 48, 8}, {120, 30, 4}, {35, 35, 8}, {100, 5, 8}, {2200, 1100, 4}};
const std::size_t kRows = 67;

struct Codebooks {
  Tight<float> words, biases;

  Codebooks(const Shape& shape, unsigned seed)
      : words(data::normal(shape.d << shape.bits, seed)), biases(shape.m << shape.bits) {
    const std::size_t k = std::size_t{1} << shape.bits, dims = shape.d / shape.m;
    for (std::size_t s = 0; s < shape.m; ++s) {
      for (std::size_t j = 0; j < dims; ++j) {
        for (std::size_t v = 0; v < k; ++v) {
          const float word = words[(s * dims + j) * k + v];
          biases[s * k + v] -= 0.5f * word * word;
        }
      }
    }
  }
};

Tight<std::uint8_t> encoded(const Kernels& kernels, const Shape& shape, const Codebooks& books, const Tight<float>& x,
                            const float* inverse_norms) {
  Tight<std::uint8_t> codes(kRows * pq_code_bytes(shape.m, shape.bits));
  AlignedBuffer scratch(kernels.pq_encode_scratch(shape.d, shape.m));
  kernels.pq_encode({x.get(), kRows, shape.d, shape.m, shape.bits, books.words.get(), books.biases.get(), inverse_norms,
                     3.5f, 2, codes.get(), scratch.data()});
  return codes;
}

// Codes as blocks: 4-bit codes column by column, 8-bit codes row by row, then the terms.
Tight<std::uint8_t> blocks_of(const Tight<std::uint8_t>& codes, const Shape& shape, bool terms) {
  const std::size_t bytes = pq_code_bytes(shape.m, shape.bits),
                    block_bytes = pq_block_bytes(shape.m, shape.bits, terms);
  Tight<std::uint8_t> blocks((kRows + 31) / 32 * block_bytes);
  for (std::size_t i = 0; i < kRows; ++i) {
    std::uint8_t* block = blocks.get() + i / 32 * block_bytes;
    for (std::size_t p = 0; p < bytes; ++p) {
      block[shape.bits == 8 ? i % 32 * bytes + p : p * 32 + i % 32] = codes[i * bytes + p];
    }
    if (terms) reinterpret_cast<float*>(block + block_bytes - 128)[i % 32] = 0.25f * static_cast<float>(i);
  }
  return blocks;
}

struct Scanned {
  std::vector<RabitqHit> hits[kRabitqQueries];

  Scanned(const Kernels& kernels, const Shape& shape, const Tight<std::uint8_t>& blocks, bool terms,
          const std::vector<Tight<float>>& tables) {
    std::vector<AlignedBuffer> entries;
    PqQuery queries[kRabitqQueries];
    PqExact exact[kRabitqQueries];
    PqPacked packed[kRabitqQueries];
    RabitqHit* out[kRabitqQueries];
    std::size_t counts[kRabitqQueries];
    for (std::size_t q = 0; q < tables.size(); ++q) {
      entries.emplace_back(pq_packed_bytes(shape.m, shape.bits));
      packed[q] = {entries.back().data(), 0, 0};
      kernels.pq_pack(tables[q].get(), shape.m, shape.bits, &packed[q]);
      queries[q] = {tables[q].get(), 1.0f, 0.0f, -0.5f, nullptr, &packed[q]};
      if (shape.bits == 4) {
        exact[q] = {tables[q].get(), 1.0f, 0.0f, 3.0f * packed[q].step};
        queries[q] = {
            packed[q].entries, packed[q].step, packed[q].base, -0.5f, q % 2 == 0 ? &exact[q] : nullptr, nullptr};
      }
      hits[q].resize((kRows + 31) / 32 * 32);
      out[q] = hits[q].data();
    }
    kernels.pq_scan({blocks.get(), kRows, shape.m, shape.bits, terms, queries, tables.size(), out, counts});
    for (std::size_t q = 0; q < tables.size(); ++q) hits[q].resize(counts[q]);
  }
};

template <typename Body>
void for_shapes(const Body& body) {
  const std::string before = cpu::active_kernels().level;
  for (const std::string& name : cpu::available_levels()) {
    for (const Shape& shape : kShapes) body(data::level(name), data::level("scalar"), shape);
  }
  cpu::pin_level(before);
}

}  // namespace

TEST(pq_encodes_and_gathers_as_scalar_does) {
  for_shapes([](const Kernels& level, const Kernels& scalar, const Shape& shape) {
    const auto x = data::normal(kRows * shape.d, 20);
    const Codebooks books(shape, 21);
    Tight<float> inverse(kRows);
    for (std::size_t i = 0; i < kRows; ++i) inverse[i] = i % 5 == 0 ? 0.0f : 0.1f;
    for (const float* norms : {static_cast<const float*>(nullptr), static_cast<const float*>(inverse.get())}) {
      CHECK(encoded(level, shape, books, x, norms) == encoded(scalar, shape, books, x, norms));
    }
    if (shape.d < 200) {
      const auto rotation = data::normal(shape.d * shape.d, 30);
      Tight<float> turned[2] = {Tight<float>(x.size()), Tight<float>(x.size())};
      AlignedBuffer room(level.pq_encode_scratch(shape.d, 1)), scalar_room(scalar.pq_encode_scratch(shape.d, 1));
      level.pq_rotate({x.get(), kRows, shape.d, rotation.get(), turned[0].get(), room.data()});
      scalar.pq_rotate({x.get(), kRows, shape.d, rotation.get(), turned[1].get(), scalar_room.data()});
      CHECK(turned[0] == turned[1]);
    }
    const auto codes = encoded(scalar, shape, books, x, nullptr);
    Tight<double> a(shape.d << shape.bits), b(shape.d << shape.bits);
    Tight<std::uint32_t> counts_a(shape.m << shape.bits), counts_b(shape.m << shape.bits);
    level.pq_update({x.get(), kRows, shape.d, shape.m, shape.bits, codes.get(), 0, shape.m, a.get(), counts_a.get()});
    scalar.pq_update({x.get(), kRows, shape.d, shape.m, shape.bits, codes.get(), 0, shape.m, b.get(), counts_b.get()});
    CHECK(a == b && counts_a == counts_b);
  });
}

TEST(pq_tables_sums_and_scans_as_scalar_does) {
  for_shapes([](const Kernels& level, const Kernels& scalar, const Shape& shape) {
    const Codebooks books(shape, 22);
    const auto codes = encoded(scalar, shape, books, data::normal(kRows * shape.d, 23), nullptr);
    for (Metric metric : {Metric::kInnerProduct, Metric::kL2}) {
      std::vector<Tight<float>> tables[2];
      for (unsigned q = 0; q < kRabitqQueries; ++q) {
        const auto query = data::normal(shape.d, 24 + q);
        for (int side = 0; side < 2; ++side) {
          tables[side].emplace_back(shape.m << shape.bits);
          (side == 0 ? level : scalar)
              .pq_table(
                  {query.get(), shape.d, shape.m, shape.bits, books.words.get(), metric, tables[side].back().get()});
        }
        CHECK(tables[0][q] == tables[1][q]);
        Tight<float> a(kRows), b(kRows);
        level.pq_sum({tables[1][q].get(), codes.get(), shape.m, shape.bits, nullptr, kRows, a.get()});
        scalar.pq_sum({tables[1][q].get(), codes.get(), shape.m, shape.bits, nullptr, kRows, b.get()});
        CHECK(a == b);
      }
      for (bool terms : {false, true}) {
        const auto blocks = blocks_of(codes, shape, terms);
        const Scanned a(level, shape, blocks, terms, tables[1]), b(scalar, shape, blocks, terms, tables[1]);
        for (std::size_t q = 0; q < kRabitqQueries; ++q) {
          CHECK(a.hits[q].size() == b.hits[q].size());
          for (std::size_t i = 0; i < std::min(a.hits[q].size(), b.hits[q].size()); ++i) {
            CHECK(a.hits[q][i].row == b.hits[q][i].row && a.hits[q][i].estimate == b.hits[q][i].estimate);
            CHECK(a.hits[q][i].upper == a.hits[q][i].estimate && a.hits[q][i].estimate >= -0.5f);
          }
        }
      }
    }
  });
}

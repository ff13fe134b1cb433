// Product quantization for Python. Codebooks come dimension-major, (m, d/m, 16 or 256), as the kernels read them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "bind/rabitq.h"
#include "bind/tiles.h"
#include "common/buffer.h"

namespace tessella::bind {

using Threads = std::optional<std::size_t>;  // as many as asked for, else those that calls use by default

constexpr std::size_t kUpdatePieces = 16;  // pieces a thread gathers at once: their sums stay in the cache

// Codebooks that fit rows of d numbers.
struct PqShape {
  std::size_t d, m, dims, k;
  int bits;

  PqShape(const Floats& codebooks, const char* operation) {
    const bool fits = codebooks.ndim() == 3 && codebooks.shape(0) > 0 && codebooks.shape(1) > 0 &&
                      (codebooks.shape(2) == 16 || codebooks.shape(2) == 256);
    require(fits, operation, "codebooks of shape (m, d/m, 16 or 256)", shape_of(codebooks));
    m = static_cast<std::size_t>(codebooks.shape(0));
    dims = static_cast<std::size_t>(codebooks.shape(1));
    k = static_cast<std::size_t>(codebooks.shape(2));
    d = m * dims;
    bits = k == 16 ? 4 : 8;
  }
};

inline Bytes pq_encode(const Floats& rows, const Floats& codebooks, const Floats& biases,
                       const std::optional<Floats>& inverse_norms, float weight, int sweeps, Threads threads) {
  const PqShape shape(codebooks, "pq_encode");
  check_shape(rows, shape.d, "pq_encode", "rows");
  const std::size_t n = rows_of(rows), code_bytes = pq_code_bytes(shape.m, shape.bits);
  require(biases.ndim() == 2 && rows_of(biases) == shape.m && biases.shape(1) == codebooks.shape(2), "pq_encode",
          "biases of shape (m, 16 or 256), as the codebooks", shape_of(biases));
  require(!inverse_norms || (inverse_norms->ndim() == 1 && rows_of(*inverse_norms) == n), "pq_encode",
          "an inverse norm a row", inverse_norms ? shape_of(*inverse_norms) : "");
  require(sweeps >= 0 && std::isfinite(weight), "pq_encode", "sweeps >= 0 and a finite weight", std::to_string(sweeps));
  Bytes codes({n, code_bytes});
  const float* inverse = inverse_norms ? inverse_norms->data() : nullptr;
  const PqEncode whole{rows.data(),   n,       shape.d, shape.m, shape.bits,           codebooks.data(),
                       biases.data(), inverse, weight,  sweeps,  codes.mutable_data(), nullptr};
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    for_tiles(n, threads.value_or(num_threads()), [&](std::size_t first, std::size_t count) {
      AlignedBuffer scratch(kernels.pq_encode_scratch(shape.d, shape.m));
      PqEncode tile = whole;
      tile.rows += first * shape.d;
      tile.n = count;
      if (inverse != nullptr) tile.inverse_norms += first;
      tile.codes += first * code_bytes;
      tile.scratch = scratch.data();
      kernels.pq_encode(tile);
    });
  }
  return codes;
}

inline Floats pq_rotate(const Floats& rows, const Floats& rotation, Threads threads) {
  require(rotation.ndim() == 2 && rotation.shape(0) > 0 && rotation.shape(0) == rotation.shape(1), "pq_rotate",
          "a rotation of shape (d, d)", shape_of(rotation));
  const std::size_t n = rows_of(rows), d = rows_of(rotation);
  check_shape(rows, d, "pq_rotate", "rows");
  Floats out({n, d});
  const float *from = rows.data(), *matrix = rotation.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  for_tiles(n, threads.value_or(num_threads()), [&](std::size_t first, std::size_t count) {
    AlignedBuffer scratch(kernels.pq_encode_scratch(d, 1));
    kernels.pq_rotate({from + first * d, count, d, matrix, to + first * d, scratch.data()});
  });
  return out;
}

inline py::tuple pq_update(const Floats& rows, const Bytes& codes, std::size_t m, int bits, Threads threads) {
  require(bits == 4 || bits == 8, "pq_update", "4 or 8 bits", std::to_string(bits));
  require(rows.ndim() == 2 && m > 0 && rows.shape(1) > 0 && rows.shape(1) % static_cast<py::ssize_t>(m) == 0,
          "pq_update", "rows of shape (n, d), d a multiple of m", shape_of(rows));
  check_shape(codes, pq_code_bytes(m, bits), "pq_update", "codes");
  require(rows_of(codes) == rows_of(rows), "pq_update", "a code a row", shape_of(codes));
  const std::size_t n = rows_of(rows), d = static_cast<std::size_t>(rows.shape(1)), k = std::size_t{1} << bits;
  Array<double> sums({m, k, d / m});
  Array<std::uint32_t> counts({m, k});
  std::fill_n(sums.mutable_data(), d * k, 0.0);
  std::fill_n(counts.mutable_data(), m * k, 0u);
  const PqUpdate whole{rows.data(), n, d, m, bits, codes.data(), 0, m, sums.mutable_data(), counts.mutable_data()};
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    parallel_for((m + kUpdatePieces - 1) / kUpdatePieces, threads.value_or(num_threads()), [&](std::size_t group) {
      PqUpdate part = whole;
      part.first = group * kUpdatePieces;
      part.last = std::min(m, part.first + kUpdatePieces);
      kernels.pq_update(part);
    });
  }
  return py::make_tuple(sums, counts);
}

inline Floats pq_table(const Floats& queries, const Floats& codebooks, const std::string& metric_name) {
  const Metric metric = parse_metric(metric_name, "pq_table");
  const PqShape shape(codebooks, "pq_table");
  check_shape(queries, shape.d, "pq_table", "queries");
  const std::size_t nq = rows_of(queries);
  Floats tables({nq, shape.m, shape.k});
  const float *from = queries.data(), *words = codebooks.data();
  float* to = tables.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq, num_threads(), [&](std::size_t q) {
    kernels.pq_table({from + q * shape.d, shape.d, shape.m, shape.bits, words, metric, to + q * shape.m * shape.k});
  });
  return tables;
}

// (nq, m, 16 or 256) -> bits
inline int table_bits(const Floats& tables, const char* operation) {
  const bool fits = tables.ndim() == 3 && tables.shape(1) > 0 && (tables.shape(2) == 16 || tables.shape(2) == 256);
  require(fits, operation, "tables of shape (nq, m, 16 or 256)", shape_of(tables));
  return tables.shape(2) == 16 ? 4 : 8;
}

// Queries ready for a scan, and the memory their packed tables stand in.
struct PqPrepared {
  std::vector<AlignedBuffer> entries;
  std::vector<PqQuery> queries;
  std::vector<PqExact> exacts;
  std::vector<PqPacked> packed;

  PqPrepared(const Kernels& kernels, const float* tables, std::size_t nq, std::size_t m, int bits, bool exact)
      : exacts(nq), packed(nq) {
    for (std::size_t q = 0; q < nq; ++q) {
      const float* table = tables + q * (m << bits);
      entries.emplace_back(pq_packed_bytes(m, bits));
      packed[q].entries = entries.back().data();
      kernels.pq_pack(table, m, bits, &packed[q]);
      queries.push_back({table, 1.0f, 0.0f, -std::numeric_limits<float>::infinity(), nullptr, &packed[q]});
      if (bits == 8) continue;
      exacts[q] = {table, 1.0f, 0.0f, 3.0f * packed[q].step * std::sqrt(static_cast<float>(m) / 12.0f)};
      queries.back() = {packed[q].entries,
                        packed[q].step,
                        packed[q].base,
                        queries.back().threshold,
                        exact ? &exacts[q] : nullptr,
                        nullptr};
    }
  }
};

inline py::object pq_pack(const Floats& table) {
  const bool fits = table.ndim() == 2 && table.shape(0) > 0 && (table.shape(1) == 16 || table.shape(1) == 256);
  require(fits, "pq_pack", "a table of shape (m, 16 or 256)", shape_of(table));
  const int bits = table.shape(1) == 16 ? 4 : 8;
  AlignedBuffer entries(pq_packed_bytes(rows_of(table), bits));
  PqPacked packed{entries.data(), 0, 0};
  cpu::active_kernels().pq_pack(table.data(), rows_of(table), bits, &packed);
  if (packed.entries == nullptr) return py::none();
  return py::make_tuple(Bytes(static_cast<py::ssize_t>(entries.size()), packed.entries), packed.step, packed.base);
}

inline void check_blocks(const Bytes& blocks, std::size_t n, std::size_t m, int bits, bool terms,
                         const char* operation) {
  check_shape(blocks, pq_block_bytes(m, bits, terms), operation, "blocks");
  require(n <= rows_of(blocks) * kBlockRows, operation, "rows that the blocks hold", std::to_string(n));
}

inline py::list pq_scan(const Floats& tables, const Bytes& blocks, std::size_t n, bool terms, const Floats& thresholds,
                        bool exact) {
  const int bits = table_bits(tables, "pq_scan");
  const std::size_t nq = rows_of(tables), m = static_cast<std::size_t>(tables.shape(1));
  check_blocks(blocks, n, m, bits, terms, "pq_scan");
  require(nq >= 1 && nq <= kRabitqQueries, "pq_scan", "1 to 4 queries", std::to_string(nq));
  require(thresholds.ndim() == 1 && rows_of(thresholds) == nq, "pq_scan", "a threshold a query", shape_of(thresholds));
  const Kernels& kernels = cpu::active_kernels();
  PqPrepared prepared(kernels, tables.data(), nq, m, bits, exact);
  std::vector<std::unique_ptr<RabitqHit[]>> hits;  // left unset: nobody reads beyond the counts
  std::vector<RabitqHit*> out;
  for (std::size_t q = 0; q < nq; ++q) {
    hits.push_back(std::make_unique_for_overwrite<RabitqHit[]>(rows_of(blocks) * kBlockRows));
    out.push_back(hits.back().get());
    prepared.queries[q].threshold = thresholds.at(q);
  }
  std::vector<std::size_t> counts(nq);
  {
    const std::uint8_t* data = blocks.data();
    const py::gil_scoped_release unlocked;
    kernels.pq_scan({data, n, m, bits, terms, prepared.queries.data(), nq, out.data(), counts.data()});
  }
  py::list found;
  for (std::size_t q = 0; q < nq; ++q) {
    const auto count = static_cast<py::ssize_t>(counts[q]);
    Array<std::int64_t> rows(count);
    Floats similarities(count);
    for (py::ssize_t i = 0; i < count; ++i) {
      rows.mutable_at(i) = hits[q][static_cast<std::size_t>(i)].row;
      similarities.mutable_at(i) = hits[q][static_cast<std::size_t>(i)].estimate;
    }
    found.append(py::make_tuple(rows, similarities));
  }
  return found;
}

inline Floats pq_sum(const Floats& tables, const Bytes& codes, const std::optional<Array<std::uint32_t>>& which) {
  const int bits = table_bits(tables, "pq_sum");
  const std::size_t nq = rows_of(tables), m = static_cast<std::size_t>(tables.shape(1));
  check_shape(codes, pq_code_bytes(m, bits), "pq_sum", "codes");
  const std::size_t n = rows_of(codes), count = which ? static_cast<std::size_t>(which->size()) : n;
  const std::uint32_t* rows = which ? which->data() : nullptr;
  for (std::size_t i = 0; rows != nullptr && i < count; ++i) {
    require(rows[i] < n, "pq_sum", "row numbers below " + std::to_string(n), std::to_string(rows[i]));
  }
  Floats out({nq, count});
  const float* from = tables.data();
  const std::uint8_t* data = codes.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq, num_threads(), [&](std::size_t q) {
    kernels.pq_sum({from + q * (m << bits), data, m, bits, rows, count, to + q * count});
  });
  return out;
}

inline void register_pq(py::module_& m) {
  m.def("pq_encode", &pq_encode, py::arg("rows").noconvert(), py::arg("codebooks").noconvert(),
        py::arg("biases").noconvert(), py::kw_only(), py::arg("inverse_norms").noconvert() = py::none(),
        py::arg("weight") = 0.0f, py::arg("sweeps") = 0, py::arg("threads") = py::none(),
        "Rows (n, d), codebooks (m, d/m, 2^bits) and biases -|c|^2/2 -> codes (n, m) or, at 4 bits, (n, ceil(m/2)).");
  m.def("pq_rotate", &pq_rotate, py::arg("rows").noconvert(), py::arg("rotation").noconvert(), py::kw_only(),
        py::arg("threads") = py::none(), "Rows (n, d) times a rotation (d, d).");
  m.def("pq_update", &pq_update, py::arg("rows").noconvert(), py::arg("codes").noconvert(), py::arg("m"),
        py::arg("bits"), py::kw_only(), py::arg("threads") = py::none(),
        "Sums (m, 2^bits, d/m) and counts (m, 2^bits) of the rows of each codeword.");
  m.def("pq_table", &pq_table, py::arg("queries").noconvert(), py::arg("codebooks").noconvert(), py::arg("metric"),
        "Queries (nq, d) -> inner products with, or minus squared distances to, every codeword (nq, m, 2^bits).");
  m.def("pq_pack", &pq_pack, py::arg("table").noconvert(),
        "A table (m, 16) in 6-bit entries as the level in use lays them out: entries, step, base. One of (m, 256) in "
        "bytes"
        " that bound its sums from above, or None where the level has no use for them.");
  m.def("pq_scan", &pq_scan, py::arg("tables").noconvert(), py::arg("blocks").noconvert(), py::arg("n"), py::kw_only(),
        py::arg("terms"), py::arg("thresholds").noconvert(), py::arg("exact") = false,
        "One pass of 1 to 4 queries' tables (nq, m, 2^bits) over blocks: (rows, similarities) of each.");
  m.def("pq_sum", &pq_sum, py::arg("tables").noconvert(), py::arg("codes").noconvert(),
        py::arg("which").noconvert() = py::none(),
        "Sums of table entries over all codes, or over codes `which` -> (nq, count).");
}

}  // namespace tessella::bind

// RaBitQ's 1-bit codes for Python.
#pragma once

#include <memory>
#include <vector>

#include "bind/tiles.h"
#include "common/buffer.h"

namespace tessella::bind {

inline py::tuple rabitq_encode(const Floats& residuals) {
  const std::size_t padded = padded_columns(residuals, "rabitq_encode", "residuals"), n = rows_of(residuals);
  const auto rows = static_cast<py::ssize_t>(n);
  Bytes bits({n, padded / 8});
  Floats scales(rows), errors(rows), norms2(rows);
  const float* from = residuals.data();
  std::uint8_t* to = bits.mutable_data();
  float *scale = scales.mutable_data(), *error = errors.mutable_data(), *norm2 = norms2.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    for_tiles(n, [&](std::size_t first, std::size_t count) {
      for (std::size_t i = first; i < first + count; ++i) {
        RabitqFactors factors;
        kernels.rabitq_encode(from + i * padded, padded, to + i * (padded / 8), &factors);
        scale[i] = factors.scale;
        error[i] = factors.error;
        norm2[i] = factors.norm2;
      }
    });
  }
  return py::make_tuple(bits, scales, errors, norms2);
}

// Tables of up to kRabitqQueries queries, and the memory they stand in.
struct PreparedTables {
  std::vector<AlignedBuffer> entries;
  std::vector<RabitqQuery> queries;

  PreparedTables(const Kernels& kernels, const float* rotated, std::size_t nq, std::size_t padded) {
    for (std::size_t q = 0; q < nq; ++q) {
      entries.emplace_back(rabitq_table_bytes(padded));
      queries.push_back({{entries.back().data(), 0, 0}, 1, 0, 0, 0});
      kernels.rabitq_table(rotated + q * padded, padded, &queries.back().table);
    }
  }
};

inline py::tuple rabitq_table(const Floats& query) {
  require(query.ndim() == 1 && query.shape(0) > 0 && query.shape(0) % 64 == 0, "rabitq_table",
          "query of shape (D,), D a multiple of 64", shape_of(query));
  const PreparedTables tables(cpu::active_kernels(), query.data(), 1, rows_of(query));
  const RabitqTable& table = tables.queries[0].table;
  return py::make_tuple(Bytes(static_cast<py::ssize_t>(tables.entries[0].size()), table.entries), table.step,
                        table.base);
}

inline Metric parse_metric(const std::string& metric, const char* operation) {
  require(metric == "ip" || metric == "l2", operation, "metric 'ip' or 'l2'", "'" + metric + "'");
  return metric == "l2" ? Metric::kL2 : Metric::kInnerProduct;
}

// adds, epsilons and thresholds: one of each a query.
inline py::list rabitq_scan(const Floats& queries, const Bytes& blocks, std::size_t n, const std::string& metric_name,
                            const Floats& adds, const Floats& epsilons, const Floats& thresholds) {
  const Metric metric = parse_metric(metric_name, "rabitq_scan");
  const std::size_t padded = padded_columns(queries, "rabitq_scan", "queries"), nq = rows_of(queries);
  check_shape(blocks, rabitq_block_bytes(padded, metric == Metric::kL2), "rabitq_scan", "blocks");
  require(nq >= 1 && nq <= kRabitqQueries, "rabitq_scan", "1 to 4 queries", std::to_string(nq));
  require(n <= rows_of(blocks) * kBlockRows, "rabitq_scan", "rows that the blocks hold", std::to_string(n));
  for (const Floats* each : {&adds, &epsilons, &thresholds}) {
    require(each->ndim() == 1 && rows_of(*each) == nq, "rabitq_scan", "one number a query", shape_of(*each));
  }
  const Kernels& kernels = cpu::active_kernels();
  PreparedTables tables(kernels, queries.data(), nq, padded);
  std::vector<std::unique_ptr<RabitqHit[]>> hits;  // left unset: nobody reads beyond the counts
  std::vector<RabitqHit*> out;
  for (std::size_t q = 0; q < nq; ++q) {
    hits.push_back(std::make_unique_for_overwrite<RabitqHit[]>(rows_of(blocks) * kBlockRows));
    out.push_back(hits.back().get());
    tables.queries[q].factor = metric == Metric::kL2 ? 2.0f : 1.0f;
    tables.queries[q].add = adds.at(q);
    tables.queries[q].epsilon = tables.queries[q].factor * epsilons.at(q);
    tables.queries[q].threshold = thresholds.at(q);
  }
  std::vector<std::size_t> counts(nq);
  {
    const std::uint8_t* data = blocks.data();
    const py::gil_scoped_release unlocked;
    kernels.rabitq_scan({data, n, padded, metric == Metric::kL2, tables.queries.data(), nq, out.data(), counts.data()});
  }
  py::list found;
  for (std::size_t q = 0; q < nq; ++q) {
    const auto count = static_cast<py::ssize_t>(counts[q]);
    Array<std::int64_t> rows(count);
    Floats estimates(count), uppers(count);
    for (py::ssize_t i = 0; i < count; ++i) {
      const RabitqHit& hit = hits[q][static_cast<std::size_t>(i)];
      rows.mutable_at(i) = hit.row;
      estimates.mutable_at(i) = hit.estimate;
      uppers.mutable_at(i) = hit.upper;
    }
    found.append(py::make_tuple(rows, estimates, uppers));
  }
  return found;
}

inline void register_rabitq(py::module_& m) {
  m.def("rabitq_encode", &rabitq_encode, py::arg("residuals").noconvert(),
        "Rotated residuals (n, D) -> sign bits (n, D/8), scales, errors and squared norms (n,).");
  m.def("rabitq_table", &rabitq_table, py::arg("query").noconvert(),
        "Look-up tables of a rotated query (D,) as the level in use lays them out: entries, step, base.");
  m.def("rabitq_scan", &rabitq_scan, py::arg("queries").noconvert(), py::arg("blocks").noconvert(), py::arg("n"),
        py::arg("metric"), py::kw_only(), py::arg("adds").noconvert(), py::arg("epsilons").noconvert(),
        py::arg("thresholds").noconvert(),
        "One pass of 1 to 4 rotated queries (nq, D) over blocks: (rows, estimates, upper bounds) of each.");
}

}  // namespace tessella::bind

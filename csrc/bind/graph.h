// The graph's kernels and GraphIndex for Python.
#pragma once

#include <optional>
#include <vector>

#include "bind/index.h"
#include "bind/rabitq.h"
#include "index/graph.h"

namespace tessella::bind {

// ---- kernels -------------------------------------------------------------------------------------------------------

inline void check_one(const Floats& x, std::size_t length, const char* operation, const char* name) {
  const bool fits = x.ndim() == 1 && rows_of(x) == length;
  require(fits, operation, std::string(name) + " of shape (" + std::to_string(length) + ",)", shape_of(x));
}

inline py::tuple graph_encode(const Floats& vertex, const Floats& neighbours, const std::optional<Floats>& centre) {
  const std::size_t padded = padded_columns(neighbours, "graph_encode", "neighbours"), n = rows_of(neighbours);
  check_one(vertex, padded, "graph_encode", "a vertex");
  if (centre) check_one(*centre, padded, "graph_encode", "a centre");
  const auto rows = static_cast<py::ssize_t>(n);
  Bytes bits({n, padded / 8});
  Floats scales(rows), terms(rows);
  const float *from = vertex.data(), *to = neighbours.data(), *about = centre ? centre->data() : nullptr;
  std::uint8_t* signs = bits.mutable_data();
  float *scale = scales.mutable_data(), *term = terms.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    for_tiles(n, [&](std::size_t first, std::size_t count) {
      std::vector<float> edge(padded);
      for (std::size_t i = first; i < first + count; ++i) {
        kernels.graph_encode(
            {from, to + i * padded, about, padded, edge.data(), signs + i * (padded / 8), scale + i, term + i});
      }
    });
  }
  return py::make_tuple(bits, scales, terms);
}

// (vertices, blocks of a vertex, bytes of a block) -> blocks of a vertex.
inline std::size_t checked_blocks(const Bytes& blocks, std::size_t padded) {
  const std::size_t block_bytes = graph_block_bytes(padded);
  const bool fits = blocks.ndim() == 3 && blocks.shape(1) > 0 && blocks.shape(2) == py::ssize_t(block_bytes);
  require(fits, "graph_scan", "blocks of shape (n, degree / 32, " + std::to_string(block_bytes) + ")",
          shape_of(blocks));
  return static_cast<std::size_t>(blocks.shape(1));
}

inline void check_visits(const Array<std::uint32_t>& visits, std::size_t vertices) {
  require(visits.ndim() == 1, "graph_scan", "visits of shape (v,)", shape_of(visits));
  for (std::size_t i = 0; i < rows_of(visits); ++i) {
    const std::uint32_t vertex = visits.data()[i];
    require(vertex < vertices, "graph_scan", "visits below " + std::to_string(vertices), std::to_string(vertex));
  }
}

// adds: one a visit.
inline py::tuple graph_scan(const Floats& query, const Bytes& blocks, const Array<std::uint32_t>& visits,
                            const std::string& metric, const Floats& adds, float threshold) {
  const float factor = parse_metric(metric, "graph_scan") == Metric::kL2 ? 2.0f : 1.0f;
  require(query.ndim() == 1 && query.shape(0) > 0 && query.shape(0) % 64 == 0, "graph_scan",
          "query of shape (D,), D a multiple of 64", shape_of(query));
  const std::size_t padded = rows_of(query), each = checked_blocks(blocks, padded), degree = each * kBlockRows;
  check_visits(visits, rows_of(blocks));
  check_one(adds, rows_of(visits), "graph_scan", "adds");
  const std::size_t count = rows_of(visits);
  Floats estimates({count, degree});
  Array<std::uint32_t> reach({count, each});
  const std::uint8_t* data = blocks.data();
  const std::uint32_t* at = visits.data();
  const float* add = adds.data();
  float* estimate = estimates.mutable_data();
  std::uint32_t* reached = reach.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    PreparedTables tables(kernels, query.data(), 1, padded);
    tables.queries[0].factor = factor;
    tables.queries[0].threshold = threshold;
    for (std::size_t i = 0; i < count; ++i) {
      kernels.graph_scan({data + at[i] * each * graph_block_bytes(padded), degree, padded, tables.queries.data(),
                          add[i], graph_weight(factor == 2.0f, add[i]), estimate + i * degree, reached + i * each});
    }
  }
  return py::make_tuple(estimates, reach);
}

// ---- the index -----------------------------------------------------------------------------------------------------

struct GraphSearches {
  static void search(const GraphIndex& ix, const SearchRequest& request, std::size_t ef) { ix.search({request, ef}); }
  static std::vector<std::vector<RangeHit>> within(const GraphIndex& ix, const float* queries, std::size_t nq,
                                                   float threshold, float epsilon, std::size_t ef,
                                                   std::size_t threads) {
    return ix.range_search(queries, nq, threshold, epsilon, ef, threads);
  }
};

// {"rows", "next_id", "trained", "ids" or None, "centre", "columns"}.
inline py::dict graph_snapshot(GraphIndex& ix) {
  GraphSnapshot snapshot;
  {
    const py::gil_scoped_release unlocked;
    snapshot = ix.snapshot();
  }
  py::dict state;
  state["rows"] = snapshot.rows;
  state["next_id"] = snapshot.next_id;
  state["trained"] = snapshot.trained;
  state["ids"] = optional_ids(snapshot.ids);
  state["centre"] = Array<float>(static_cast<py::ssize_t>(snapshot.centre.size()), snapshot.centre.data());
  state["columns"] = column_views(snapshot.columns, snapshot.rows);
  return state;
}

inline void graph_restore(GraphIndex& ix, const py::dict& state) {
  GraphSnapshot snapshot;
  snapshot.rows = static_cast<std::size_t>(whole_number(state, "rows"));
  snapshot.next_id = whole_number(state, "next_id");
  snapshot.trained = state["trained"].cast<bool>();
  snapshot.ids = restored_ids(state);
  snapshot.centre = finite_floats(state, "centre");
  snapshot.columns = borrowed_columns(state["columns"].cast<py::dict>());
  const py::gil_scoped_release unlocked;
  ix.restore(std::move(snapshot));
}

inline void register_graph_kernels(py::module_& m) {
  m.def("graph_encode", &graph_encode, py::arg("vertex").noconvert(), py::arg("neighbours").noconvert(),
        py::arg("centre").noconvert() = py::none(),
        "Edges from a rotated residual (D,) to others (n, D) -> sign bits (n, D/8), scales and terms (n,). "
        "centre (D,), rotated: under inner product; none under squared distance.");
  m.def("graph_scan", &graph_scan, py::arg("query").noconvert(), py::arg("blocks").noconvert(),
        py::arg("visits").noconvert(), py::arg("metric"), py::kw_only(), py::arg("adds").noconvert(),
        py::arg("threshold"),
        "A rotated query (D,) visits vertices (v,), one after another, whose blocks (n, degree/32, bytes) it is given: "
        "estimates (v, degree) and, as bits (v, degree/32), which of them reach the threshold.");
}

inline void register_graph(py::module_& m) {
  register_graph_kernels(m);
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<GraphIndex> bound(m, "GraphIndex", "The graph's engine; use tessella.Index.");
  bound.def(py::init([](std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                        std::uint64_t seed, std::size_t degree) {
              return std::make_unique<GraphIndex>(GraphConfig{make_config(dim, metric, codecs, seed), degree},
                                                  &cpu::active_kernels);
            }),
            py::kw_only(), py::arg("dim"), py::arg("metric"), py::arg("codecs"), py::arg("seed"), py::arg("degree"));
  register_common(bound);
  register_searches<GraphSearches>(bound);
  bound
      .def(
          "train",
          [](GraphIndex& ix, const Array<float>& x) {
            const float* rows = checked_rows(x, ix.config().dim, "train", "x");
            const auto n = static_cast<std::size_t>(x.shape(0));
            const py::gil_scoped_release unlocked;
            ix.train(rows, n);
          },
          py::arg("x").noconvert())
      .def(
          "add",
          [](GraphIndex& ix, const Array<float>& x, const std::optional<Ids>& ids, std::size_t threads,
             const py::object& progress) {
            const GraphProgress report = progress_of(progress);
            index_add(ix, x, ids,
                      [&](const float* rows, std::size_t n, auto wanted) { ix.add(rows, n, wanted, threads, report); });
          },
          py::arg("x").noconvert(), py::arg("ids").noconvert(), py::arg("threads"), py::arg("progress"))
      .def("compact", &GraphIndex::compact, py::arg("threads"), Unlocked())
      .def("snapshot", &graph_snapshot)
      .def("restore", &graph_restore, py::arg("state"));
}

}  // namespace tessella::bind

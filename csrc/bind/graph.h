// GraphIndex for Python.
#pragma once

#include "bind/index.h"
#include "index/graph.h"

namespace tessella::bind {

inline py::tuple graph_range_search(const GraphIndex& ix, const Array<float>& queries, float threshold, float epsilon,
                                    std::size_t ef, std::size_t threads) {
  const float* rows = checked_rows(queries, ix.config().dim, "range_search", "queries");
  const auto nq = static_cast<std::size_t>(queries.shape(0));
  std::vector<std::vector<RangeHit>> lists;
  {
    const py::gil_scoped_release unlocked;
    lists = ix.range_search(rows, nq, threshold, epsilon, ef, threads);
  }
  return ragged(lists);
}

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

inline void register_graph(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<GraphIndex> bound(m, "GraphIndex", "The graph's engine; use tessella.Index.");
  bound.def(py::init([](std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                        std::uint64_t seed, std::size_t degree) {
              return std::make_unique<GraphIndex>(GraphConfig{make_config(dim, metric, codecs, seed), degree},
                                                  &cpu::active_kernels);
            }),
            py::kw_only(), py::arg("dim"), py::arg("metric"), py::arg("codecs"), py::arg("seed"), py::arg("degree"));
  register_common(bound);
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
      .def("compact", &GraphIndex::compact, py::arg("threads"), Unlocked())
      .def(
          "search",
          [](const GraphIndex& ix, const Array<float>& queries, std::size_t k, float epsilon, std::size_t ef,
             std::size_t threads) {
            return index_search(ix, queries, k, epsilon, threads,
                                [&](const SearchRequest& request) { ix.search({request, ef, {}}); });
          },
          py::arg("queries").noconvert(), py::arg("k"), py::arg("epsilon"), py::arg("ef"), py::arg("threads"))
      .def("range_search", &graph_range_search, py::arg("queries").noconvert(), py::arg("threshold"),
           py::arg("epsilon"), py::arg("ef"), py::arg("threads"))
      .def("snapshot", &graph_snapshot)
      .def("restore", &graph_restore, py::arg("state"));
}

}  // namespace tessella::bind

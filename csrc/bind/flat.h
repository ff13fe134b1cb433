// FlatIndex for Python.
#pragma once

#include "bind/index.h"
#include "index/flat.h"

namespace tessella::bind {

struct FlatSearches {
  static void search(const FlatIndex& ix, const SearchRequest& request, std::size_t) { ix.search(request); }
  static std::vector<std::vector<RangeHit>> within(const FlatIndex& ix, const float* queries, std::size_t nq,
                                                   float threshold, float epsilon, std::size_t, std::size_t threads) {
    return ix.range_search(queries, nq, threshold, epsilon, threads);
  }
};

// {"rows", "next_id", "trained", "ids" or None, "centre", "columns"}.
inline py::dict flat_snapshot(const FlatIndex& ix) {
  FlatSnapshot snapshot;
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
  state["pq"] = pq_state(snapshot.pq, ix.config().dim, pq_codec(ix.config()));
  state["columns"] = column_views(snapshot.columns, snapshot.rows);
  return state;
}

inline void flat_restore(FlatIndex& ix, const py::dict& state) {
  FlatSnapshot snapshot;
  snapshot.rows = static_cast<std::size_t>(whole_number(state, "rows"));
  snapshot.next_id = whole_number(state, "next_id");
  snapshot.trained = state["trained"].cast<bool>();
  snapshot.ids = restored_ids(state);
  snapshot.centre = finite_floats(state, "centre");
  snapshot.pq = pq_model(state["pq"]);
  snapshot.columns = borrowed_columns(state["columns"].cast<py::dict>());
  const py::gil_scoped_release unlocked;
  ix.restore(std::move(snapshot));
}

inline void register_flat(py::module_& m) {
  py::class_<FlatIndex> bound(m, "FlatIndex", "The flat index's engine; use tessella.Index.");
  bound.def(py::init([](std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                        std::uint64_t seed) {
              return std::make_unique<FlatIndex>(make_config(dim, metric, codecs, seed), &cpu::active_kernels);
            }),
            py::kw_only(), py::arg("dim"), py::arg("metric"), py::arg("codecs"), py::arg("seed"));
  register_common(bound);
  register_searches<FlatSearches>(bound);
  register_add(bound);
  register_pq(bound);
  bound
      .def(
          "train",
          [](FlatIndex& ix, const Array<float>& x) {
            const float* rows = checked_rows(x, ix.config().dim, "train", "x");
            const auto n = static_cast<std::size_t>(x.shape(0));
            const py::gil_scoped_release unlocked;
            ix.train(rows, n);
          },
          py::arg("x").noconvert())
      .def("snapshot", &flat_snapshot)
      .def("restore", &flat_restore, py::arg("state"));
}

}  // namespace tessella::bind

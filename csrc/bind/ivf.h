// IvfIndex for Python.
#pragma once

#include "bind/index.h"
#include "index/ivf.h"

namespace tessella::bind {

struct IvfSearches {
  static void search(const IvfIndex& ix, const SearchRequest& request, std::size_t nprobe) {
    ix.search({request, nprobe});
  }
  static std::vector<std::vector<RangeHit>> within(const IvfIndex& ix, const float* queries, std::size_t nq,
                                                   float threshold, float epsilon, std::size_t nprobe,
                                                   std::size_t threads) {
    return ix.range_search(queries, nq, threshold, epsilon, nprobe, threads);
  }
};

// A flat index's state and {"lists", "centroids": columns, "list_sizes" (lists,), "list_rows": arrays, "list_blocks":
// arrays}: one array for each list, views that keep its memory alive.
inline py::dict ivf_snapshot(IvfIndex& ix) {
  IvfSnapshot snapshot;
  {
    const py::gil_scoped_release unlocked;
    snapshot = ix.snapshot();
  }
  py::list sizes, rows, blocks;
  for (const InvertedLists::List& list : snapshot.entries) {
    sizes.append(list.size);
    if (list.size == 0) continue;
    const py::capsule owner(new std::shared_ptr<const void>(list.holder),
                            [](void* p) { delete static_cast<std::shared_ptr<const void>*>(p); });
    rows.append(py::array_t<std::uint32_t>(list.size, list.rows, owner));
    if (ix.list_block_bytes() == 0) continue;
    const std::size_t count = (list.size + kBlockRows - 1) / kBlockRows;
    blocks.append(py::array_t<std::uint8_t>({count, ix.list_block_bytes()}, list.blocks, owner));
  }
  py::dict state;
  state["rows"] = snapshot.rows;
  state["next_id"] = snapshot.next_id;
  state["trained"] = snapshot.lists > 0;
  state["lists"] = snapshot.lists;
  state["ids"] = optional_ids(snapshot.ids);
  state["centre"] = Array<float>(static_cast<py::ssize_t>(snapshot.centre.size()), snapshot.centre.data());
  state["pq"] = pq_state(snapshot.pq, ix.config().dim, pq_codec(ix.config()));
  state["columns"] = column_views(snapshot.columns, snapshot.rows);
  state["centroids"] = column_views(snapshot.centroids, snapshot.lists);
  state["shrinks"] = Array<float>(static_cast<py::ssize_t>(snapshot.shrinks.size()), snapshot.shrinks.data());
  state["list_sizes"] = sizes;
  state["list_rows"] = rows;
  state["list_blocks"] = blocks;
  return state;
}

// Here "list_rows" (entries,) and "list_blocks" (blocks, bytes) are one array each, borrowed.
inline void ivf_restore(IvfIndex& ix, const py::dict& state) {
  IvfSnapshot snapshot;
  snapshot.rows = static_cast<std::size_t>(whole_number(state, "rows"));
  snapshot.next_id = whole_number(state, "next_id");
  snapshot.lists = static_cast<std::size_t>(whole_number(state, "lists"));
  snapshot.ids = restored_ids(state);
  snapshot.centre = finite_floats(state, "centre");
  snapshot.shrinks = finite_floats(state, "shrinks");
  snapshot.pq = pq_model(state["pq"]);
  snapshot.columns = borrowed_columns(state["columns"].cast<py::dict>());
  snapshot.centroids = borrowed_columns(state["centroids"].cast<py::dict>());
  const auto sizes = state["list_sizes"].cast<Array<std::uint32_t>>();
  const auto rows = state["list_rows"].cast<Array<std::uint32_t>>();
  const auto blocks = state["list_blocks"].cast<Array<std::uint8_t>>();
  const std::size_t block_bytes = ix.list_block_bytes();
  const auto refuse = [](const char* what) { throw Error(ErrorKind::kFormat, std::string("load: ") + what); };
  if (static_cast<std::size_t>(sizes.size()) != snapshot.lists) refuse("there are not as many list sizes as lists");
  std::size_t entries = 0, count = 0;
  for (std::size_t l = 0; l < snapshot.lists; ++l) {
    entries += sizes.at(l);
    count += (sizes.at(l) + kBlockRows - 1) / kBlockRows;
  }
  if (static_cast<std::size_t>(rows.size()) != entries) refuse("the lists' rows are not as many as their sizes say");
  if (static_cast<std::size_t>(blocks.size()) != count * block_bytes)
    refuse("the lists' blocks do not fit their sizes");
  const auto holder = std::make_shared<std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>>(
      lender_of(rows), lender_of(blocks));
  const std::uint32_t* next_rows = rows.data();
  const std::uint8_t* next_blocks = blocks.data();
  for (std::size_t l = 0; l < snapshot.lists; ++l) {
    const std::uint32_t size = sizes.at(l);
    snapshot.entries.push_back({holder, next_blocks, next_rows, size, size, 0});
    next_rows += size;
    next_blocks += (size + kBlockRows - 1) / kBlockRows * block_bytes;
  }
  const py::gil_scoped_release unlocked;
  ix.restore(std::move(snapshot));
}

inline void register_ivf(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<IvfIndex> bound(m, "IvfIndex", "The inverted file's engine; use tessella.Index.");
  bound.def(py::init([](std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                        std::uint64_t seed, std::size_t lists, bool spill) {
              return std::make_unique<IvfIndex>(IvfConfig{make_config(dim, metric, codecs, seed), lists, spill},
                                                &cpu::active_kernels);
            }),
            py::kw_only(), py::arg("dim"), py::arg("metric"), py::arg("codecs"), py::arg("seed"), py::arg("lists"),
            py::arg("spill"));
  register_common(bound);
  register_searches<IvfSearches>(bound);
  register_add(bound);
  register_pq(bound);
  bound.def("lists", &IvfIndex::lists, Unlocked())
      .def("list_sizes",
           [](const IvfIndex& ix) {
             std::vector<std::size_t> sizes;
             {
               const py::gil_scoped_release unlocked;
               sizes = ix.list_sizes();
             }
             return Ids(static_cast<py::ssize_t>(sizes.size()), reinterpret_cast<const std::int64_t*>(sizes.data()));
           })
      .def("centroids",
           [](const IvfIndex& ix) {
             Array<float> out({ix.lists(), ix.config().dim});
             float* to = out.mutable_data();
             const py::gil_scoped_release unlocked;
             ix.centroids(to);
             return out;
           })
      .def(
          "train",
          [](IvfIndex& ix, const Array<float>& x, std::size_t threads, const py::object& progress) {
            const float* rows = checked_rows(x, ix.config().dim, "train", "x");
            const auto n = static_cast<std::size_t>(x.shape(0));
            const KmeansProgress report = progress_of(progress);
            const py::gil_scoped_release unlocked;
            ix.train(rows, n, threads, report);
          },
          py::arg("x").noconvert(), py::arg("threads"), py::arg("progress"))
      .def("compact", &IvfIndex::compact, py::arg("threads"), Unlocked())
      .def(
          "centroid_block_bytes",
          [](const IvfIndex& ix, const std::string& column) { return ix.centroid_layout().at(column); },
          py::arg("column"))
      .def("list_block_bytes", &IvfIndex::list_block_bytes)
      .def("snapshot", &ivf_snapshot)
      .def("restore", &ivf_restore, py::arg("state"));
}

}  // namespace tessella::bind

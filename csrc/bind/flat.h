// FlatIndex for Python: check, view, release the GIL, call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>

#include "bind/arrays.h"
#include "cpu/registry.h"
#include "index/flat.h"

namespace tessella::bind {

using Ids = Array<std::int64_t>;

inline std::span<const std::int64_t> span_of(const Ids& ids) {
  return {ids.data(), static_cast<std::size_t>(ids.size())};
}

inline std::span<const std::int64_t> checked_ids(const Ids& ids, std::size_t rows, const char* operation) {
  if (ids.ndim() != 1 || static_cast<std::size_t>(ids.size()) != rows) {
    throw Error(ErrorKind::kInvalidArgument, std::string(operation) + ": expected ids of shape (" +
                                                 std::to_string(rows) + ",), one a row; got " + shape_of(ids));
  }
  return span_of(ids);
}

inline FlatConfig make_config(std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                              std::uint64_t seed) {
  if (metric != "l2" && metric != "ip" && metric != "cosine") {
    throw Error(ErrorKind::kInvalidArgument, "index: expected metric 'cosine', 'ip' or 'l2'; got '" + metric + "'");
  }
  return {dim, metric == "l2" ? Metric::kL2 : Metric::kInnerProduct, metric == "cosine", parse_codecs(codecs), seed};
}

// `first` is the row number of x[0] in the caller's array, for the message.
inline const float* checked_rows(const Array<float>& x, std::size_t dim, const char* operation, const char* name,
                                 std::size_t first = 0) {
  check_shape(x, dim, operation, name);
  const py::gil_scoped_release unlocked;
  check_finite(x.data(), static_cast<std::size_t>(x.shape(0)), dim, operation, name, first);
  return x.data();
}

// Raw columns keep values as they come; those that the element type cannot hold are refused.
inline void check_values(const FlatIndex& ix, const float* rows, std::size_t n, const char* operation) {
  for (const Codec& codec : ix.config().codecs) {
    if (codec.kind != Codec::Kind::kRaw) continue;
    check_storable(rows, n, ix.config().dim, codec.type, operation);
  }
}

inline void flat_add(FlatIndex& ix, const Array<float>& x, const std::optional<Ids>& ids, std::size_t threads) {
  const float* rows = checked_rows(x, ix.config().dim, "add", "x");
  const auto n = static_cast<std::size_t>(x.shape(0));
  const auto wanted = ids ? checked_ids(*ids, n, "add") : std::span<const std::int64_t>{};
  const py::gil_scoped_release unlocked;
  check_values(ix, rows, n, "add");
  ix.add(rows, n, wanted, threads);
}

inline void flat_update(FlatIndex& ix, const Ids& ids, const Array<float>& x, std::size_t threads) {
  const float* rows = checked_rows(x, ix.config().dim, "update", "x");
  const auto which = checked_ids(ids, static_cast<std::size_t>(x.shape(0)), "update");
  const py::gil_scoped_release unlocked;
  check_values(ix, rows, which.size(), "update");
  ix.update(which, rows, threads);
}

inline py::tuple flat_search(const FlatIndex& ix, const Array<float>& queries, std::size_t k, float epsilon,
                             std::size_t threads) {
  const float* rows = checked_rows(queries, ix.config().dim, "search", "queries");
  if (k < 1 || k > kMaxK) {
    throw Error(ErrorKind::kInvalidArgument,
                "search: expected k in 1.." + std::to_string(kMaxK) + "; got " + std::to_string(k));
  }
  const auto nq = static_cast<std::size_t>(queries.shape(0));
  Ids ids({nq, k});
  Array<float> scores({nq, k});
  SearchCounts counts;
  const SearchRequest request{rows, nq, k, epsilon, threads, scores.mutable_data(), ids.mutable_data(), &counts};
  {
    const py::gil_scoped_release unlocked;
    ix.search(request);
  }
  return py::make_tuple(ids, scores, py::make_tuple(counts.scanned, counts.refined, counts.rescored));
}

inline py::tuple flat_range_search(const FlatIndex& ix, const Array<float>& queries, float threshold, float epsilon,
                                   std::size_t threads) {
  const float* rows = checked_rows(queries, ix.config().dim, "range_search", "queries");
  const auto nq = static_cast<std::size_t>(queries.shape(0));
  std::vector<std::vector<RangeHit>> lists;
  {
    const py::gil_scoped_release unlocked;
    lists = ix.range_search(rows, nq, threshold, epsilon, threads);
  }
  Ids offsets(static_cast<py::ssize_t>(nq + 1));
  offsets.mutable_at(0) = 0;
  for (std::size_t q = 0; q < nq; ++q) {
    offsets.mutable_at(q + 1) = offsets.at(q) + static_cast<std::int64_t>(lists[q].size());
  }
  const py::ssize_t total = offsets.at(nq);
  Ids ids(total);
  Array<float> scores(total);
  py::ssize_t at = 0;
  for (const auto& list : lists) {
    for (const RangeHit& hit : list) {
      ids.mutable_at(at) = hit.id;
      scores.mutable_at(at++) = hit.score;
    }
  }
  return py::make_tuple(offsets, ids, scores);
}

inline Array<float> flat_reconstruct(const FlatIndex& ix, const Ids& ids) {
  Array<float> out({static_cast<py::ssize_t>(ids.size()), static_cast<py::ssize_t>(ix.config().dim)});
  float* to = out.mutable_data();
  const auto which = span_of(ids);
  const py::gil_scoped_release unlocked;
  ix.reconstruct(which, to);
  return out;
}

inline Ids ids_array(const std::vector<std::int64_t>& ids) {
  return Ids(static_cast<py::ssize_t>(ids.size()), ids.data());
}

// {"rows", "next_id", "trained", "ids" or None, "centre", "columns": {name: [chunk arrays (blocks, bytes)]}}.
// Chunk arrays are views that keep their chunk alive.
inline py::dict flat_snapshot(const FlatIndex& ix) {
  FlatSnapshot snapshot;
  {
    const py::gil_scoped_release unlocked;
    snapshot = ix.snapshot();
  }
  const std::size_t blocks = (snapshot.rows + kBlockRows - 1) / kBlockRows;
  py::dict columns;
  for (const auto& [name, column] : snapshot.columns) {
    py::list chunks;
    for (std::size_t first = 0; first < blocks; first += kChunkBlocks) {
      const auto* held = new std::shared_ptr<Chunk>(column.chunks()[first / kChunkBlocks]);
      const py::capsule owner(held, [](void* p) { delete static_cast<std::shared_ptr<Chunk>*>(p); });
      const std::size_t count = std::min(kChunkBlocks, blocks - first);
      chunks.append(py::array_t<std::uint8_t>({count, column.block_bytes()}, (*held)->data, owner));
    }
    columns[py::str(name)] = chunks;
  }
  py::dict state;
  state["rows"] = snapshot.rows;
  state["next_id"] = snapshot.next_id;
  state["trained"] = snapshot.trained;
  state["ids"] = snapshot.ids ? py::object(ids_array(*snapshot.ids)) : py::none();
  state["centre"] = Array<float>(static_cast<py::ssize_t>(snapshot.centre.size()), snapshot.centre.data());
  state["columns"] = columns;
  return state;
}

inline std::int64_t whole_number(const py::dict& state, const char* key) {
  const auto value = state[key].cast<std::int64_t>();
  if (value < 0) throw Error(ErrorKind::kFormat, std::string("load: '") + key + "' is negative");
  return value;
}

// Columns are one array (blocks, bytes) each and are borrowed: the index keeps the arrays alive.
inline void flat_restore(FlatIndex& ix, const py::dict& state) {
  FlatSnapshot snapshot;
  snapshot.rows = static_cast<std::size_t>(whole_number(state, "rows"));
  snapshot.next_id = whole_number(state, "next_id");
  snapshot.trained = state["trained"].cast<bool>();
  if (!state["ids"].is_none()) {
    const auto ids = state["ids"].cast<Ids>();
    snapshot.ids.emplace(ids.data(), ids.data() + ids.size());
  }
  const auto centre = state["centre"].cast<Array<float>>();
  snapshot.centre.assign(centre.data(), centre.data() + centre.size());
  for (const float c : snapshot.centre) {
    if (c - c != 0.0f) throw Error(ErrorKind::kFormat, "load: the centre has a NaN or an infinity");
  }
  for (const auto& [name, value] : state["columns"].cast<py::dict>()) {
    auto array = value.cast<Array<std::uint8_t>>();
    if (array.ndim() != 2) throw Error(ErrorKind::kFormat, "load: a column is not of shape (blocks, bytes)");
    const auto* held = new Array<std::uint8_t>(array);
    const std::shared_ptr<const void> lender(held, [](const Array<std::uint8_t>* p) {
      const py::gil_scoped_acquire locked;
      delete p;
    });
    snapshot.columns.emplace(name.cast<std::string>(),
                             Column::borrow(static_cast<std::size_t>(array.shape(1)), array.data(),
                                            static_cast<std::size_t>(array.shape(0)), lender));
  }
  const py::gil_scoped_release unlocked;
  ix.restore(std::move(snapshot));
}

inline void register_flat(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<FlatIndex>(m, "FlatIndex", "The flat index's engine; use tessella.Index.")
      .def(py::init([](std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
                       std::uint64_t seed) {
             return std::make_unique<FlatIndex>(make_config(dim, metric, codecs, seed), &cpu::active_kernels);
           }),
           py::kw_only(), py::arg("dim"), py::arg("metric"), py::arg("codecs"), py::arg("seed"))
      // Whoever may wait for the index's lock must not hold the GIL: the holder may need it to let go of borrowed
      // memory.
      .def("__len__", &FlatIndex::size, Unlocked())
      .def("__contains__", &FlatIndex::contains, py::arg("id"), Unlocked())
      .def("nbytes", &FlatIndex::nbytes, Unlocked())
      .def("trained", &FlatIndex::trained, Unlocked())
      .def("ids",
           [](const FlatIndex& ix) {
             std::vector<std::int64_t> ids;
             {
               const py::gil_scoped_release unlocked;
               ids = ix.ids();
             }
             return ids_array(ids);
           })
      .def(
          "train",
          [](FlatIndex& ix, const Array<float>& x) {
            const float* rows = checked_rows(x, ix.config().dim, "train", "x");
            const auto n = static_cast<std::size_t>(x.shape(0));
            const py::gil_scoped_release unlocked;
            ix.train(rows, n);
          },
          py::arg("x").noconvert())
      .def(
          "check_new_ids",
          [](FlatIndex& ix, const Ids& ids) {
            const auto wanted = span_of(ids);
            const py::gil_scoped_release unlocked;
            ix.check_new_ids(wanted);
          },
          py::arg("ids").noconvert())
      .def(
          "check_rows",
          [](const FlatIndex& ix, const Array<float>& x, std::size_t first) {
            const float* rows = checked_rows(x, ix.config().dim, "add", "x", first);
            const py::gil_scoped_release unlocked;
            check_values(ix, rows, static_cast<std::size_t>(x.shape(0)), "add");
          },
          py::arg("x").noconvert(), py::arg("first"))
      .def(
          "block_bytes", [](const FlatIndex& ix, const std::string& column) { return ix.column_layout().at(column); },
          py::arg("column"))
      .def("add", &flat_add, py::arg("x").noconvert(), py::arg("ids").noconvert(), py::arg("threads"))
      .def(
          "remove",
          [](FlatIndex& ix, const Ids& ids) {
            const auto which = span_of(ids);
            const py::gil_scoped_release unlocked;
            ix.remove(which);
          },
          py::arg("ids").noconvert())
      .def("update", &flat_update, py::arg("ids").noconvert(), py::arg("x").noconvert(), py::arg("threads"))
      .def("reconstruct", &flat_reconstruct, py::arg("ids").noconvert())
      .def("search", &flat_search, py::arg("queries").noconvert(), py::arg("k"), py::arg("epsilon"), py::arg("threads"))
      .def("range_search", &flat_range_search, py::arg("queries").noconvert(), py::arg("threshold"), py::arg("epsilon"),
           py::arg("threads"))
      .def("snapshot", &flat_snapshot)
      .def("restore", &flat_restore, py::arg("state"));
}

}  // namespace tessella::bind

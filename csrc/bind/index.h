// What the doors of all index structures share: check, view, release the GIL, call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <functional>
#include <memory>

#include "bind/arrays.h"
#include "bind/row_filter.h"
#include "common/parallel.h"
#include "cpu/registry.h"
#include "index/plan.h"
#include "index/rows.h"
#include "index/search.h"

namespace tessella::bind {

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

inline RowConfig make_config(std::size_t dim, const std::string& metric, const std::vector<std::string>& codecs,
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
template <typename Ix>
void check_values(const Ix& ix, const float* rows, std::size_t n, const char* operation) {
  for (const Codec& codec : ix.config().codecs) {
    if (codec.kind != Codec::Kind::kRaw) continue;
    check_storable(rows, n, ix.config().dim, codec.type, operation);
  }
}

// A Python function called with the share of the work done, or nothing.
inline std::function<void(double)> progress_of(const py::object& function) {
  if (function.is_none()) return {};
  return [function](double share) {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    function(share);
  };
}

// `add(rows, n, ids)` stores them; more than one structure is filled through here.
template <typename Ix, typename Add>
void index_add(const Ix& ix, const Array<float>& x, const std::optional<Ids>& ids, const Add& add) {
  const float* rows = checked_rows(x, ix.config().dim, "add", "x");
  const auto n = static_cast<std::size_t>(x.shape(0));
  const auto wanted = ids ? checked_ids(*ids, n, "add") : std::span<const std::int64_t>{};
  const py::gil_scoped_release unlocked;
  check_values(ix, rows, n, "add");
  add(rows, n, wanted);
}

template <typename Ix>
void index_update(Ix& ix, const Ids& ids, const Array<float>& x, std::size_t threads) {
  const float* rows = checked_rows(x, ix.config().dim, "update", "x");
  const auto which = checked_ids(ids, static_cast<std::size_t>(x.shape(0)), "update");
  const py::gil_scoped_release unlocked;
  check_values(ix, rows, which.size(), "update");
  ix.update(which, rows, threads);
}

// How each query was filtered: numbers of ways (nq,), and estimated nanoseconds of every way (nq, ways).
inline py::object plans_of(const std::vector<Plan>& plans) {
  if (plans.empty()) return py::none();
  Ids ways(static_cast<py::ssize_t>(plans.size()));
  py::array_t<double> costs({plans.size(), kWays});
  for (std::size_t q = 0; q < plans.size(); ++q) {
    ways.mutable_at(q) = static_cast<std::int64_t>(plans[q].way);
    std::copy(plans[q].costs.begin(), plans[q].costs.end(), costs.mutable_data(q, 0));
  }
  return py::make_tuple(ways, costs);
}

// A search and the arrays (nq, k) that it fills. threads: 0 for as many as are set.
class Asked {
 public:
  Asked(const Array<float>& queries, std::size_t dim, std::size_t k, float epsilon, std::size_t threads)
      : shape_(checked(queries, dim, k)), dim_(dim), ids_(shape_), scores_(shape_) {
    if (threads == 0) threads = num_threads();
    request = {queries.data(), shape_[0], k, epsilon, threads, scores_.mutable_data(), ids_.mutable_data()};
  }

  template <typename Search>
  void run(const Search& search) const {
    const py::gil_scoped_release unlocked;
    check_finite(request.queries, request.nq, dim_, "search", "queries");
    search(request);
  }
  template <typename... More>
  py::tuple results(More&&... more) {
    return py::make_tuple(std::move(ids_), std::move(scores_), std::forward<More>(more)...);
  }

  SearchRequest request;

 private:
  static std::array<std::size_t, 2> checked(const Array<float>& queries, std::size_t dim, std::size_t k) {
    check_shape(queries, dim, "search", "queries");
    if (k >= 1 && k <= kMaxK) return {static_cast<std::size_t>(queries.shape(0)), k};
    throw Error(ErrorKind::kInvalidArgument,
                "search: expected k in 1.." + std::to_string(kMaxK) + "; got " + std::to_string(k));
  }

  std::array<std::size_t, 2> shape_;
  std::size_t dim_;
  Ids ids_;
  Array<float> scores_;
};

// Lists of hits as offsets (nq + 1,), ids and scores.
inline py::tuple ragged(const std::vector<std::vector<RangeHit>>& lists) {
  const std::size_t nq = lists.size();
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

template <typename Ix>
Array<float> index_reconstruct(const Ix& ix, const Ids& ids) {
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

// {name: [chunk arrays (blocks, bytes)]}: views that keep their chunk alive.
inline py::dict column_views(const std::map<std::string, Column>& all, std::size_t rows) {
  const std::size_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  py::dict columns;
  for (const auto& [name, column] : all) {
    py::list chunks;
    for (std::size_t first = 0; first < blocks; first += kChunkBlocks) {
      const auto* held = new std::shared_ptr<Chunk>(column.chunks()[first / kChunkBlocks]);
      const py::capsule owner(held, [](void* p) { delete static_cast<std::shared_ptr<Chunk>*>(p); });
      const std::size_t count = std::min(kChunkBlocks, blocks - first);
      chunks.append(py::array_t<std::uint8_t>({count, column.block_bytes()}, (*held)->data, owner));
    }
    columns[py::str(name)] = chunks;
  }
  return columns;
}

// Columns of one array (blocks, bytes) each, borrowed: they keep the arrays alive.
inline std::shared_ptr<const void> lender_of(py::array array) {
  return {new py::array(std::move(array)), [](const py::array* p) {
            const py::gil_scoped_acquire locked;
            delete p;
          }};
}

inline std::map<std::string, Column> borrowed_columns(const py::dict& arrays) {
  std::map<std::string, Column> columns;
  for (const auto& [name, value] : arrays) {
    const auto array = value.cast<Array<std::uint8_t>>();
    if (array.ndim() != 2) throw Error(ErrorKind::kFormat, "load: a column is not of shape (blocks, bytes)");
    columns.emplace(name.cast<std::string>(),
                    Column::borrow(static_cast<std::size_t>(array.shape(1)), array.data(),
                                   static_cast<std::size_t>(array.shape(0)), lender_of(array)));
  }
  return columns;
}

inline std::vector<float> finite_floats(const py::dict& state, const char* key) {
  const auto array = state[key].cast<Array<float>>();
  std::vector<float> values(array.data(), array.data() + array.size());
  for (const float each : values) {
    if (each - each != 0.0f)
      throw Error(ErrorKind::kFormat, std::string("load: the ") + key + " has a NaN or an infinity");
  }
  return values;
}

// Codebooks of a PQ codec: {"codebooks" (levels * m, d/m, 2^bits), "rotation" (d, d) or (0, 0), "error", "bias"}, or
// None.
inline py::object pq_state(const std::optional<PqModel>& model, std::size_t dim, const Codec* codec) {
  if (!model || codec == nullptr) return py::none();
  const std::size_t turned = model->rotation.empty() ? 0 : dim;
  Array<float> codebooks({codec->levels * codec->pieces, dim / codec->pieces, std::size_t{1} << codec->bits});
  Array<float> rotation({turned, turned});
  std::copy(model->codebooks.begin(), model->codebooks.end(), codebooks.mutable_data());
  std::copy(model->rotation.begin(), model->rotation.end(), rotation.mutable_data());
  py::dict state;
  state["codebooks"] = codebooks;
  state["rotation"] = rotation;
  state["error"] = model->error;
  state["bias"] = model->bias;
  return state;
}

inline std::optional<PqModel> pq_model(const py::object& object) {
  if (object.is_none()) return {};
  const auto state = object.cast<py::dict>();
  const std::vector<float> codebooks = finite_floats(state, "codebooks"), rotation = finite_floats(state, "rotation");
  return PqModel{codebooks, {}, rotation, {}, state["error"].cast<float>(), state["bias"].cast<float>()};
}

inline const Codec* pq_codec(const RowConfig& config) {
  return config.codecs.front().kind == Codec::Kind::kPq ? &config.codecs.front() : nullptr;
}

inline py::object optional_ids(const std::optional<std::vector<std::int64_t>>& ids) {
  return ids ? py::object(ids_array(*ids)) : py::none();
}

inline std::optional<std::vector<std::int64_t>> restored_ids(const py::dict& state) {
  if (state["ids"].is_none()) return {};
  const auto ids = state["ids"].cast<Ids>();
  return std::vector<std::int64_t>(ids.data(), ids.data() + ids.size());
}

inline std::int64_t whole_number(const py::dict& state, const char* key) {
  const auto value = state[key].cast<std::int64_t>();
  if (value < 0) throw Error(ErrorKind::kFormat, std::string("load: '") + key + "' is negative");
  return value;
}

// What every structure offers.
template <typename Ix>
void register_common(py::class_<Ix>& bound) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  // Whoever may wait for the index's lock must not hold the GIL: the holder may need it to let go of borrowed
  // memory.
  bound.def("__len__", &Ix::size, Unlocked())
      .def("__contains__", &Ix::contains, py::arg("id"), Unlocked())
      .def("nbytes", &Ix::nbytes, Unlocked())
      .def("trained", &Ix::trained, Unlocked())
      .def("ids",
           [](const Ix& ix) {
             std::vector<std::int64_t> ids;
             {
               const py::gil_scoped_release unlocked;
               ids = ix.ids();
             }
             return ids_array(ids);
           })
      .def(
          "rows_of",
          [](const Ix& ix, const Ids& ids) {
            std::vector<std::int64_t> rows;
            {
              const auto wanted = span_of(ids);
              const py::gil_scoped_release unlocked;
              rows = ix.find(wanted);
            }
            return ids_array(rows);
          },
          py::arg("ids").noconvert())
      .def("removed_rows",
           [](const Ix& ix) {
             std::vector<std::int64_t> rows;
             {
               const py::gil_scoped_release unlocked;
               rows = ix.removed_rows();
             }
             return ids_array(rows);
           })
      .def(
          "check_new_ids",
          [](Ix& ix, const Ids& ids) {
            const auto wanted = span_of(ids);
            const py::gil_scoped_release unlocked;
            ix.check_new_ids(wanted);
          },
          py::arg("ids").noconvert())
      .def(
          "check_rows",
          [](const Ix& ix, const Array<float>& x, std::size_t first) {
            const float* rows = checked_rows(x, ix.config().dim, "add", "x", first);
            const py::gil_scoped_release unlocked;
            check_values(ix, rows, static_cast<std::size_t>(x.shape(0)), "add");
          },
          py::arg("x").noconvert(), py::arg("first"))
      .def(
          "block_bytes", [](const Ix& ix, const std::string& column) { return ix.column_layout().at(column); },
          py::arg("column"))
      .def(
          "remove",
          [](Ix& ix, const Ids& ids) {
            const auto which = span_of(ids);
            const py::gil_scoped_release unlocked;
            ix.remove(which);
          },
          py::arg("ids").noconvert())
      .def("update", &index_update<Ix>, py::arg("ids").noconvert(), py::arg("x").noconvert(), py::arg("threads"))
      .def("reconstruct", &index_reconstruct<Ix>, py::arg("ids").noconvert());
}

// What every structure is asked; `Searches` says how. Effort is nprobe, ef, or nothing.
template <typename Searches, typename Ix>
void register_searches(py::class_<Ix>& bound) {
  bound.def(
      "search",
      [](const Ix& ix, const Array<float>& queries, std::size_t k, float epsilon, std::size_t effort,
         std::size_t threads) {
        Asked asked(queries, ix.config().dim, k, epsilon, threads);
        asked.run([&](const SearchRequest& request) { Searches::search(ix, request, effort); });
        return asked.results();
      },
      py::arg("queries").noconvert(), py::arg("k"), py::arg("epsilon"), py::arg("effort"), py::arg("threads"));
  bound.def(
      "explain",
      [](const Ix& ix, const Array<float>& queries, std::size_t k, float epsilon, std::size_t effort,
         std::size_t threads, const Filters& filters, const std::optional<Ids>& which) {
        Asked asked(queries, ix.config().dim, k, epsilon, threads);
        const std::vector<RowBitmap> bitmaps = checked_bitmaps({filters, which}, asked.request.nq);
        std::vector<Plan> plans(bitmaps.empty() ? 0 : asked.request.nq);
        SearchCounts counts;
        asked.request.counts = &counts;
        asked.request.allowed = bitmaps;
        asked.request.plans = plans.data();
        asked.run([&](const SearchRequest& request) { Searches::search(ix, request, effort); });
        return asked.results(py::make_tuple(counts.scanned, counts.refined, counts.rescored, counts.lists),
                             plans_of(plans));
      },
      py::arg("queries").noconvert(), py::arg("k"), py::arg("epsilon"), py::arg("effort"), py::arg("threads"),
      py::arg("filters") = Filters{}, py::arg("which").noconvert() = py::none());
  bound.def(
      "range_search",
      [](const Ix& ix, const Array<float>& queries, float threshold, float epsilon, std::size_t effort,
         std::size_t threads) {
        const float* rows = checked_rows(queries, ix.config().dim, "range_search", "queries");
        const auto nq = static_cast<std::size_t>(queries.shape(0));
        std::vector<std::vector<RangeHit>> lists;
        {
          const py::gil_scoped_release unlocked;
          lists = Searches::within(ix, rows, nq, threshold, epsilon, effort, threads);
        }
        return ragged(lists);
      },
      py::arg("queries").noconvert(), py::arg("threshold"), py::arg("epsilon"), py::arg("effort"), py::arg("threads"));
}

// Of structures that have nothing to tell while they are filled.
template <typename Ix>
void register_add(py::class_<Ix>& bound) {
  bound.def(
      "add",
      [](Ix& ix, const Array<float>& x, const std::optional<Ids>& ids, std::size_t threads) {
        index_add(ix, x, ids, [&](const float* rows, std::size_t n, auto wanted) { ix.add(rows, n, wanted, threads); });
      },
      py::arg("x").noconvert(), py::arg("ids").noconvert(), py::arg("threads"));
}

// Of structures that a PQ codec may scan.
template <typename Ix>
void register_pq(py::class_<Ix>& bound) {
  bound.def(
      "set_pq",
      [](Ix& ix, const py::dict& state) {
        std::optional<PqModel> model = pq_model(state);
        const py::gil_scoped_release unlocked;
        ix.set_pq(std::move(*model));
      },
      py::arg("state"));
}

}  // namespace tessella::bind

// RowFilter for Python: a bitmap over an index's rows that searches take, and what they leave with it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "bind/arrays.h"
#include "index/row_filter.h"

namespace tessella::bind {

using Ids = Array<std::int64_t>;

// Keeps its words alive.
struct BoundFilter {
  BoundFilter(Array<std::uint64_t> given, std::size_t count, bool copies)
      : words(std::move(given)), filter({words.data(), static_cast<std::size_t>(words.size())}, count, copies) {}

  Array<std::uint64_t> words;
  RowFilter filter;
};

// count: how many of the bits are set.
inline std::unique_ptr<BoundFilter> make_filter(const Array<std::uint64_t>& words, std::size_t count, bool copies) {
  if (words.ndim() != 1 || words.size() == 0) {
    throw Error(ErrorKind::kInvalidArgument,
                "search: expected a bitmap of shape (w,), w at least 1; got " + shape_of(words));
  }
  return std::make_unique<BoundFilter>(words, count, copies);
}

using Filters = std::vector<BoundFilter*>;

// What a search is restricted to: one filter for all queries or, where `which` (nq,) says so, one for each.
struct Restriction {
  const Filters& filters;
  const std::optional<Ids>& which;
};

inline std::vector<RowBitmap> checked_bitmaps(const Restriction& given, std::size_t nq) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::kInvalidArgument, "search: " + what); };
  std::vector<RowBitmap> bitmaps;
  for (BoundFilter* each : given.filters) {
    if (each == nullptr) refuse("expected filters; got None");
    bitmaps.push_back(each->filter.bitmap());
  }
  if (!given.which) {
    if (bitmaps.size() > 1) refuse("expected one bitmap, or which of them each query has");
    return bitmaps;
  }
  const Ids& which = *given.which;
  if (which.ndim() != 1 || static_cast<std::size_t>(which.size()) != nq) {
    refuse("expected which of shape (" + std::to_string(nq) + ",), one a query; got " + shape_of(which));
  }
  std::vector<RowBitmap> each;
  for (std::size_t q = 0; q < nq; ++q) {
    const std::int64_t number = which.data()[q];
    if (number < 0 || number >= static_cast<std::int64_t>(bitmaps.size())) refuse("expected numbers of bitmaps");
    each.push_back(bitmaps[static_cast<std::size_t>(number)]);
  }
  return each;
}

inline void register_row_filter(py::module_& m) {
  py::class_<BoundFilter>(m, "RowFilter", "The rows that a search may return; use tessella.Index.filter.")
      .def(py::init(&make_filter), py::arg("words").noconvert(), py::arg("count"), py::arg("copies") = false)
      .def_property_readonly(
          "words", [](const BoundFilter& bound) { return bound.words; }, "Bits of the rows (w,).")
      .def("count", [](BoundFilter& bound) { return bound.filter.bitmap().count; })
      .def("nbytes", [](const BoundFilter& bound) { return bound.filter.nbytes(); });
}

}  // namespace tessella::bind

// Contrastive losses for Python: check, view, release the GIL, call.
#pragma once

#include <optional>

#include "bind/tiles.h"
#include "index/contrast.h"

namespace tessella::bind {

using Numbers32 = Array<std::int32_t>;
template <typename T>
using Maybe = std::optional<Array<T>>;

// What one call gave: views of arrays that outlive it.
struct ContrastRules {
  const Maybe<float>&column_scale, &hardness, &row_bound;
  const Maybe<std::int32_t>&row_ids, &column_ids, &row_groups, &column_groups;
  const Maybe<float>&guide_rows, &guide_columns, &guide_bound;
};

template <typename T>
const T* optional_data(const Maybe<T>& x) {
  return x ? x->data() : nullptr;
}

// `x`, where it is given, has exactly this shape; what belongs together is given together.
template <typename T>
void check_optional(const Maybe<T>& x, const char* name, std::initializer_list<std::size_t> shape) {
  if (!x) return;
  bool same = static_cast<std::size_t>(x->ndim()) == shape.size();
  std::string expected;
  py::ssize_t axis = 0;
  for (const std::size_t length : shape) {
    same = same && static_cast<std::size_t>(x->shape(axis)) == length;
    expected += (axis++ > 0 ? ", " : "") + std::to_string(length);
  }
  require(same, "contrast", std::string(name) + " of shape (" + expected + (shape.size() == 1 ? ",)" : ")"),
          shape_of(*x));
}

inline void check_together(bool left, bool right, const char* names) {
  require(left == right, "contrast", std::string(names) + " together", "one without the other");
}

inline std::size_t lead(const Maybe<std::int32_t>& x) { return x && x->ndim() > 0 ? rows_of(*x) : 0; }

inline void check_contrast(const Contrast& pairs, const ContrastRules& rules) {
  check_optional(rules.column_scale, "column_scale", {pairs.p, pairs.c});
  check_optional(rules.hardness, "hardness", {pairs.n});
  check_optional(rules.row_bound, "row_bound", {pairs.p, pairs.n});
  check_optional(rules.row_ids, "row_ids", {pairs.k_ids, pairs.n});
  check_optional(rules.column_ids, "column_ids", {pairs.k_ids, pairs.c});
  check_optional(rules.row_groups, "row_groups", {pairs.n});
  check_optional(rules.column_groups, "column_groups", {pairs.c});
  check_optional(rules.guide_rows, "guide_rows", {pairs.n, pairs.guide_d});
  check_optional(rules.guide_columns, "guide_columns", {pairs.c, pairs.guide_d});
  check_optional(rules.guide_bound, "guide_bound", {pairs.n});
  check_together(rules.row_ids.has_value(), rules.column_ids.has_value(), "row_ids and column_ids");
  check_together(rules.row_groups.has_value(), rules.column_groups.has_value(), "row_groups and column_groups");
  check_together(rules.guide_rows.has_value(), rules.guide_columns.has_value(), "guide_rows and guide_columns");
  check_together(rules.guide_rows.has_value(), rules.guide_bound.has_value(), "guide_rows and guide_bound");
}

inline void check_prefixes(const Array<std::uint32_t>& dims, std::size_t d) {
  const std::size_t p = dims.ndim() == 1 ? rows_of(dims) : 0;
  require(p >= 1 && p <= kMaxPrefixes, "contrast", "1 to " + std::to_string(kMaxPrefixes) + " dims", shape_of(dims));
  for (std::size_t i = 0; i < p; ++i) {
    const std::uint32_t least = i == 0 ? 1 : dims.data()[i - 1] + 1;
    require(dims.data()[i] >= least && dims.data()[i] <= d, "contrast",
            "dims ascending, from 1 to " + std::to_string(d), std::to_string(dims.data()[i]));
  }
}

inline Contrast contrast_pairs(const Floats& rows, const Floats& columns, const Floats& row_scale,
                               const Array<std::uint32_t>& dims, const std::string& reduce,
                               const ContrastRules& rules) {
  require(rows.ndim() == 2 && rows.shape(1) > 0, "contrast", "rows of shape (n, d)", shape_of(rows));
  Contrast pairs{};
  pairs.rows = rows.data(), pairs.n = rows_of(rows), pairs.d = static_cast<std::size_t>(rows.shape(1));
  check_shape(columns, pairs.d, "contrast", "columns");
  check_prefixes(dims, pairs.d);
  pairs.columns = columns.data(), pairs.c = rows_of(columns);
  pairs.prefixes = dims.data(), pairs.p = rows_of(dims);
  require(
      row_scale.ndim() == 2 && rows_of(row_scale) == pairs.p && static_cast<std::size_t>(row_scale.shape(1)) == pairs.n,
      "contrast", "row_scale of shape (" + std::to_string(pairs.p) + ", " + std::to_string(pairs.n) + ")",
      shape_of(row_scale));
  require(reduce == "logsumexp" || reduce == "softplus", "contrast", "reduce of 'logsumexp' or 'softplus'",
          "'" + reduce + "'");
  pairs.row_scale = row_scale.data(), pairs.row_stride = pairs.n, pairs.column_stride = pairs.c;
  pairs.k_ids = lead(rules.row_ids);
  require(pairs.k_ids <= kMaxContrastIds, "contrast", "at most " + std::to_string(kMaxContrastIds) + " masks of ids",
          std::to_string(pairs.k_ids));
  pairs.guide_d =
      rules.guide_rows && rules.guide_rows->ndim() == 2 ? static_cast<std::size_t>(rules.guide_rows->shape(1)) : 0;
  check_contrast(pairs, rules);
  pairs.column_scale = optional_data(rules.column_scale), pairs.hardness = optional_data(rules.hardness);
  pairs.row_bound = optional_data(rules.row_bound), pairs.row_ids = optional_data(rules.row_ids);
  pairs.column_ids = optional_data(rules.column_ids), pairs.row_groups = optional_data(rules.row_groups);
  pairs.column_groups = optional_data(rules.column_groups), pairs.guide_rows = optional_data(rules.guide_rows);
  pairs.guide_columns = optional_data(rules.guide_columns), pairs.guide_bound = optional_data(rules.guide_bound);
  pairs.sum = reduce == "softplus" ? ContrastSum::kSoftplus : ContrastSum::kLogSumExp;
  return pairs;
}

inline Floats contrast_forward_arrays(const Floats& rows, const Floats& columns, const Floats& row_scale,
                                      const Maybe<float>& column_scale, const Array<std::uint32_t>& dims,
                                      const Maybe<float>& hardness, const Maybe<float>& row_bound,
                                      const Maybe<std::int32_t>& row_ids, const Maybe<std::int32_t>& column_ids,
                                      const Maybe<std::int32_t>& row_groups, const Maybe<std::int32_t>& column_groups,
                                      const Maybe<float>& guide_rows, const Maybe<float>& guide_columns,
                                      const Maybe<float>& guide_bound, const std::string& reduce, std::size_t threads) {
  const Contrast pairs = contrast_pairs(rows, columns, row_scale, dims, reduce,
                                        {column_scale, hardness, row_bound, row_ids, column_ids, row_groups,
                                         column_groups, guide_rows, guide_columns, guide_bound});
  Floats out({pairs.p, pairs.n});
  float* to = out.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    contrast_forward(cpu::active_kernels(), pairs, to, threads);
  }
  return out;
}

inline py::tuple contrast_backward_arrays(const Floats& rows, const Floats& columns, const Floats& row_scale,
                                          const Maybe<float>& column_scale, const Array<std::uint32_t>& dims,
                                          const Maybe<float>& hardness, const Maybe<float>& row_bound,
                                          const Maybe<std::int32_t>& row_ids, const Maybe<std::int32_t>& column_ids,
                                          const Maybe<std::int32_t>& row_groups,
                                          const Maybe<std::int32_t>& column_groups, const Maybe<float>& guide_rows,
                                          const Maybe<float>& guide_columns, const Maybe<float>& guide_bound,
                                          const std::string& reduce, std::size_t threads, const Floats& out,
                                          const Floats& out_gradient) {
  const Contrast pairs = contrast_pairs(rows, columns, row_scale, dims, reduce,
                                        {column_scale, hardness, row_bound, row_ids, column_ids, row_groups,
                                         column_groups, guide_rows, guide_columns, guide_bound});
  check_optional<float>(out, "out", {pairs.p, pairs.n});
  check_optional<float>(out_gradient, "out_gradient", {pairs.p, pairs.n});
  Floats row_gradient({pairs.n, pairs.d}), column_gradient({pairs.c, pairs.d}), row_scales({pairs.p, pairs.n});
  std::optional<Floats> column_scales;
  if (column_scale) column_scales = Floats({pairs.p, pairs.c});
  const ContrastBackward job{pairs,
                             out.data(),
                             out_gradient.data(),
                             row_gradient.mutable_data(),
                             column_gradient.mutable_data(),
                             row_scales.mutable_data(),
                             column_scales ? column_scales->mutable_data() : nullptr,
                             nullptr,
                             nullptr};
  {
    const py::gil_scoped_release unlocked;
    contrast_backward(cpu::active_kernels(), job, threads);
  }
  return py::make_tuple(row_gradient, column_gradient, row_scales, column_scales);
}

template <typename Function, typename... More>
void define_contrast(py::module_& m, const char* name, Function function, const char* text, const More&... more) {
  const auto absent = py::none();
  m.def(name, function, py::arg("rows").noconvert(), py::arg("columns").noconvert(), py::arg("row_scale").noconvert(),
        py::arg("column_scale").noconvert() = absent, py::kw_only(), py::arg("dims").noconvert(),
        py::arg("hardness").noconvert() = absent, py::arg("row_bound").noconvert() = absent,
        py::arg("row_ids").noconvert() = absent, py::arg("column_ids").noconvert() = absent,
        py::arg("row_groups").noconvert() = absent, py::arg("column_groups").noconvert() = absent,
        py::arg("guide_rows").noconvert() = absent, py::arg("guide_columns").noconvert() = absent,
        py::arg("guide_bound").noconvert() = absent, py::arg("reduce"), py::arg("threads"), more..., text);
}

inline void register_contrast(py::module_& m) {
  define_contrast(m, "contrast_forward", &contrast_forward_arrays,
                  "Log-sum-exp, or sum of softplus, of the logits that count: (p, n).");
  define_contrast(m, "contrast_backward", &contrast_backward_arrays,
                  "Gradients of rows (n, d), columns (c, d), row_scale (p, n) and column_scale (p, c) or None.",
                  py::arg("out").noconvert(), py::arg("out_gradient").noconvert());
}

}  // namespace tessella::bind

// The maxsim family for Python: check, view, release the GIL, call.
#pragma once

#include <pybind11/stl.h>

#include <optional>

#include "bind/tiles.h"
#include "common/buffer.h"

namespace tessella::bind {

using Numbers = Array<std::int64_t>;

constexpr std::size_t kLeastDocuments = 16, kMostDocuments = 128;  // of a task, for which the query is packed anew

struct TokenLayout {
  TokenType type;
  char kind;  // of the NumPy type
  py::ssize_t bytes;
};

inline TokenLayout token_layout(const std::string& name) {
  if (name == "f32") return {TokenType::kF32, 'f', 4};
  if (name == "f16") return {TokenType::kF16, 'f', 2};
  if (name == "bf16") return {TokenType::kBF16, 'u', 2};
  if (name == "i8") return {TokenType::kI8, 'i', 1};
  require(name == "n4", "maxsim", "tokens of type f32, f16, bf16, i8 or n4", "'" + name + "'");
  return {TokenType::kN4, 'u', 1};
}

inline const void* matrix_of(const py::array& x, char kind, py::ssize_t bytes, std::size_t columns, const char* name) {
  const bool fits = x.ndim() == 2 && static_cast<std::size_t>(x.shape(1)) == columns;
  require(fits, "maxsim", std::string(name) + " of shape (n, " + std::to_string(columns) + ")", shape_of(x));
  const bool readable = x.dtype().kind() == kind && x.itemsize() == bytes && (x.flags() & py::array::c_style) != 0;
  require(readable, "maxsim", std::string(name) + " of the stored type, C-contiguous", py::str(x.dtype()));
  return x.data();
}

inline const float* scales_of(const std::optional<Floats>& scales, std::size_t count, const char* name) {
  if (!scales) return nullptr;
  require(scales->ndim() == 1 && rows_of(*scales) == count, "maxsim",
          std::string(name) + " of shape (" + std::to_string(count) + ",)", shape_of(*scales));
  return scales->data();
}

inline const std::int64_t* numbers_of(const Numbers& x, const char* name) {
  require(x.ndim() == 1, "maxsim", std::string(name) + " of shape (n,)", shape_of(x));
  return x.data();
}

// Documents that are asked for lie within the tokens.
inline void check_documents(const Maxsim& job, std::size_t documents, std::size_t tokens) {
  const std::size_t asked = job.which == nullptr ? job.count : job.nq * job.count;
  for (std::size_t i = 0; i < asked; ++i) {
    const std::int64_t number = job.which == nullptr ? static_cast<std::int64_t>(i) : job.which[i];
    if (number == -1) continue;
    require(number >= 0 && static_cast<std::size_t>(number) < documents, "maxsim",
            "documents below " + std::to_string(documents) + ", or -1", std::to_string(number));
    const std::int64_t begin = job.begins[number], end = job.ends[number];
    if (end <= begin) continue;
    require(begin >= 0 && static_cast<std::size_t>(end) <= tokens, "maxsim",
            "tokens of document " + std::to_string(number) + " within the " + std::to_string(tokens) + " there are",
            std::to_string(begin) + " to " + std::to_string(end));
  }
}

inline std::size_t check_queries(const Numbers& offsets, std::size_t tokens) {
  const std::int64_t* at = numbers_of(offsets, "query_offsets");
  bool rises = rows_of(offsets) >= 1 && at[0] == 0 && at[rows_of(offsets) - 1] == static_cast<std::int64_t>(tokens);
  std::int64_t most = 0;
  for (std::size_t i = 0; rises && i + 1 < rows_of(offsets); ++i) {
    rises = at[i] <= at[i + 1];
    most = std::max(most, at[i + 1] - at[i]);
  }
  require(rises, "maxsim", "query_offsets that rise from 0 to " + std::to_string(tokens), shape_of(offsets));
  return static_cast<std::size_t>(most);
}

// Some documents at a time, for every query while they are in cache; under `which` every query has its own.
inline void score_all(const Maxsim& job, std::size_t most_tokens, std::size_t threads) {
  const Kernels& kernels = cpu::active_kernels();
  const std::size_t share = (job.count + 4 * threads - 1) / (4 * threads);
  const std::size_t step = std::clamp(share, kLeastDocuments, kMostDocuments);
  const std::size_t parts = (job.count + step - 1) / step;
  const bool own = job.which != nullptr;
  parallel_for(own ? job.nq * parts : parts, threads, [&](std::size_t task) {
    AlignedBuffer scratch(kernels.maxsim_scratch(most_tokens, job.d, job.type));
    const std::size_t first = (own ? task % parts : task) * step, count = std::min(step, job.count - first);
    for (std::size_t q = own ? task / parts : 0; q < (own ? task / parts + 1 : job.nq); ++q) {
      Maxsim part = job;
      part.query_offsets += q;
      part.nq = 1;
      part.count = count;
      part.scores += q * job.count + first;
      part.scratch = scratch.data();
      if (own) {
        part.which += q * job.count + first;
      } else {
        part.begins += first;
        part.ends += first;
      }
      kernels.maxsim_score(part);
    }
  });
}

inline Floats maxsim_score(const py::array& queries, const std::optional<Floats>& query_scales,
                           const Numbers& query_offsets, const py::array& tokens, const std::string& type,
                           const std::optional<Floats>& scales, const Numbers& begins, const Numbers& ends,
                           const std::optional<Numbers>& which, std::size_t threads) {
  const TokenLayout layout = token_layout(type);
  const bool whole = is_whole(layout.type);
  require(queries.ndim() == 2 && queries.shape(1) > 0, "maxsim", "queries of shape (Q, d)", shape_of(queries));
  const auto d = static_cast<std::size_t>(queries.shape(1));
  require(!whole || d <= kMostWholeDimensions, "maxsim", "at most 65536 dimensions", std::to_string(d));
  require(layout.type != TokenType::kN4 || d % 64 == 0, "maxsim", "d, a multiple of 64", std::to_string(d));
  const std::size_t most = check_queries(query_offsets, rows_of(queries)), documents = rows_of(begins);
  Maxsim job{};
  job.queries = matrix_of(queries, whole ? 'i' : 'f', whole ? 1 : 4, d, "queries");
  job.query_scales = scales_of(query_scales, rows_of(queries), "query_scales");
  job.query_offsets = query_offsets.data();
  job.nq = rows_of(query_offsets) - 1;
  job.type = layout.type;
  job.tokens = matrix_of(tokens, layout.kind, layout.bytes, layout.type == TokenType::kN4 ? d / 2 : d, "tokens");
  job.scales = scales_of(scales, rows_of(tokens), "scales");
  job.begins = numbers_of(begins, "begins");
  job.ends = numbers_of(ends, "ends");
  require(rows_of(ends) == documents, "maxsim", "as many ends as begins", shape_of(ends));
  job.d = d;
  job.count = documents;
  if (which) {
    require(which->ndim() == 2 && rows_of(*which) == job.nq, "maxsim", "which of shape (nq, count)", shape_of(*which));
    job.which = which->data();
    job.count = static_cast<std::size_t>(which->shape(1));
  }
  check_documents(job, documents, rows_of(tokens));
  Floats scores({job.nq, job.count});
  job.scores = scores.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    score_all(job, most, threads);
  }
  return scores;
}

inline void register_maxsim(py::module_& m) {
  m.def("maxsim_score", &maxsim_score, py::arg("queries").noconvert(), py::arg("query_scales").noconvert(),
        py::arg("query_offsets").noconvert(), py::arg("tokens").noconvert(), py::arg("type"),
        py::arg("scales").noconvert(), py::arg("begins").noconvert(), py::arg("ends").noconvert(),
        py::arg("which").noconvert(), py::kw_only(), py::arg("threads"),
        "MaxSim (nq, count) of queries (Q, d) and documents of tokens (T, d): all, or of each query those in `which`.");
}

}  // namespace tessella::bind

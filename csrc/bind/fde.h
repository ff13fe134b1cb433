// Fixed-dimensional encodings for Python.
#pragma once

#include <pybind11/stl.h>

#include <optional>
#include <variant>
#include <vector>

#include "bind/tiles.h"
#include "common/buffer.h"
#include "tessella/fde.h"

namespace tessella::bind {

using Halves = Array<std::uint16_t>;
using Offsets = Array<std::int64_t>;
using Tokens = std::variant<Floats, Halves>;

// Tokens of a task: enough for the packing of the matrices to be small beside the work.
constexpr std::size_t kFdeTaskTokens = 4096;
constexpr std::size_t kFdeTaskDocuments = 256;

// Any exponent of all ones, or none. Integers, so that the compiler makes vectors of it.
inline bool all_finite(const void* tokens, ScalarType type, std::size_t count) {
  if (type == ScalarType::kF32) {
    const auto* words = static_cast<const std::uint32_t*>(tokens);
    std::uint32_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) wrong |= (words[i] & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    return wrong == 0;
  }
  const auto* halves = static_cast<const std::uint16_t*>(tokens);
  const std::uint16_t exponent = type == ScalarType::kF16 ? 0x7c00 : 0x7f80;
  std::uint16_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    wrong = static_cast<std::uint16_t>(wrong | ((halves[i] & exponent) == exponent ? 1 : 0));
  }
  return wrong == 0;
}

inline ScalarType type_of_tokens(const std::string& kind, const Tokens& tokens) {
  const bool floats = std::holds_alternative<Floats>(tokens);
  require(kind == "f32" || kind == "f16" || kind == "bf16", "fde_encode", "kind f32, f16 or bf16", kind);
  require(floats == (kind == "f32"), "fde_encode", "tokens of that kind", floats ? "float32" : "uint16");
  return floats ? ScalarType::kF32 : kind == "f16" ? ScalarType::kF16 : ScalarType::kBF16;
}

inline FdeFill parse_fill(const std::string& fill) {
  if (fill == "none") return FdeFill::kNone;
  if (fill == "nearest") return FdeFill::kNearest;
  require(fill == "decay", "fde_encode", "fill 'none', 'nearest' or 'decay'", "'" + fill + "'");
  return FdeFill::kDecay;
}

inline void check_sketch(const Array<std::uint32_t>& index, const Floats& signs, std::size_t count, std::size_t size,
                         const char* name) {
  const bool fits = static_cast<std::size_t>(index.size()) == count && static_cast<std::size_t>(signs.size()) == count;
  require(fits, "fde", std::string(name) + " of " + std::to_string(count) + " places and signs",
          shape_of(index) + " and " + shape_of(signs));
  const auto* largest = std::max_element(index.data(), index.data() + count);
  require(count == 0 || *largest < size, "fde", std::string(name) + " of places below " + std::to_string(size),
          count == 0 ? "" : std::to_string(*largest));
}

// The matrices of an encoding, checked once.
class FdeMatrices {
 public:
  using Places = std::optional<Array<std::uint32_t>>;

  FdeMatrices(const Floats& hyperplanes, std::size_t p, const std::optional<Floats>& matrix, const Places& index,
              const std::optional<Floats>& signs, std::size_t final_dim, const Places& final_index,
              const std::optional<Floats>& final_signs)
      : hyperplanes_(hyperplanes),
        matrix_(matrix),
        index_(index),
        signs_(signs),
        final_index_(final_index),
        final_signs_(final_signs) {
    const bool shaped = hyperplanes.ndim() == 3 && hyperplanes.shape(0) > 0 && hyperplanes.shape(2) > 0;
    require(shaped, "fde", "hyperplanes of shape (r, k_sim, d)", shape_of(hyperplanes));
    job_.repetitions = static_cast<std::size_t>(hyperplanes.shape(0));
    job_.k_sim = static_cast<std::size_t>(hyperplanes.shape(1));
    job_.d = static_cast<std::size_t>(hyperplanes.shape(2));
    job_.hyperplanes = hyperplanes_.data();
    require(job_.k_sim <= kFdeMostBits, "fde", "at most 16 hyperplanes", std::to_string(job_.k_sim));
    set_projection(p);
    if (final_dim == 0) return;
    require(final_index && final_signs, "fde", "places and signs of the final sketch", "none");
    check_sketch(*final_index, *final_signs, fde_dim(job_.repetitions, job_.k_sim, p, 0), final_dim, "a final sketch");
    job_.final = {final_dim, final_index_->data(), final_signs_->data()};
  }

  // The job but for its documents.
  const FdeEncode& job() const { return job_; }

 private:
  void set_projection(std::size_t p) {
    const std::size_t r = job_.repetitions, d = job_.d;
    job_.projection = {p, nullptr, nullptr, nullptr};
    if (matrix_) {
      const bool fits = matrix_->ndim() == 3 && static_cast<std::size_t>(matrix_->size()) == r * p * d && p > 0;
      require(fits, "fde", "a matrix of shape (r, p, d)", shape_of(*matrix_));
      job_.projection.matrix = matrix_->data();
      return;
    }
    if (!index_) {
      require(p == d, "fde", "p = d without a projection", std::to_string(p));
      return;
    }
    require(signs_.has_value(), "fde", "signs with places", "none");
    check_sketch(*index_, *signs_, r * d, p, "a sketch");
    job_.projection.index = index_->data();
    job_.projection.signs = signs_->data();
  }

  Floats hyperplanes_;  // (r, k_sim, d)
  std::optional<Floats> matrix_;
  Places index_;
  std::optional<Floats> signs_;
  Places final_index_;
  std::optional<Floats> final_signs_;
  FdeEncode job_{};
};

// Where tasks begin, in documents; the last entry is n.
inline std::vector<std::size_t> fde_tasks(const std::int64_t* offsets, std::size_t n, std::size_t threads) {
  const auto share = static_cast<std::size_t>(offsets[n] - offsets[0]) / (4 * threads) + 1;
  const std::size_t most = std::clamp<std::size_t>(share, kFdeTaskTokens / 8, kFdeTaskTokens);
  std::vector<std::size_t> begins{0};
  for (std::size_t i = 1; i < n; ++i) {
    const auto tokens = static_cast<std::size_t>(offsets[i] - offsets[begins.back()]);
    if (tokens >= most || i - begins.back() >= kFdeTaskDocuments) begins.push_back(i);
  }
  begins.push_back(n);
  return begins;
}

inline void check_tokens(const FdeEncode& job, std::size_t first, std::size_t last) {
  const std::size_t row = job.d * scalar_bytes(job.type);
  const auto* tokens = static_cast<const char*>(job.tokens);
  const auto at = [&](std::size_t i) { return static_cast<std::size_t>(job.offsets[i]); };
  if (all_finite(tokens + at(first) * row, job.type, (at(last) - at(first)) * job.d)) return;
  for (std::size_t i = first; i < last; ++i) {
    for (std::size_t t = at(i); t < at(i + 1); ++t) {
      if (all_finite(tokens + t * row, job.type, job.d)) continue;
      throw Error(ErrorKind::kInvalidArgument, "encode: expected finite tokens; token " + std::to_string(t - at(i)) +
                                                   " of number " + std::to_string(i) + " has a NaN or an infinity");
    }
  }
}

inline void run_fde(const FdeEncode& whole, std::size_t threads) {
  const std::size_t dim = fde_dim(whole.repetitions, whole.k_sim, whole.projection.p, whole.final.dim);
  const std::vector<std::size_t> begins = fde_tasks(whole.offsets, whole.n, threads);
  const std::size_t tasks = begins.size() - 1;
  // All tokens before any result, so that bad ones leave the caller's array as it was.
  parallel_for(tasks, threads, [&](std::size_t i) { check_tokens(whole, begins[i], begins[i + 1]); });
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(tasks, threads, [&](std::size_t i) {
    FdeEncode job = whole;
    const auto token = static_cast<std::size_t>(whole.offsets[begins[i]]);
    job.tokens = static_cast<const char*>(whole.tokens) + token * whole.d * scalar_bytes(whole.type);
    job.offsets = whole.offsets + begins[i];
    job.n = begins[i + 1] - begins[i];
    job.out = static_cast<char*>(whole.out) + begins[i] * dim * scalar_bytes(whole.out_type);
    AlignedBuffer scratch(kernels.fde_encode_scratch(job));
    job.scratch = scratch.data();
    kernels.fde_encode(job);
  });
}

// The tokens of documents, checked, and where the results go.
inline void fde_encode(const Tokens& tokens, const std::string& kind, const Offsets& offsets, const FdeMatrices& given,
                       bool queries, const std::string& fill, Tokens& out, std::size_t threads) {
  FdeEncode job = given.job();
  job.type = type_of_tokens(kind, tokens);
  const auto rows = std::visit([](const auto& x) { return static_cast<const py::array&>(x); }, tokens);
  const bool fits = rows.ndim() == 2 && static_cast<std::size_t>(rows.shape(1)) == job.d;
  require(fits, "fde_encode", "tokens of shape (T, " + std::to_string(job.d) + ")", shape_of(rows));
  require(offsets.ndim() == 1 && offsets.shape(0) > 0, "fde_encode", "offsets of shape (n + 1,)", shape_of(offsets));
  job.n = rows_of(offsets) - 1;
  job.offsets = offsets.data();
  bool rises = job.offsets[0] == 0 && job.offsets[job.n] == static_cast<std::int64_t>(rows_of(rows));
  for (std::size_t i = 0; i < job.n; ++i) rises = rises && job.offsets[i] <= job.offsets[i + 1];
  require(rises, "fde_encode", "offsets that rise from 0 to the number of tokens", shape_of(offsets));
  job.tokens = rows.data();
  job.queries = queries;
  job.fill = parse_fill(fill);
  job.out_type = std::holds_alternative<Floats>(out) ? ScalarType::kF32 : ScalarType::kF16;
  auto results = std::visit([](auto& x) { return static_cast<py::array&>(x); }, out);
  const std::size_t dim = fde_dim(job.repetitions, job.k_sim, job.projection.p, job.final.dim);
  const bool holds = results.ndim() == 2 && rows_of(results) == job.n &&
                     static_cast<std::size_t>(results.shape(1)) == dim && results.writeable();
  require(holds, "fde_encode", "out of shape (" + std::to_string(job.n) + ", " + std::to_string(dim) + "), writeable",
          shape_of(results));
  job.out = results.mutable_data();
  const py::gil_scoped_release unlocked;
  if (job.n != 0) run_fde(job, threads);
}

inline void register_fde(py::module_& m) {
  py::class_<FdeMatrices>(m, "FdeMatrices", "The matrices of an encoding.")
      .def(py::init<const Floats&, std::size_t, const std::optional<Floats>&, const FdeMatrices::Places&,
                    const std::optional<Floats>&, std::size_t, const FdeMatrices::Places&,
                    const std::optional<Floats>&>(),
           py::arg("hyperplanes").noconvert(), py::kw_only(), py::arg("p"), py::arg("matrix").noconvert() = py::none(),
           py::arg("index").noconvert() = py::none(), py::arg("signs").noconvert() = py::none(),
           py::arg("final_dim") = 0, py::arg("final_index").noconvert() = py::none(),
           py::arg("final_signs").noconvert() = py::none());
  m.def("fde_encode", &fde_encode, py::arg("tokens").noconvert(), py::arg("kind"), py::arg("offsets").noconvert(),
        py::arg("matrices"), py::kw_only(), py::arg("queries"), py::arg("fill"), py::arg("out").noconvert(),
        py::arg("threads"),
        "Encodings of queries or documents, tokens (T, d) float32, float16 or bfloat16 (as uint16), into out (n, dim), "
        "float32 or float16 (as uint16).");
}

}  // namespace tessella::bind

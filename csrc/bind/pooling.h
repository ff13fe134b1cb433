// Pooling for Python: check, view, release the GIL, call.
#pragma once

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "bind/tiles.h"
#include "common/buffer.h"

namespace tessella::bind {

using Segments = Array<std::uint64_t>;

constexpr std::size_t kPoolStripe = 128;  // columns of a task of the gradient

inline PoolMode pool_mode(const std::string& name) {
  constexpr std::string_view kNames[] = {"mean", "mean_sqrt", "weighted_mean", "max", "cls", "last"};
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<PoolMode>(i);
  }
  throw Error(ErrorKind::kInvalidArgument,
              "pool: expected mode 'mean', 'cls', 'last', 'max', 'mean_sqrt' or 'weighted_mean'; got '" + name + "'");
}

inline PoolType pool_type(const std::string& name) {
  constexpr std::string_view kNames[] = {"float32", "float16", "int8", "binary"};
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<PoolType>(i);
  }
  throw Error(ErrorKind::kInvalidArgument,
              "pool: expected dtype 'float32', 'float16', 'int8' or 'binary'; got '" + name + "'");
}

// What forward and backward share; it owns the modes and views the arrays.
struct PoolCall {
  PoolInput input{};
  std::vector<PoolMode> modes;
  std::size_t tokens = 0;
};

inline void check_segments(const Segments& segments, std::size_t tokens) {
  require(segments.ndim() == 2 && segments.shape(1) == 3, "pool", "segments of shape (n, 3)", shape_of(segments));
  const std::uint64_t* at = segments.data();
  for (std::size_t i = 0; i < rows_of(segments); ++i, at += 3) {
    require(at[0] <= at[1] && at[1] <= at[2] && at[2] <= tokens, "pool",
            "segments first <= begin <= end <= " + std::to_string(tokens),
            std::to_string(at[0]) + ", " + std::to_string(at[1]) + ", " + std::to_string(at[2]) + " at segment " +
                std::to_string(i));
  }
}

inline void open_call(PoolCall& call, const py::array& hidden, const std::string& kind, const Segments& segments,
                      const std::optional<Bytes>& mask, const std::vector<std::string>& modes) {
  require(kind == "f32" || kind == "f16" || kind == "bf16", "pool", "kind 'f32', 'f16' or 'bf16'", "'" + kind + "'");
  const bool fits = hidden.ndim() == 2 && hidden.shape(1) > 0 && (hidden.flags() & py::array::c_style) != 0 &&
                    hidden.itemsize() == (kind == "f32" ? 4 : 2);
  require(fits, "pool", "hidden of shape (tokens, d), of its kind and without gaps", shape_of(hidden));
  call.tokens = rows_of(hidden);
  check_segments(segments, call.tokens);
  require(!mask || (mask->ndim() == 1 && rows_of(*mask) == call.tokens), "pool",
          "mask of shape (" + std::to_string(call.tokens) + ",)", mask ? shape_of(*mask) : "none");
  require(!modes.empty() && modes.size() <= kMaxPoolModes, "pool", "1 to 6 modes", std::to_string(modes.size()));
  for (const std::string& mode : modes) call.modes.push_back(pool_mode(mode));
  static_assert(sizeof(PoolSegment) == 3 * sizeof(std::uint64_t));
  call.input = {hidden.data(),
                kind == "f32"   ? ScalarType::kF32
                : kind == "f16" ? ScalarType::kF16
                                : ScalarType::kBF16,
                static_cast<std::size_t>(hidden.shape(1)),
                mask ? mask->data() : nullptr,
                reinterpret_cast<const PoolSegment*>(segments.data()),
                rows_of(segments),
                call.modes.data(),
                call.modes.size()};
}

inline py::array pool_result(PoolType type, std::size_t n, std::size_t width) {
  switch (type) {
    case PoolType::kF16: return py::array(py::dtype("float16"), {n, width});
    case PoolType::kS8: return Array<std::int8_t>({n, width});
    case PoolType::kBits: return Bytes({n, pool_row_bytes(type, width)});
    default: return Floats({n, width});
  }
}

inline void check_dense(const Pool& job, const std::optional<Floats>& weight, const std::optional<Floats>& bias) {
  const std::size_t inputs = job.input.m * job.input.d;
  if (weight) check_shape(*weight, inputs, "pool", "dense weight");
  const std::size_t most = weight ? rows_of(*weight) : job.input.d;
  require(job.dim >= 1 && job.dim <= most, "pool", "dim from 1 to " + std::to_string(most), std::to_string(job.dim));
  require(!bias || (weight && bias->ndim() == 1 && rows_of(*bias) == rows_of(*weight)), "pool",
          "dense bias of shape (" + std::to_string(most) + ",) with a weight", bias ? shape_of(*bias) : "none");
}

inline py::array pooling_forward_arrays(const py::array& hidden, const std::string& kind, const Segments& segments,
                                        const std::optional<Bytes>& mask, const std::vector<std::string>& modes,
                                        const std::optional<Floats>& weight, const std::optional<Floats>& bias,
                                        std::size_t dim, bool normalize, const std::string& dtype, const Floats& scale,
                                        std::size_t threads) {
  PoolCall call;
  open_call(call, hidden, kind, segments, mask, modes);
  Pool job{call.input,
           weight ? weight->data() : nullptr,
           bias ? bias->data() : nullptr,
           dim,
           normalize,
           pool_type(dtype),
           nullptr,
           nullptr,
           nullptr,
           nullptr};
  check_dense(job, weight, bias);
  const std::size_t width = weight ? dim : call.input.m * dim;
  if (job.out_type == PoolType::kS8) {
    require(scale.ndim() == 1 && rows_of(scale) == width, "pool", "scale of shape (" + std::to_string(width) + ",)",
            shape_of(scale));
    job.scale = scale.data();
  }
  py::array out = pool_result(job.out_type, call.input.n, width);
  auto* to = static_cast<std::uint8_t*>(out.mutable_data());
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    parallel_for((call.input.n + kPoolGroup - 1) / kPoolGroup, threads, [&](std::size_t task) {
      Pool part = job;
      const std::size_t first = task * kPoolGroup;
      part.input.segments += first;
      part.input.n = std::min(kPoolGroup, call.input.n - first);
      part.out = to + first * pool_row_bytes(job.out_type, width);
      AlignedBuffer scratch(kernels.pooling_scratch(part));
      part.scratch = scratch.data();
      kernels.pooling_forward(part);
    });
  }
  return out;
}

inline Floats pooling_backward_arrays(const py::array& hidden, const std::string& kind, const Segments& segments,
                                      const std::optional<Bytes>& mask, const std::vector<std::string>& modes,
                                      const Floats& pooled_gradient, std::size_t threads) {
  PoolCall call;
  open_call(call, hidden, kind, segments, mask, modes);
  const std::size_t d = call.input.d;
  check_shape(pooled_gradient, call.input.m * d, "pool", "pooled_gradient");
  require(rows_of(pooled_gradient) == call.input.n, "pool",
          "pooled_gradient of " + std::to_string(call.input.n) + " rows", shape_of(pooled_gradient));
  Floats gradient({call.tokens, d});
  PoolGradient job{call.input, pooled_gradient.data(), gradient.mutable_data(), 0, d, false, nullptr};
  {
    const py::gil_scoped_release unlocked;
    std::memset(job.hidden_gradient, 0, call.tokens * d * sizeof(float));
    parallel_for((d + kPoolStripe - 1) / kPoolStripe, threads, [&](std::size_t task) {
      PoolGradient part = job;
      part.first_column = task * kPoolStripe;
      part.columns = std::min(kPoolStripe, d - part.first_column);
      cpu::active_kernels().pooling_backward(part);
    });
  }
  return gradient;
}

inline void register_pooling(py::module_& m) {
  m.def("pooling_forward", &pooling_forward_arrays, py::arg("hidden").noconvert(), py::kw_only(), py::arg("kind"),
        py::arg("segments").noconvert(), py::arg("mask").noconvert() = py::none(), py::arg("modes"),
        py::arg("weight").noconvert() = py::none(), py::arg("bias").noconvert() = py::none(), py::arg("dim"),
        py::arg("normalize"), py::arg("dtype"), py::arg("scale").noconvert(), py::arg("threads"),
        "States (tokens, d) and segments (n, 3) -> (n, width) of the dtype; binary: (n, ceil(width / 8)) bytes.");
  m.def("pooling_backward", &pooling_backward_arrays, py::arg("hidden").noconvert(), py::kw_only(), py::arg("kind"),
        py::arg("segments").noconvert(), py::arg("mask").noconvert() = py::none(), py::arg("modes"),
        py::arg("pooled_gradient").noconvert(), py::arg("threads"),
        "Gradient of the states (tokens, d), given that of the pooled numbers (n, modes * d).");
}

}  // namespace tessella::bind

// Encodings of token sets on every level against the scalar one, on buffers without spare room: bit for bit.
#include <vector>

#include "check.h"
#include "common/convert.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

const std::int64_t kOffsets[] = {0, 3, 3, 20, 21, 61};
constexpr std::size_t kDocuments = 5, kTokens = 61, kRepetitions = 3;

struct Shape { std::size_t d, k_sim, p; };
const Shape kShapes[] = {{1, 1, 1}, {7, 3, 5}, {31, 0, 8}, {33, 2, 16}, {64, 5, 3}, {127, 4, 32}};

enum class Projection { kNone, kSketch, kDense };

// Everything that one shape needs, and the job but for its output.
struct Inputs {
  Tight<float> tokens, planes, matrix, signs;
  Tight<std::uint16_t> halves;
  Tight<std::uint32_t> index;
  FdeEncode job{};

  Inputs(const Shape& shape, Projection projection, ScalarType type)
      : tokens(data::normal(kTokens * shape.d, 1)),
        planes(data::normal(kRepetitions * shape.k_sim * shape.d, 2)),
        matrix(data::normal(kRepetitions * shape.p * shape.d, 3)),
        signs(kRepetitions * shape.d),
        halves(kTokens * shape.d),
        index(kRepetitions * shape.d) {
    for (std::size_t i = 0; i < halves.size(); ++i) {
      halves[i] = type == ScalarType::kF16 ? f32_to_f16(tokens[i]) : f32_to_bf16(tokens[i]);
    }
    for (std::size_t i = 0; i < index.size(); ++i) {
      index[i] = static_cast<std::uint32_t>(i * 7 % shape.p);
      signs[i] = i % 3 == 0 ? -1.0f : 1.0f;
    }
    job.tokens = type == ScalarType::kF32 ? static_cast<const void*>(tokens.get()) : halves.get();
    job.type = type;
    job.offsets = kOffsets;
    job.n = kDocuments;
    job.d = shape.d;
    job.repetitions = kRepetitions;
    job.k_sim = shape.k_sim;
    job.hyperplanes = planes.get();
    job.projection.p = projection == Projection::kNone ? shape.d : shape.p;
    if (projection == Projection::kDense) job.projection.matrix = matrix.get();
    if (projection == Projection::kSketch) job.projection.index = index.get();
    if (projection == Projection::kSketch) job.projection.signs = signs.get();
  }
};

template <typename T>
Tight<T> encoded(const Kernels& kernels, FdeEncode job) {
  Tight<T> out(kDocuments * fde_dim(job.repetitions, job.k_sim, job.projection.p, job.final.dim));
  job.out_type = sizeof(T) == 4 ? ScalarType::kF32 : ScalarType::kF16;
  job.out = out.get();
  AlignedBuffer scratch(kernels.fde_encode_scratch(job));
  job.scratch = scratch.data();
  kernels.fde_encode(job);
  return out;
}

}  // namespace

TEST(fde_encodings_agree_with_scalar) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    for (const Shape& shape : kShapes) {
      for (const Projection projection : {Projection::kNone, Projection::kSketch, Projection::kDense}) {
        for (const ScalarType type : {ScalarType::kF32, ScalarType::kF16, ScalarType::kBF16}) {
          Inputs inputs(shape, projection, type);
          for (const FdeFill fill : {FdeFill::kNone, FdeFill::kNearest, FdeFill::kDecay}) {
            inputs.job.fill = fill;
            CHECK(encoded<float>(level, inputs.job) == encoded<float>(scalar, inputs.job));
          }
          inputs.job.queries = true;
          CHECK(encoded<std::uint16_t>(level, inputs.job) == encoded<std::uint16_t>(scalar, inputs.job));
        }
      }
    }
  });
}

TEST(fde_final_sketch_agrees_with_scalar) {
  data::for_levels([](const Kernels& level, const Kernels& scalar) {
    Inputs inputs({33, 2, 16}, Projection::kSketch, ScalarType::kF32);
    const std::size_t whole = fde_dim(kRepetitions, 2, 16, 0);
    Tight<std::uint32_t> index(whole);
    Tight<float> signs(whole);
    for (std::size_t i = 0; i < whole; ++i) {
      index[i] = static_cast<std::uint32_t>(i * 5 % 37);
      signs[i] = i % 2 == 0 ? 1.0f : -1.0f;
    }
    inputs.job.final = {37, index.get(), signs.get()};
    inputs.job.fill = FdeFill::kNearest;
    CHECK(encoded<float>(level, inputs.job) == encoded<float>(scalar, inputs.job));
    CHECK(encoded<std::uint16_t>(level, inputs.job) == encoded<std::uint16_t>(scalar, inputs.job));
  });
}

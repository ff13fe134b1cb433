// Contrastive sums and their gradients on every level against the scalar one, on buffers without spare room.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

struct Shape { std::size_t n, c, d; };
const Shape kShapes[] = {{1, 1, 1}, {7, 33, 31}, {15, 129, 24}, {70, 5, 65}, {230, 140, 40}};
constexpr std::size_t kIds = 2, kGuide = 5;

// Everything a job reads, with every rule, for prefixes of a third of the dimensions, and of all.
struct Inputs {
  Shape shape;
  std::size_t p;
  Tight<float> rows, columns, row_scale, column_scale, hardness, row_bound, guide_rows, guide_columns, guide_bound;
  Tight<std::int32_t> row_ids, column_ids, row_groups, column_groups;
  Tight<std::uint32_t> prefixes;
  Contrast pairs{};

  explicit Inputs(const Shape& s)
      : shape(s),
        p(s.d > 2 ? 2 : 1),
        rows(data::normal(s.n * s.d, 1)),
        columns(data::normal(s.c * s.d, 2)),
        row_scale(p * s.n),
        column_scale(p * s.c),
        hardness(s.n),
        row_bound(p * s.n),
        guide_rows(data::normal(s.n * kGuide, 3)),
        guide_columns(data::normal(s.c * kGuide, 4)),
        guide_bound(s.n),
        row_ids(kIds * s.n),
        column_ids(kIds * s.c),
        row_groups(s.n),
        column_groups(s.c),
        prefixes(p) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.d));
    for (std::size_t i = 0; i < p * s.n; ++i) row_scale[i] = scale * (1.0f + 0.1f * static_cast<float>(i % 3));
    for (std::size_t i = 0; i < p * s.c; ++i) column_scale[i] = 1.0f + 0.1f * static_cast<float>(i % 4);
    for (std::size_t i = 0; i < p * s.n; ++i) row_bound[i] = 1.5f;
    for (std::size_t i = 0; i < s.n; ++i) hardness[i] = 0.25f, guide_bound[i] = 3.0f;
    for (std::size_t i = 0; i < kIds * s.n; ++i) row_ids[i] = static_cast<std::int32_t>(i % 7) - 1;
    for (std::size_t i = 0; i < kIds * s.c; ++i) column_ids[i] = static_cast<std::int32_t>(i % 11) - 1;
    for (std::size_t i = 0; i < s.n; ++i) row_groups[i] = static_cast<std::int32_t>(i % 2);
    for (std::size_t i = 0; i < s.c; ++i) column_groups[i] = static_cast<std::int32_t>(i % 2);
    for (std::size_t i = 0; i < p; ++i) prefixes[i] = static_cast<std::uint32_t>(i + 1 == p ? s.d : s.d / 3 + 1);
    pairs.rows = rows.get(), pairs.n = s.n, pairs.columns = columns.get(), pairs.c = s.c, pairs.d = s.d;
    pairs.prefixes = prefixes.get(), pairs.p = p;
    pairs.row_scale = row_scale.get(), pairs.row_stride = s.n, pairs.column_stride = s.c;
  }

  void add_rules() {
    pairs.column_scale = column_scale.get();
    pairs.hardness = hardness.get(), pairs.row_bound = row_bound.get();
    pairs.row_ids = row_ids.get(), pairs.column_ids = column_ids.get(), pairs.k_ids = kIds;
    pairs.row_groups = row_groups.get(), pairs.column_groups = column_groups.get();
    pairs.guide_rows = guide_rows.get(), pairs.guide_columns = guide_columns.get();
    pairs.guide_d = kGuide, pairs.guide_bound = guide_bound.get();
  }
};

Tight<float> summed(const Kernels& kernels, const Inputs& inputs) {
  Tight<float> out(inputs.p * inputs.shape.n);
  AlignedBuffer scratch(kernels.contrast_forward_scratch(inputs.pairs));
  kernels.contrast_forward({inputs.pairs, out.get(), scratch.data(), nullptr});
  return out;
}

// All four gradients, one behind the other; those of scales that are not given are not there.
std::vector<Tight<float>> gradients(const Kernels& kernels, const Inputs& inputs, const Tight<float>& out,
                                    const Tight<float>& out_gradient) {
  const auto [n, c, d] = inputs.shape;
  std::vector<Tight<float>> made;
  for (const std::size_t count : {n * d, c * d, inputs.p * n, inputs.p * c}) made.emplace_back(count);
  const bool scaled = inputs.pairs.column_scale != nullptr;
  AlignedBuffer scratch(kernels.contrast_backward_scratch(inputs.pairs));
  kernels.contrast_backward({inputs.pairs, out.get(), out_gradient.get(), made[0].get(), made[1].get(), made[2].get(),
                             scaled ? made[3].get() : nullptr, scratch.data(), nullptr});
  return made;
}

void check_agreement(const Kernels& level, const Kernels& scalar, const Inputs& inputs) {
  const auto a = summed(level, inputs), b = summed(scalar, inputs);
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i] == b[i] || data::close(a[i], b[i], 16.0f + std::fabs(b[i])));
  }
  const auto given = data::normal(a.size(), 9);
  const auto x = gradients(level, inputs, b, given), y = gradients(scalar, inputs, b, given);
  for (std::size_t which = 0; which < x.size(); ++which) {
    float largest = 1.0f;
    for (std::size_t i = 0; i < y[which].size(); ++i) largest = std::max(largest, std::fabs(y[which][i]));
    for (std::size_t i = 0; i < x[which].size(); ++i) CHECK(data::close(x[which][i], y[which][i], 8.0f * largest));
  }
}

}  // namespace

TEST(contrast_agrees_with_scalar) {
  const std::string before = cpu::active_kernels().level;
  for (const std::string& name : cpu::available_levels()) {
    for (const Shape& shape : kShapes) {
      for (const ContrastSum sum : {ContrastSum::kLogSumExp, ContrastSum::kSoftplus}) {
        Inputs inputs(shape);
        inputs.pairs.sum = sum;
        check_agreement(data::level(name), data::level("scalar"), inputs);
        inputs.add_rules();
        check_agreement(data::level(name), data::level("scalar"), inputs);
      }
    }
  }
  cpu::pin_level(before);
}

// Which neighbours a vertex keeps: near ones that lie in different directions (Subramanya et al., DiskANN, 2019).
#pragma once

#include <algorithm>
#include <vector>

#include "tessella/kernels.h"

namespace tessella {

// A row that may become a neighbour: its squared distance from the vertex, and its values.
struct Neighbour {
  float distance;
  std::uint32_t row;
  const float* values;
};

// Cuts `candidates` (nearest first, no row twice) to `degree`, in the order in which they are wanted. A candidate c is
// covered by a chosen neighbour s to the degree |v - c|^2 / |s - c|^2; rounds allow more and more of it, and each takes
// what it can, nearest first. Returns how many the first kWantedRounds took; the others are padding.
constexpr int kWantedRounds = 3;  // cover of up to 1, 1.1 and 1.21
std::size_t prune(const Kernels& kernels, std::size_t dim, std::uint32_t vertex, std::vector<Neighbour>& candidates,
                  std::size_t degree);

// Neighbours from row numbers, nearest first; values_of(row, out) fills `memory`, which they point into.
template <typename ValuesOf>
std::vector<Neighbour> neighbours_of(const float* own, const std::vector<std::uint32_t>& rows,
                                     const ValuesOf& values_of, const Kernels& kernels, std::size_t dim,
                                     std::vector<float>& memory) {
  memory.resize(rows.size() * dim);
  for (std::size_t i = 0; i < rows.size(); ++i) values_of(rows[i], memory.data() + i * dim);
  std::vector<float> similarities(rows.size());
  kernels.exact_score(
      {own, memory.data(), ScalarType::kF32, dim, Metric::kL2, nullptr, rows.size(), similarities.data(), nullptr});
  std::vector<Neighbour> neighbours(rows.size());
  // max: damaged codes may give what is no number, and nothing can be sorted by that
  for (std::size_t i = 0; i < rows.size(); ++i) {
    neighbours[i] = {std::max(0.0f, -similarities[i]), rows[i], memory.data() + i * dim};
  }
  std::sort(neighbours.begin(), neighbours.end(), [](const Neighbour& a, const Neighbour& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
  });
  return neighbours;
}

}  // namespace tessella

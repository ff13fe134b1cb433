// Which neighbours a vertex keeps: near ones that lie in different directions (Subramanya et al., DiskANN, 2019).
#pragma once

#include <algorithm>
#include <vector>

#include "index/distances.h"

namespace tessella {

// Cuts `candidates` (nearest first, no row twice) to `degree`, in the order in which they are wanted. A candidate c is
// covered by a chosen neighbour s to the degree |v - c|^2 / |s - c|^2; rounds allow more and more of it, and each takes
// what it can, nearest first. Returns how many the first kWantedRounds took; the others are padding.
constexpr int kWantedRounds = 3;  // cover of up to 1, 1.1 and 1.21
std::size_t prune(const Distances& distances, std::uint32_t vertex, std::vector<Neighbour>& candidates,
                  std::size_t degree);

// Neighbours from row numbers, nearest first; values_of(row, out) fills `memory`, (rows, padded), which they point
// into.
template <typename ValuesOf>
std::vector<Neighbour> neighbours_of(const float* own, const std::vector<std::uint32_t>& rows,
                                     const ValuesOf& values_of, const ValueDistances& distances, std::size_t padded,
                                     std::vector<float>& memory) {
  memory.resize(rows.size() * padded);
  std::vector<Neighbour> neighbours(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    values_of(rows[i], memory.data() + i * padded);
    neighbours[i] = {0.0f, rows[i], memory.data() + i * padded};
  }
  std::vector<float> apart(rows.size());
  distances.between({0.0f, 0, own}, neighbours.data(), rows.size(), apart.data());
  for (std::size_t i = 0; i < rows.size(); ++i) neighbours[i].distance = apart[i];
  std::sort(neighbours.begin(), neighbours.end(), [](const Neighbour& a, const Neighbour& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.row < b.row;
  });
  return neighbours;
}

}  // namespace tessella

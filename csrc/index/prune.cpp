#include "index/prune.h"

#include <algorithm>
#include <limits>

namespace tessella {

namespace {

constexpr float kStep = 1.1f;       // from round to round
constexpr float kCopyCover = 1.2f;  // of a vertex's copy by another: the last wanted round takes it
constexpr float kMostCover = 4.0f;  // beyond it, only nearness counts
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What is known of the candidates that are left.
struct Covers {
  const Kernels& kernels;
  std::size_t dim;
  const std::vector<Neighbour>& candidates;
  std::vector<float> cover = std::vector<float>(candidates.size(), 0.0f);
  std::vector<char> taken = std::vector<char>(candidates.size(), 0);
  std::vector<const void*> at{};
  std::vector<std::size_t> which{};
  std::vector<float> distances{};

  void take(std::size_t chosen) {
    taken[chosen] = 1;
    at.clear();
    which.clear();
    for (std::size_t i = chosen + 1; i < candidates.size(); ++i) {
      if (taken[i] || cover[i] > kMostCover) continue;
      at.push_back(candidates[i].values);
      which.push_back(i);
    }
    distances.resize(at.size());
    kernels.exact_score({candidates[chosen].values, nullptr, ScalarType::kF32, dim, Metric::kL2, nullptr, at.size(),
                         distances.data(), at.data()});
    for (std::size_t i = 0; i < at.size(); ++i) {
      const float between = -distances[i];
      const float to_vertex = candidates[which[i]].distance;
      const float by = between > 0.0f ? to_vertex / between : to_vertex > 0.0f ? kInfinity : kCopyCover;
      cover[which[i]] = std::max(cover[which[i]], by);
    }
  }
};

// Among copies of a row each prefers those with numbers next to its own: were it the lowest numbers, nobody would link
// to the others.
void spread_ties(std::uint32_t vertex, std::vector<Neighbour>& candidates) {
  const auto apart = [vertex](const Neighbour& c) { return c.row > vertex ? c.row - vertex : vertex - c.row; };
  for (auto first = candidates.begin(); first != candidates.end();) {
    const auto last =
        std::find_if(first, candidates.end(), [&](const Neighbour& c) { return c.distance != first->distance; });
    std::sort(first, last, [&](const Neighbour& a, const Neighbour& b) {
      return apart(a) != apart(b) ? apart(a) < apart(b) : a.row < b.row;
    });
    first = last == first ? std::next(first) : last;  // a distance that is no number differs from itself
  }
}

}  // namespace

std::size_t prune(const Kernels& kernels, std::size_t dim, std::uint32_t vertex, std::vector<Neighbour>& candidates,
                  std::size_t degree) {
  spread_ties(vertex, candidates);
  Covers covers{kernels, dim, candidates};
  std::vector<Neighbour> chosen;
  chosen.reserve(degree);
  std::size_t wanted = 0;
  const std::size_t most = std::min(degree, candidates.size());
  float allowed = 1.0f;
  for (int round = 0; chosen.size() < most; ++round, allowed *= kStep) {
    if (allowed > kMostCover) allowed = kInfinity;
    for (std::size_t i = 0; i < candidates.size() && chosen.size() < most; ++i) {
      if (covers.taken[i] || covers.cover[i] > allowed) continue;
      chosen.push_back(candidates[i]);
      covers.take(i);
    }
    if (round < kWantedRounds) wanted = chosen.size();
  }
  candidates = std::move(chosen);
  return wanted;
}

}  // namespace tessella

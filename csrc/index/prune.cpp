#include "index/prune.h"

#include <algorithm>
#include <array>
#include <limits>

namespace tessella {

namespace {

constexpr float kStep = 1.1f;       // from round to round
constexpr float kCopyCover = 1.2f;  // of a vertex's copy by another: the last wanted round takes it
constexpr float kMostCover = 4.0f;  // beyond it, only nearness counts
constexpr std::size_t kAhead = 4;   // candidates
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What is known of the candidates. How far one is covered is found out only as far as the question at hand needs: most
// are covered far enough by one of the first that were chosen.
class Covers {
 public:
  Covers(const Distances& distances, const std::vector<Neighbour>& candidates)
      : distances_(distances), candidates_(candidates), known_(candidates.size()) {}

  void take(std::size_t candidate) {
    known_[candidate].taken = true;
    chosen_.push_back(candidate);
  }
  // Asks for the values of a candidate that will be looked at soon.
  void fetch(std::size_t candidate) const {
    if (candidate < candidates_.size()) distances_.fetch(candidates_[candidate]);
  }
  bool taken(std::size_t candidate) const { return known_[candidate].taken; }
  bool exceeds(std::size_t candidate, float allowed) {
    Known& known = known_[candidate];
    while (known.cover <= allowed && known.compared < chosen_.size()) compare(candidate, known);
    return known.cover > allowed;
  }

 private:
  struct Known {
    float cover = 0.0f;
    std::size_t compared = 0;  // with the first so many of the chosen
    bool taken = false;
  };
  static constexpr std::size_t kTogether = 4;

  // Only nearer neighbours cover a candidate.
  void compare(std::size_t candidate, Known& known) {
    std::array<Neighbour, kTogether> others;
    std::array<float, kTogether> apart;
    std::size_t count = 0;
    while (count < kTogether && known.compared < chosen_.size()) {
      const std::size_t chosen = chosen_[known.compared++];
      if (chosen < candidate) others[count++] = candidates_[chosen];
    }
    if (count == 0) return;
    const Neighbour& one = candidates_[candidate];
    distances_.between(one, others.data(), count, apart.data());
    for (std::size_t i = 0; i < count; ++i) {
      const float by = apart[i] > 0.0f ? one.distance / apart[i] : one.distance > 0.0f ? kInfinity : kCopyCover;
      known.cover = std::max(known.cover, by);
    }
  }

  const Distances& distances_;
  const std::vector<Neighbour>& candidates_;
  std::vector<Known> known_;
  std::vector<std::size_t> chosen_;
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

std::size_t prune(const Distances& distances, std::uint32_t vertex, std::vector<Neighbour>& candidates,
                  std::size_t degree) {
  spread_ties(vertex, candidates);
  Covers covers(distances, candidates);
  std::vector<Neighbour> chosen;
  chosen.reserve(degree);
  std::size_t wanted = 0;
  const std::size_t most = std::min(degree, candidates.size());
  float allowed = 1.0f;
  for (int round = 0; chosen.size() < most; ++round, allowed *= kStep) {
    const bool nearest = allowed > kMostCover;
    for (std::size_t i = 0; i < candidates.size() && chosen.size() < most; ++i) {
      if (round == 0) covers.fetch(i + kAhead);
      if (covers.taken(i) || (!nearest && covers.exceeds(i, allowed))) continue;
      chosen.push_back(candidates[i]);
      covers.take(i);
    }
    if (round < kWantedRounds) wanted = chosen.size();
  }
  candidates = std::move(chosen);
  return wanted;
}

}  // namespace tessella

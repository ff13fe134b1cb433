#include "index/prune.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace tessella {

namespace {

constexpr float kStep = 1.1f;       // from round to round
constexpr float kCopyCover = 1.2f;  // of a vertex's copy by another: the last wanted round takes it
constexpr float kMostCover = 4.0f;  // beyond it, only nearness counts
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What is known of the candidates.
class Covers {
 public:
  Covers(const Distances& distances, const std::vector<Neighbour>& candidates)
      : distances_(distances), candidates_(candidates), known_(candidates.size()) {}

  std::size_t count() const { return chosen_.size(); }
  std::vector<Neighbour> chosen() && { return std::move(chosen_); }

  // The first round: each that is taken is compared at once with all that nothing covers yet. Most are covered by one
  // of the first.
  void take_uncovered(std::size_t most) {
    chosen_.reserve(most);
    places_.reserve(most);
    std::vector<Neighbour> open(candidates_);
    std::vector<std::size_t> places(open.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    std::vector<float> apart(open.size());
    while (!open.empty() && count() < most) {
      take(places.front());
      distances_.between(open.front(), open.data() + 1, open.size() - 1, apart.data());
      std::size_t kept = 0;
      for (std::size_t i = 1; i < open.size(); ++i) {
        Known& known = known_[places[i]];
        known.cover = std::max(known.cover, cover_of(open[i], apart[i - 1]));
        known.compared = count();
        open[kept] = open[i];
        places[kept] = places[i];
        kept += known.cover <= 1.0f ? 1 : 0;
      }
      open.resize(kept);
      places.resize(kept);
    }
  }
  // A later one: what is covered no more than so far. That is found out only as far as the question needs.
  void take_covered(float allowed, std::size_t most) {
    for (std::size_t i = 0; i < candidates_.size() && count() < most; ++i) {
      if (!known_[i].taken && !exceeds(i, allowed)) take(i);
    }
  }
  void take_nearest(std::size_t most) {
    for (std::size_t i = 0; i < candidates_.size() && count() < most; ++i) {
      if (!known_[i].taken) take(i);
    }
  }

 private:
  struct Known {
    float cover = 0.0f;
    std::size_t compared = 0;  // with the first so many of the chosen
    bool taken = false;
  };
  static constexpr std::size_t kTogether = 4;

  void take(std::size_t candidate) {
    known_[candidate].taken = true;
    chosen_.push_back(candidates_[candidate]);
    places_.push_back(candidate);
  }
  static float cover_of(const Neighbour& one, float apart) {
    return apart > 0.0f ? one.distance / apart : one.distance > 0.0f ? kInfinity : kCopyCover;
  }
  bool exceeds(std::size_t candidate, float allowed) {
    Known& known = known_[candidate];
    while (known.cover <= allowed && known.compared < chosen_.size()) compare(candidate, known);
    return known.cover > allowed;
  }
  // Only nearer neighbours cover a candidate.
  void compare(std::size_t candidate, Known& known) {
    std::array<float, kTogether> apart;
    const std::size_t first = known.compared, count = std::min(kTogether, chosen_.size() - first);
    const Neighbour& one = candidates_[candidate];
    distances_.between(one, chosen_.data() + first, count, apart.data());
    for (std::size_t i = 0; i < count; ++i) {
      if (places_[first + i] < candidate) known.cover = std::max(known.cover, cover_of(one, apart[i]));
    }
    known.compared += count;
  }

  const Distances& distances_;
  const std::vector<Neighbour>& candidates_;
  std::vector<Known> known_;
  std::vector<Neighbour> chosen_;
  std::vector<std::size_t> places_;  // of those among the candidates
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
  const std::size_t most = std::min(degree, candidates.size());
  covers.take_uncovered(most);
  std::size_t wanted = covers.count();
  float allowed = kStep;
  for (int round = 1; covers.count() < most && allowed <= kMostCover; ++round, allowed *= kStep) {
    covers.take_covered(allowed, most);
    if (round < kWantedRounds) wanted = covers.count();
  }
  covers.take_nearest(most);
  candidates = std::move(covers).chosen();
  return wanted;
}

}  // namespace tessella

#include "index/graph_leaves.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "common/buffer.h"
#include "common/random.h"
#include "common/sums.h"
#include "index/flat.h"
#include "index/links.h"
#include "index/sortable.h"

namespace tessella {

namespace {

constexpr std::size_t kLeafRows = 1000, kLargeLeafRows = 4000;  // of a leaf, on average
constexpr std::size_t kRowsOfLeaf = 250;                        // rows there are for each row of a leaf, between these
constexpr std::size_t kMostLeafRows = 4;                        // times the average
constexpr std::size_t kFanout = 8;                              // leaves that a row lies in
constexpr std::size_t kNear = 16;                               // rows that a row takes from each leaf
constexpr std::size_t kSampleOf = 32;                           // one row of so many belongs to the sample
constexpr std::size_t kNearSampled = 4;                         // rows of the sample that a row takes from each leaf
constexpr std::size_t kSliceRows = 8192;                        // rows that look for their leaves together
// Of a key, for the number of a member; as many say how far apart the numbers of two rows are.
constexpr int kMemberBits = 16;
constexpr std::int64_t kMostMember = (1 << kMemberBits) - 1;
static_assert(kMostLeafRows * kLargeLeafRows <= kMostMember && kNear <= GraphMerge::kUnit);

// Smaller and smaller parts of all rows would hold fewer and fewer of a row's neighbours.
std::size_t leaf_rows(std::size_t n) { return std::clamp(n / kRowsOfLeaf, kLeafRows, kLargeLeafRows); }

}  // namespace

// The members' 1-bit codes about the leader, in the layout of a vertex's neighbours, and room for one member's search.
struct GraphLeaves::Work {
  std::vector<float> residuals;  // (members, padded)
  std::vector<float> norms2;
  AlignedBuffer blocks, table;
  std::vector<float> estimates;
  std::vector<std::uint32_t> reach;
  std::vector<std::uint32_t> near;
  std::vector<std::int64_t> fresh;                     // sortable estimates with the members' numbers
  std::array<std::int64_t, GraphMerge::kUnit> best{};  // … of those that are kept
};

GraphLeaves::GraphLeaves(KernelsFn table, const float* values, std::size_t n, std::size_t padded, std::uint64_t seed,
                         std::size_t threads)
    : kernels_(table()),
      values_(values),
      n_(n),
      padded_(padded),
      found_(n * kFanout * kNear, kNoRow),
      sampled_(n * kFanout * kNearSampled, kNoRow) {
  fill(table, seed, threads);
  split_large();
  sample();
}

// Each row goes to its kFanout nearest leaders.
void GraphLeaves::fill(KernelsFn table, std::uint64_t seed, std::size_t threads) {
  const std::size_t leaders = std::max<std::size_t>(1, n_ * kFanout / leaf_rows(n_));
  const std::size_t fanout = std::min(kFanout, leaders);
  leaves_.resize(leaders);
  std::vector<float> heads(leaders * padded_);
  for (std::size_t l = 0; l < leaders; ++l) {
    leaves_[l].leader = static_cast<std::uint32_t>(splitmix64(splitmix64(seed) + l) % n_);
    std::copy_n(values_ + leaves_[l].leader * padded_, padded_, heads.data() + l * padded_);
  }
  FlatIndex flat({padded_, Metric::kL2, false, parse_codecs({"B1", "U8"}), seed}, table);
  flat.add(heads.data(), leaders, {}, threads);
  std::vector<float> scores(kSliceRows * fanout);
  std::vector<std::int64_t> nearest(kSliceRows * fanout);
  for (std::size_t first = 0; first < n_; first += kSliceRows) {
    const std::size_t count = std::min(kSliceRows, n_ - first);
    flat.search({values_ + first * padded_, count, fanout, 1.0f, threads, scores.data(), nearest.data()});
    for (std::size_t i = 0; i < count * fanout; ++i) {
      const std::size_t place = i % fanout;
      if (nearest[i] < 0 && place > 0) continue;  // damaged codes may be near nothing, yet each row lies somewhere
      leaves_[static_cast<std::size_t>(std::max<std::int64_t>(0, nearest[i]))].members.push_back(
          {static_cast<std::uint32_t>(first + i / fanout), static_cast<std::uint32_t>(place)});
    }
  }
}

// Leaves that came out too large become several, of every so-manieth row.
void GraphLeaves::split_large() {
  std::vector<Leaf> parts;
  const std::size_t most = kMostLeafRows * leaf_rows(n_);
  for (const Leaf& leaf : leaves_) {
    const std::size_t count = (leaf.members.size() + most - 1) / most;
    for (std::size_t p = 0; p < count; ++p) {
      parts.push_back({leaf.leader, {}, {}});
      for (std::size_t i = p; i < leaf.members.size(); i += count) parts.back().members.push_back(leaf.members[i]);
    }
  }
  leaves_ = std::move(parts);
}

// The same rows in every leaf.
void GraphLeaves::sample() {
  for (Leaf& leaf : leaves_) {
    for (std::uint32_t i = 0; i < leaf.members.size(); ++i) {
      if (splitmix64(leaf.members[i].row) % kSampleOf == 0) leaf.sampled.push_back(i);
    }
  }
}

std::span<const std::uint32_t> GraphLeaves::found(std::size_t row) const {
  return {found_.data() + row * kFanout * kNear, kFanout * kNear};
}

std::span<const std::uint32_t> GraphLeaves::found_sampled(std::size_t row) const {
  return {sampled_.data() + row * kFanout * kNearSampled, kFanout * kNearSampled};
}

std::vector<std::uint32_t> GraphLeaves::order() const {
  std::vector<std::uint32_t> rows;
  rows.reserve(n_);
  for (const Leaf& leaf : leaves_) {
    for (const Member& each : leaf.members) {
      if (each.place == 0) rows.push_back(each.row);
    }
  }
  return rows;
}

void GraphLeaves::encode(const Leaf& leaf, Work& work) const {
  const std::size_t m = leaf.members.size(), blocks = (m + kBlockRows - 1) / kBlockRows;
  work.residuals.resize(m * padded_);
  work.norms2.resize(m);
  work.blocks = AlignedBuffer(blocks * graph_block_bytes(padded_));
  work.table = AlignedBuffer(rabitq_table_bytes(padded_));
  work.estimates.resize(blocks * kBlockRows);
  work.reach.resize(blocks);
  work.near.resize(m);
  work.fresh.resize(m);
  const float* centre = values_ + leaf.leader * padded_;
  std::vector<std::uint8_t> bits(padded_ / 8);
  for (std::size_t i = 0; i < m; ++i) {
    const float* value = values_ + leaf.members[i].row * padded_;
    float* residual = work.residuals.data() + i * padded_;
    for (std::size_t j = 0; j < padded_; ++j) residual[j] = value[j] - centre[j];
    RabitqFactors factors;
    kernels_.rabitq_encode(residual, padded_, bits.data(), &factors);
    work.norms2[i] = factors.norm2;
    put_edge(work.blocks.data() + i / kBlockRows * graph_block_bytes(padded_), i % kBlockRows, padded_, bits.data(),
             factors.scale, factors.norm2);
  }
}

// -|q - x|^2 = -|q - c|^2 + 2 <q - c, x - c> - |x - c|^2
void GraphLeaves::search(std::size_t l) {
  const Leaf& leaf = leaves_[l];
  const std::size_t m = leaf.members.size();
  Work work;
  encode(leaf, work);
  RabitqQuery query{{work.table.data(), 0.0f, 0.0f}, 2.0f, 0.0f, 0.0f, 0.0f};
  for (std::size_t i = 0; i < m; ++i) {
    kernels_.rabitq_table(work.residuals.data() + i * padded_, padded_, &query.table);
    kernels_.graph_scan({work.blocks.data(), work.estimates.size(), padded_, &query, -work.norms2[i], 1.0f,
                         work.estimates.data(), work.reach.data()});
    pick(leaf, i, work);
  }
}

// Of these members all but `self`, those with the best estimates first, as many as `to` takes.
void GraphLeaves::keep_best(const Leaf& leaf, std::size_t self, std::span<const std::uint32_t> members, Work& work,
                            std::span<std::uint32_t> to) const {
  // Among copies those with numbers next to its own: were it the lowest numbers, nobody would find the others.
  const std::int64_t own = leaf.members[self].row;
  std::size_t count = 0;
  for (const std::uint32_t member : members) {
    if (member == self || !(work.estimates[member] >= -std::numeric_limits<float>::infinity())) continue;
    const std::int64_t apart = std::min(std::abs(std::int64_t{leaf.members[member].row} - own), kMostMember);
    work.fresh[count++] = sortable(work.estimates[member]) << 32 | (kMostMember - apart) << kMemberBits | member;
  }
  if (count == 0) return;
  work.best.fill(GraphMerge::kNone);
  kernels_.graph_merge({work.best.data(), 0, to.size(), work.fresh.data(), count});
  for (std::size_t i = 0; i < std::min(to.size(), count); ++i) to[i] = leaf.members[work.best[i] & kMostMember].row;
}

void GraphLeaves::pick(const Leaf& leaf, std::size_t self, Work& work) {
  const std::size_t m = leaf.members.size();
  const Member& own = leaf.members[self];
  const std::size_t near = kernels_.graph_near({work.estimates.data(), m, std::min(kNear + 1, m), work.near.data()});
  keep_best(leaf, self, {work.near.data(), near}, work,
            {found_.data() + (own.row * kFanout + own.place) * kNear, kNear});
  keep_best(leaf, self, leaf.sampled, work,
            {sampled_.data() + (own.row * kFanout + own.place) * kNearSampled, kNearSampled});
}

}  // namespace tessella

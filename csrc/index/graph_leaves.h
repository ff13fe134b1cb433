// Where a graph's rows look for their first neighbours: in overlapping leaves, the rows around leaders drawn at random
// (PiPNN, arXiv 2602.21247). In a leaf all rows are compared with each other, by 1-bit codes about the leader instead
// of by one product: that is a tenth of the work, so leaves may be larger and more.
#pragma once

#include <span>
#include <vector>

#include "index/rows.h"

namespace tessella {

class GraphLeaves {
 public:
  // values (n, padded): rotated rows.
  GraphLeaves(KernelsFn table, const float* values, std::size_t n, std::size_t padded, std::uint64_t seed,
              std::size_t threads);

  std::size_t count() const { return leaves_.size(); }
  void search(std::size_t leaf);  // leaves may be searched at the same time
  // Row numbers that the searches have found to be near a row, some repeated; kNoRow in between.
  std::span<const std::uint32_t> found(std::size_t row) const;
  // The same among a sample of all rows: those nearest to a row lie farther out, as what it meets on a walk does.
  std::span<const std::uint32_t> found_sampled(std::size_t row) const;
  // All rows, those of one leaf one after another.
  std::vector<std::uint32_t> order() const;

 private:
  struct Member {
    std::uint32_t row;
    std::uint32_t place;  // which of the row's leaves this is
  };
  struct Leaf {
    std::uint32_t leader;
    std::vector<Member> members;
    std::vector<std::uint32_t> sampled;  // which of the members belong to the sample
  };
  struct Work;

  void fill(KernelsFn table, std::uint64_t seed, std::size_t threads);
  void split_large();
  void sample();
  void encode(const Leaf& leaf, Work& work) const;
  void pick(const Leaf& leaf, std::size_t self, Work& work);
  void keep_best(const Leaf& leaf, std::size_t self, std::span<const std::uint32_t> members, Work& work,
                 std::span<std::uint32_t> to) const;

  const Kernels& kernels_;
  const float* values_;
  std::size_t n_, padded_;
  std::vector<Leaf> leaves_;
  std::vector<std::uint32_t> found_;    // (n, kFanout, kNear)
  std::vector<std::uint32_t> sampled_;  // (n, kFanout, kNearSampled)
};

}  // namespace tessella

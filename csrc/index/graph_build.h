// A whole graph at once: rows look for neighbours in overlapping leaves (PiPNN, arXiv 2602.21247) and among the
// neighbours of those (NN-descent, Dong, Moses & Li, WWW 2011), and choose among what they have found, by directions.
// The same graph at any number of threads.
#pragma once

#include <bit>
#include <memory>
#include <thread>

#include "common/buffer.h"
#include "index/graph.h"
#include "index/prune.h"

namespace tessella {

class GraphBuild {
 public:
  // parts: rows, ids and entries are there, links are not. x (n, dim): the rows as prepared.
  GraphBuild(GraphParts& parts, KernelsFn table, const float* x, std::size_t threads, GraphProgress progress = {});
  void run();

 private:
  struct Near {
    float distance;  // a number, always, and not negative
    std::uint32_t row;
    // The bits of a number that is not negative are in its order.
    std::uint64_t key() const { return std::uint64_t{std::bit_cast<std::uint32_t>(distance)} << 32 | row; }
    bool operator<(const Near& other) const { return key() < other.key(); }
  };
  struct Edges {
    std::vector<Near> near;
    std::size_t wanted = 0;  // the first so many were chosen by direction, the others are padding
  };

  template <typename Work>
  void for_rows(const Work& work);  // work(first, last)
  const float* values(std::size_t row) const { return all_values() + row * padded_; }
  void fetch(std::size_t row) const {  // its values, before they are read
    for (std::size_t j = 0; j < padded_; j += 64 / sizeof(float)) __builtin_prefetch(values(row) + j);
  }
  const float* all_values() const { return reinterpret_cast<const float*>(values_.data()); }

  void search_all();
  void search_leaves();
  void join();
  void measure(std::size_t row, const std::vector<std::uint32_t>& rows, std::vector<Near>& near);
  static void drop_repeats(std::vector<Near>& near);
  void choose();
  void choose_from(std::size_t row, const std::vector<Near>& candidates, std::vector<Neighbour>& work);
  void link_back();
  void reach_all();
  std::vector<std::uint32_t> unreached(std::vector<char>& reached) const;
  void write();
  void step(double until);
  void report(std::size_t done, std::size_t all);

  GraphParts& parts_;
  KernelsFn table_;
  const Kernels& kernels_;
  std::size_t n_, padded_, degree_, threads_;
  AlignedBuffer values_;  // (n, padded) residuals, floats
  std::unique_ptr<Distances> distances_;
  std::vector<std::uint32_t> order_;     // rows that are near each other one after another: they share neighbours
  std::vector<std::vector<Near>> near_;  // candidates of each row; leaves leave the kJoined nearest in front
  std::vector<std::vector<Near>> far_;   // more of them, from a sample of the rows
  std::vector<Edges> edges_;

  GraphProgress progress_;
  std::thread::id caller_ = std::this_thread::get_id();
  double from_ = 0.0, until_ = 0.0;  // shares of the work between which the step at hand lies
  double told_ = 0.0;
};

}  // namespace tessella

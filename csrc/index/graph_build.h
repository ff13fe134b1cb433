// A whole graph at once: rows look for neighbours in overlapping leaves, one product a leaf (PiPNN, arXiv 2602.21247),
// are linked, and then walk the graph that this makes to find the neighbours that leaves have missed (Vamana's second
// pass, Subramanya et al., 2019). The same graph at any number of threads.
#pragma once

#include <thread>

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
    float distance;  // a number, always: max(0, x) is one even where damaged codes make x none
    std::uint32_t row;
    bool operator<(const Near& other) const {
      return distance != other.distance ? distance < other.distance : row < other.row;
    }
  };
  struct Edges {
    std::vector<Near> near;
    std::size_t wanted = 0;  // the first so many were chosen by direction, the others are padding
  };
  using Leaves = std::vector<std::vector<std::uint32_t>>;

  template <typename Work>
  void for_rows(const Work& work);  // work(first, last)
  const float* values(std::size_t row) const { return values_.data() + row * padded_; }

  Leaves leaves() const;
  void search_leaves(const Leaves& leaves);
  void search_leaf(const std::vector<std::uint32_t>& members, const std::vector<std::uint32_t>& visit);
  static void drop_repeats(std::vector<Near>& near);
  void walk();
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
  const float* x_;
  std::size_t n_, padded_, degree_, threads_;
  std::vector<float> values_;            // (n, padded) residuals
  std::vector<std::vector<Near>> near_;  // candidates of each row, nearest first
  std::vector<Edges> edges_;
  bool written_ = false;

  GraphProgress progress_;
  std::thread::id caller_ = std::this_thread::get_id();
  double from_ = 0.0, until_ = 0.0;  // shares of the work between which the step at hand lies
  double told_ = 0.0;
};

}  // namespace tessella

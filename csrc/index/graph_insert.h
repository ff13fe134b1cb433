// New rows for a graph that has some: each walks to its neighbours, and they link back to it.
#pragma once

#include "index/graph.h"
#include "index/graph_edges.h"
#include "index/prune.h"

namespace tessella {

// Rows on their way in, all of which link to the graph as it is and to each other. Found beside searches; what was
// found is put down by `publish`, which nothing may search beside. The same at any number of threads.
class GraphInsert {
 public:
  // x (n, dim): rows as prepared.
  GraphInsert(const GraphParts& parts, const float* x, std::size_t n, std::size_t threads);
  void publish(GraphParts& parts) const;  // all but the ids

 private:
  struct Back {  // a row of the graph, or a new one, that new ones have chosen
    std::uint32_t row;
    std::vector<std::uint32_t> by;
    std::vector<std::uint8_t> record;
  };

  void find_edges(std::size_t first, std::size_t last);
  std::vector<std::vector<std::uint32_t>> near_each_other(std::size_t first, std::size_t last) const;
  void link(std::size_t i, const std::vector<std::uint32_t>& rows, EdgeWriter& writer, std::vector<float>& memory);
  void link_back(Back& back, EdgeWriter& writer) const;
  void values_of(std::uint32_t row, float* out) const;

  const GraphParts& parts_;
  const Kernels& kernels_;
  const ValueDistances distances_;
  const float* x_;
  std::size_t n_, base_, padded_, threads_;
  std::vector<float> values_;  // (n, padded)
  EncodedRows encoded_;
  std::vector<std::vector<std::uint32_t>> wanted_;  // by new row: the neighbours that it should be linked from
  std::vector<std::uint8_t> records_;               // (n, record bytes)
  std::vector<Back> backs_;
};

}  // namespace tessella

// Writes edges: from the values of two rows to a lane of a record.
#pragma once

#include <vector>

#include "index/links.h"
#include "index/prune.h"
#include "index/rows.h"

namespace tessella {

class EdgeWriter {
 public:
  EdgeWriter(const Rows& rows, const Links& links);

  // The edge from a vertex to `row`; values are residuals R(x - centre), `padded` floats each.
  void write(std::uint8_t* record, std::size_t lane, std::uint32_t row, const float* from, const float* to);
  // Makes `chosen` the neighbours of a record: those that were there keep their lanes and codes.
  void replace(std::uint8_t* record, const float* from, const std::vector<Neighbour>& chosen);

 private:
  const Rows& rows_;
  const Links& links_;
  std::vector<float> centre_, edge_;
  std::vector<std::uint8_t> bits_;
};

}  // namespace tessella

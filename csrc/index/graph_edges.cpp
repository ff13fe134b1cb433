#include "index/graph_edges.h"

namespace tessella {

EdgeWriter::EdgeWriter(const Rows& rows, const Links& links)
    : rows_(rows), links_(links), edge_(rows.padded()), bits_(rows.padded() / 8) {
  if (rows.config().metric == Metric::kL2) return;
  centre_.resize(rows.padded());
  const std::vector<float> origin(rows.config().dim, 0.0f);
  rows.rotate(origin.data(), 1, centre_.data());
  for (float& each : centre_) each = -each;
}

void EdgeWriter::write(std::uint8_t* record, std::size_t lane, std::uint32_t row, const float* from, const float* to) {
  float scale = 0.0f, term = 0.0f;
  if (links_.coded()) {
    rows_.kernels().graph_encode({from, to, centre_.empty() ? nullptr : centre_.data(), rows_.padded(), edge_.data(),
                                  bits_.data(), &scale, &term});
  }
  links_.put(record, lane, row, bits_.data(), scale, term);
}

}  // namespace tessella

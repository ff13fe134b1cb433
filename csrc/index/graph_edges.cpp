#include "index/graph_edges.h"

#include <algorithm>

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

void EdgeWriter::replace(std::uint8_t* record, const float* from, const std::vector<Neighbour>& chosen) {
  std::vector<const Neighbour*> fresh;
  const auto lanes = links_.in(record);
  std::vector<char> kept(lanes.size(), 0);
  for (const Neighbour& each : chosen) {
    const auto lane = std::find(lanes.begin(), lanes.end(), each.row);
    if (lane == lanes.end()) {
      fresh.push_back(&each);
    } else {
      kept[static_cast<std::size_t>(lane - lanes.begin())] = 1;
    }
  }
  auto next = fresh.begin();
  for (std::size_t lane = 0; lane < lanes.size(); ++lane) {
    if (kept[lane]) continue;
    if (next == fresh.end()) {
      links_.cut(record, lane);
    } else {
      write(record, lane, (*next)->row, from, (*next)->values);
      ++next;
    }
  }
}

}  // namespace tessella

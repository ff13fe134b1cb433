// The graph family for device memory: name the device, call.
#pragma once

#include "bind/cuda_device.h"
#include "cuda/graph.h"

namespace tessella::bind {

inline void cuda_graph_search(Address queries, std::size_t nq, Address adds, Address most, std::size_t padded,
                              const std::string& metric, Address records, std::size_t n, std::size_t degree, bool coded,
                              Address values, Address codes, Address scales, Address norms2, Address entries,
                              std::size_t entry_count, Address allowed, std::size_t ef, std::size_t k, float slack,
                              std::size_t slots, Address scores, Address found, Address visits, Address scratch,
                              int device, Address stream) {
  const cuda::GraphSearch job{pointer<const float>(queries),
                              nq,
                              pointer<const float>(adds),
                              pointer<const float>(most),
                              padded,
                              parse_metric("graph_search", metric),
                              pointer<const std::uint8_t>(records),
                              n,
                              degree,
                              coded,
                              {pointer<const float>(values), pointer<const std::uint8_t>(codes),
                               pointer<const float>(scales), pointer<const float>(norms2)},
                              pointer<const std::uint32_t>(entries),
                              entry_count,
                              pointer<const std::uint32_t>(allowed),
                              ef,
                              k,
                              slack,
                              slots,
                              pointer<float>(scores),
                              pointer<std::int64_t>(found),
                              pointer<std::uint32_t>(visits),
                              pointer<void>(scratch),
                              pointer<void>(stream)};
  on_device("graph_search", device, [&] { cuda::graph_search(job); });
}

inline std::size_t cuda_graph_search_scratch(std::size_t nq, std::size_t slots, int device) {
  std::size_t bytes = 0;
  on_device("graph_search", device, [&] { bytes = cuda::graph_search_scratch(nq, slots); });
  return bytes;
}

inline cuda::GraphEdges graph_edges_at(Address neighbours, Address distances, Address wanted) {
  return {pointer<std::uint32_t>(neighbours), pointer<float>(distances), pointer<std::uint32_t>(wanted)};
}

inline void cuda_graph_prune(Address values, std::size_t n, std::size_t padded, Address candidates, Address lengths,
                             std::size_t count, std::size_t degree, Address neighbours, Address distances,
                             Address wanted, int device, Address stream) {
  const cuda::GraphPrune job{
      pointer<const float>(values),  n,     padded, pointer<const std::uint32_t>(candidates),
      pointer<const float>(lengths), count, degree, graph_edges_at(neighbours, distances, wanted),
      pointer<void>(stream)};
  on_device("graph_prune", device, [&] { cuda::graph_prune(job); });
}

inline void cuda_graph_link(Address values, std::size_t n, std::size_t padded, std::size_t degree,
                            Address from_neighbours, Address from_distances, Address from_wanted, Address neighbours,
                            Address distances, Address wanted, Address scratch, int device, Address stream) {
  const cuda::GraphLink job{pointer<const float>(values),
                            n,
                            padded,
                            degree,
                            graph_edges_at(from_neighbours, from_distances, from_wanted),
                            graph_edges_at(neighbours, distances, wanted),
                            pointer<void>(scratch),
                            pointer<void>(stream)};
  on_device("graph_link", device, [&] { cuda::graph_link(job); });
}

inline void cuda_graph_write(Address values, std::size_t n, std::size_t padded, Address centre, Address neighbours,
                             std::size_t degree, bool coded, Address records, int device, Address stream) {
  const cuda::GraphWrite job{pointer<const float>(values),
                             n,
                             padded,
                             pointer<const float>(centre),
                             pointer<const std::uint32_t>(neighbours),
                             degree,
                             coded,
                             pointer<std::uint8_t>(records),
                             pointer<void>(stream)};
  on_device("graph_write", device, [&] { cuda::graph_write(job); });
}

inline void register_cuda_graph(py::module_& m) {
  m.def("graph_search", &cuda_graph_search, py::kw_only(), py::arg("queries"), py::arg("nq"), py::arg("adds"),
        py::arg("most"), py::arg("padded"), py::arg("metric"), py::arg("records"), py::arg("n"), py::arg("degree"),
        py::arg("coded"), py::arg("values"), py::arg("codes"), py::arg("scales"), py::arg("norms2"), py::arg("entries"),
        py::arg("entry_count"), py::arg("allowed"), py::arg("ef"), py::arg("k"), py::arg("slack"), py::arg("slots"),
        py::arg("scores"), py::arg("found"), py::arg("visits"), py::arg("scratch"), py::arg("device"),
        py::arg("stream"), "Enqueue walks over addresses of device memory; tessella._cuda_graph checks and calls it.");
  m.def("graph_search_scratch", &cuda_graph_search_scratch, py::arg("nq"), py::arg("slots"), py::kw_only(),
        py::arg("device"), "Bytes of scratch that graph_search needs.");
  m.def("graph_prune", &cuda_graph_prune, py::kw_only(), py::arg("values"), py::arg("n"), py::arg("padded"),
        py::arg("candidates"), py::arg("lengths"), py::arg("count"), py::arg("degree"), py::arg("neighbours"),
        py::arg("distances"), py::arg("wanted"), py::arg("device"), py::arg("stream"),
        "Enqueue the choice of neighbours; tessella._cuda_graph checks and calls it.");
  m.def("graph_link", &cuda_graph_link, py::kw_only(), py::arg("values"), py::arg("n"), py::arg("padded"),
        py::arg("degree"), py::arg("from_neighbours"), py::arg("from_distances"), py::arg("from_wanted"),
        py::arg("neighbours"), py::arg("distances"), py::arg("wanted"), py::arg("scratch"), py::arg("device"),
        py::arg("stream"), "Enqueue links back; tessella._cuda_graph checks and calls it.");
  m.def("graph_write", &cuda_graph_write, py::kw_only(), py::arg("values"), py::arg("n"), py::arg("padded"),
        py::arg("centre"), py::arg("neighbours"), py::arg("degree"), py::arg("coded"), py::arg("records"),
        py::arg("device"), py::arg("stream"),
        "Enqueue the writing of records; tessella._cuda_graph checks and calls it.");
}

}  // namespace tessella::bind

// tessella._cuda: a list of register calls. Imports without a driver and then reports no devices.
#include <pybind11/pybind11.h>

#include "bind/cuda_contrast.h"
#include "bind/cuda_exact.h"
#include "bind/cuda_fde.h"
#include "bind/cuda_graph.h"
#include "bind/cuda_kmeans.h"
#include "bind/cuda_maxsim.h"
#include "bind/cuda_pooling.h"
#include "bind/cuda_pq.h"
#include "bind/cuda_rabitq.h"
#include "bind/cuda_rotate.h"
#include "bind/cuda_scalar.h"
#include "bind/errors.h"
#include "cuda/runtime.h"

PYBIND11_MODULE(_cuda, m, pybind11::mod_gil_not_used()) {
  m.doc() = "tessella's kernels for CUDA devices.";
  m.attr("__version__") = TESSELLA_VERSION;
  tessella::bind::register_errors();
  m.def("device_count", &tessella::cuda::device_count, "CUDA devices that can be used; 0 without a driver.");
  m.def("device_name", &tessella::cuda::device_name, pybind11::arg("device"), "Model of a device.");
  tessella::bind::register_cuda_contrast(m);
  tessella::bind::register_cuda_exact(m);
  tessella::bind::register_cuda_fde(m);
  tessella::bind::register_cuda_graph(m);
  tessella::bind::register_cuda_kmeans(m);
  tessella::bind::register_cuda_maxsim(m);
  tessella::bind::register_cuda_pooling(m);
  tessella::bind::register_cuda_pq(m);
  tessella::bind::register_cuda_rabitq(m);
  tessella::bind::register_cuda_rotate(m);
  tessella::bind::register_cuda_scalar(m);
}

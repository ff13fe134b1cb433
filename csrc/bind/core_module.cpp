// tessella._core: a list of register calls.
#include "bind/binary.h"
#include "bind/contrast.h"
#include "bind/errors.h"
#include "bind/fde.h"
#include "bind/flat.h"
#include "bind/graph.h"
#include "bind/ivf.h"
#include "bind/kmeans.h"
#include "bind/maxsim.h"
#include "bind/pooling.h"
#include "bind/pq.h"
#include "bind/rabitq.h"
#include "bind/rotate.h"
#include "bind/row_filter.h"
#include "bind/scalar.h"
#include "bind/smve.h"
#include "bind/system.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "tessella's kernels and indexes for the CPU.";
  m.attr("__version__") = TESSELLA_VERSION;
  tessella::bind::register_errors();
  tessella::bind::register_system(m);
  tessella::bind::register_rotate(m);
  tessella::bind::register_rabitq(m);
  tessella::bind::register_scalar(m);
  tessella::bind::register_binary(m);
  tessella::bind::register_pq(m);
  tessella::bind::register_fde(m);
  tessella::bind::register_kmeans(m);
  tessella::bind::register_maxsim(m);
  tessella::bind::register_contrast(m);
  tessella::bind::register_pooling(m);
  tessella::bind::register_row_filter(m);
  tessella::bind::register_smve(m);
  tessella::bind::register_flat(m);
  tessella::bind::register_ivf(m);
  tessella::bind::register_graph(m);
}

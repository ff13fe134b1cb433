// Levels and threads.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "common/parallel.h"
#include "cpu/registry.h"
#include "index/plan.h"

namespace tessella::bind {

inline void register_system(pybind11::module_& m) {
  namespace py = pybind11;
  m.def("available_isas", &cpu::available_levels,
        "Instruction-set levels of this build that this CPU runs, best first.");
  m.def("active_isa", [] { return std::string(cpu::active_kernels().level); }, "The level in use.");
  m.def("pin_isa", &cpu::pin_level, py::arg("isa"), "Use this level from now on.");
  m.def("force_way", &force_way, py::arg("way"), "For tests: filtered searches go this way from now on; -1: any.");
  m.def("num_threads", &num_threads, "Threads a call uses when it does not say.");
  m.def("set_num_threads", &set_num_threads, py::arg("threads"), "Set the default number of threads.");
}

}  // namespace tessella::bind

// k-means for Python.
#pragma once

#include <pybind11/functional.h>

#include "bind/ivf.h"
#include "bind/tiles.h"
#include "index/kmeans.h"

namespace tessella::bind {

inline py::tuple kmeans_train_rows(const Floats& x, std::size_t k, std::size_t iterations, bool spherical,
                                   std::uint64_t seed, std::size_t sample, bool in_parts, std::size_t threads,
                                   const py::object& progress) {
  require(x.ndim() == 2 && x.shape(1) > 0, "kmeans", "x of shape (n, d)", shape_of(x));
  const std::size_t n = rows_of(x), d = static_cast<std::size_t>(x.shape(1));
  require(k >= 1 && k <= n, "kmeans", "at least as many rows as centroids, " + std::to_string(k), std::to_string(n));
  const float* rows = checked_rows(x, d, "kmeans", "x");
  const KmeansProgress report = progress_of(progress);
  KmeansResult found;
  {
    const py::gil_scoped_release unlocked;
    found = (in_parts ? kmeans_train_parts : kmeans_train)(&cpu::active_kernels, rows, n, d,
                                                           {k, iterations, spherical, seed, sample}, threads, report);
  }
  Floats centroids({k, d});
  std::copy(found.centroids.begin(), found.centroids.end(), centroids.mutable_data());
  return py::make_tuple(centroids, found.costs);
}

inline py::tuple kmeans_assign_rows(const Floats& x, const Floats& centroids, bool spherical, std::size_t threads) {
  require(centroids.ndim() == 2 && centroids.shape(0) > 0 && centroids.shape(1) > 0, "kmeans_assign",
          "centroids of shape (k, d)", shape_of(centroids));
  const std::size_t d = static_cast<std::size_t>(centroids.shape(1)), n = rows_of(x);
  check_shape(x, d, "kmeans_assign", "x");
  const auto count = static_cast<py::ssize_t>(n);
  Array<std::uint32_t> nearest(count);
  Floats similarity(count);
  const float *rows = x.data(), *from = centroids.data();
  std::uint32_t* to = nearest.mutable_data();
  float* best = similarity.mutable_data();
  const std::size_t k = rows_of(centroids);
  {
    const py::gil_scoped_release unlocked;
    kmeans_nearest(cpu::active_kernels(), rows, n, d, from, k, spherical, threads, to, best);
  }
  return py::make_tuple(nearest, similarity);
}

inline void register_kmeans(py::module_& m) {
  m.def("kmeans_train", &kmeans_train_rows, py::arg("x").noconvert(), py::kw_only(), py::arg("k"),
        py::arg("iterations"), py::arg("spherical"), py::arg("seed"), py::arg("sample"), py::arg("in_parts"),
        py::arg("threads"), py::arg("progress"),
        "Rows (n, d) -> centroids (k, d) and the mean cost before each iteration.");
  m.def("kmeans_assign", &kmeans_assign_rows, py::arg("x").noconvert(), py::arg("centroids").noconvert(), py::kw_only(),
        py::arg("spherical"), py::arg("threads"),
        "Nearest centroid of each row (n,) and its similarity, <x, c> - |c|^2 / 2 or (spherical) <x, c>.");
}

}  // namespace tessella::bind

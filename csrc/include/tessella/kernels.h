// One table per device and level. A null slot means the device has no such kernel yet.
// No default initialisers: a level object must not carry a shared constructor (see tests/structure).
#pragma once

#include "tessella/binary.h"
#include "tessella/contrast.h"
#include "tessella/exact.h"
#include "tessella/fde.h"
#include "tessella/graph.h"
#include "tessella/kmeans.h"
#include "tessella/maxsim.h"
#include "tessella/pooling.h"
#include "tessella/pq.h"
#include "tessella/rabitq.h"
#include "tessella/rotate.h"
#include "tessella/scalar.h"
#include "tessella/smve.h"

namespace tessella {

struct Kernels {
  const char* level;  // "scalar", "avx2", "avx512", "neon", "cuda"

  ExactTopKFn exact_topk;
  ExactScratchFn exact_topk_scratch;
  ExactScoreFn exact_score;

  KmeansAssignFn kmeans_assign;
  KmeansScratchFn kmeans_assign_scratch;

  MaxsimFn maxsim_score;
  MaxsimScratchFn maxsim_scratch;

  RotateFn rotate_forward;
  RotateFn rotate_inverse;

  RabitqEncodeFn rabitq_encode;
  RabitqTableFn rabitq_table;
  RabitqScanFn rabitq_scan;

  GraphEncodeFn graph_encode;
  GraphScanFn graph_scan;
  GraphDotsFn graph_dots;
  GraphNearFn graph_near;
  GraphMergeFn graph_merge;

  ScalarEncodeFn scalar_encode;
  ScalarDecodeFn scalar_decode;
  ScalarQueryFn scalar_query;
  ScalarDotFn scalar_dot;

  BinaryEncodeFn binary_encode;
  BinaryHammingFn binary_hamming;
  BinaryDotFn binary_dot;

  PqEncodeFn pq_encode;
  PqScratchFn pq_encode_scratch;
  PqRotateFn pq_rotate;
  PqUpdateFn pq_update;
  PqTableFn pq_table;
  PqPackFn pq_pack;
  PqScanFn pq_scan;
  PqSumFn pq_sum;

  FdeEncodeFn fde_encode;
  FdeScratchFn fde_encode_scratch;
  ContrastForwardFn contrast_forward;
  ContrastScratchFn contrast_forward_scratch;
  ContrastBackwardFn contrast_backward;
  ContrastScratchFn contrast_backward_scratch;

  PoolFn pooling_forward;
  PoolScratchFn pooling_scratch;
  PoolGradientFn pooling_backward;

  SmveEncodeFn smve_encode;
  SmveScratchFn smve_encode_scratch;
  SmveScoreFn smve_score;
};

}  // namespace tessella

// Launch shapes and the sizes that go with them, as data. Reasons stand beside the numbers; those that want a
// measurement on a real chip say so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessella::cuda {

// What one block of a scan works on.
struct ScanShape {
  int queries;  // of a tile; a block has one tile
  int rows;     // of a tile; a block walks over tiles
  int threads;
  int blocks_per_multiprocessor;  // that fit at once
};

// Direct: a warp takes 4 rows x 8 queries = 32 sums, one for each lane. 256 rows between two looks at the lists.
constexpr ScanShape kDirectShape{8, 256, 256, 2};
constexpr int kDirectRowsPerWarp = 4;

// Products on the CUDA cores (device/tile.h): 8 x 8 sums a thread.
constexpr ScanShape kProductShape{128, 128, 256, 2};
constexpr int kProductDepth = 16;    // dimensions in shared memory at once, twice
constexpr int kProductThreads = 16;  // threads along each side of the tile

// Product on the tensor cores: 4 warps of 64 x 64 sums; 3 stages of 24 KB let two blocks share an A100 as well.
constexpr ScanShape kTensorShape{128, 128, 128, 2};
constexpr int kTensorDepth = 32;
constexpr int kTensorStages = 3;
constexpr int kTensorWarpTile = 64;

// Up to this many queries the direct scan, which reads the rows once for every 8, is taken to be faster. Estimates
// from bandwidth and arithmetic rates (H200: 4.3 TB/s, 67 TFLOP/s f32, 790 bf16); to be measured.
constexpr std::size_t kDirectQueriesF32 = 32;
constexpr std::size_t kDirectQueriesHalf = 8;
constexpr std::size_t kDirectQueriesByte = 16;

// A scan works in chunks of growing size, so that each starts with the gates its forerunners left: about
// k * kChunkGrowth rows of a chunk pass when rows come in random order.
constexpr std::uint32_t kFirstChunkRows = 2048;
constexpr std::uint32_t kChunkGrowth = 32;
constexpr std::uint32_t kMaxChunkRows = 1u << 22;

constexpr std::uint32_t kSpareSurvivors = 128;  // least room of a list beyond k and one tile
#ifndef TSL_SURVIVOR_BYTES  // the emulator's build makes it small, so that small tests meet the limit
#define TSL_SURVIVOR_BYTES (std::size_t{256} << 20)
#endif
constexpr std::size_t kSurvivorBytes = TSL_SURVIVOR_BYTES;  // limit of all lists together
constexpr std::uint32_t kMaxSegments = 1024;
constexpr std::uint32_t kWaves = 2;  // blocks in turn on a multiprocessor, so that the last wave costs less

// Scans over blocks of 32 rows: a warp takes a block at a time, for up to this many queries.
constexpr ScanShape kBlockShape{4, 32, 256, 4};

// The same with tables of floats in shared memory, which leave room for fewer and larger blocks: four queries share a
// block where their tables leave room for a second block on an H200, a single table may fill an A100's shared memory,
// and what is larger still stays in global memory.
constexpr ScanShape kTableShape{4, 32, 512, 2};
constexpr std::size_t kTablesBytes = std::size_t{96} << 10;
constexpr std::size_t kTableBytes = std::size_t{160} << 10;

// Encoding by codebooks: dimensions in shared memory at once; practice has 2 to 16 in a piece.
constexpr int kEncodeThreads = 256;
constexpr int kEncodeDepth = 8;
constexpr int kEncodeRows = 8;  // of a thread, each against 8 codewords at 8 bits, 4 at 4 bits

constexpr int kRotateThreads = 128;                   // a block a row
constexpr std::size_t kRotateMostDimensions = 40960;  // a row in an A100's shared memory

// Encodings of token sets: threads own outputs of up to kFdeThreads / p repetitions of a document, whose cells lie in
// shared memory beside a few tokens; two such blocks fit a multiprocessor of an A100 at the largest.
constexpr int kFdeThreads = 128;
constexpr std::size_t kFdeTokens = 16;
constexpr std::size_t kFdeSharedFloats = std::size_t{20} << 10;
constexpr std::size_t kFdeMostFloats = std::size_t{40} << 10;  // of one repetition and one token: an A100's

// MaxSim: a block a document, each warp eight of its tokens at a time, against 32 query tokens. 64 words of staging
// leave room for eight blocks on a multiprocessor at 128 dimensions.
constexpr int kMaxsimThreads = 128;
constexpr int kMaxsimTokens = 8;
constexpr int kMaxsimDepth = 64;
constexpr int kMaxsimBlocks = 8;  // to be measured

constexpr int kWalkBlocks = 24;  // walks of a multiprocessor at once, a warp each: as many as leave 80 registers

constexpr int kPoolThreads = 256;               // a block a segment, or kPoolLanes * 4 columns of its gradient
constexpr int kPoolLanes = 8;                   // threads that share a token's gradient
constexpr std::size_t kPoolMostFloats = 32768;  // of a segment in an A100's shared memory, beside the groups' sums

constexpr int kMergeThreads = 256;   // a block a query
constexpr int kFinishThreads = 128;  // a block a query
constexpr int kRowThreads = 256;     // a warp a row or a query

}  // namespace tessella::cuda

// MaxSim. The query is packed once, its tokens along the lanes; a few document tokens at a time are broadcast value by
// value from where they lie, so a document is neither packed nor padded, and the products of a tile meet their maxima
// while they are still in registers. 16-bit floats are widened a tile at a time, bytes and 4-bit codes brought to what
// the level multiplies.
//
// Numerics: one f32 sum by FMA, dimension after dimension, or an exact integer; then a f64 sum over the query's tokens.
// Nothing depends on how tokens fall into tiles, so every level writes the same bits.
#include "tessella/maxsim.h"

#include "cpu/kernels.isa.h"
#include "cpu/scratch.isa.h"
#include "simd/vec.h"
#include "tessella/scalar.h"

namespace tessella::TSL_LEVEL {

namespace {

constexpr int kTokens = kTileQueries;    // document tokens of a tile
constexpr int kVectors = kTileVectors;   // vectors of query tokens of a panel
constexpr std::size_t kLineValues = 16;  // of a token: a cache line of floats
constexpr std::size_t kAhead = 14;       // tokens between the one that is read and the one that is fetched

// Query tokens along the lanes, kVectors at a time (the last panel may have fewer), dimension after dimension.
struct Query {
  std::size_t tokens, vectors, d;
  const float* scales;
  float* panels;         // (d, lanes) of each panel
  QueryByte* bytes;      // (d / kLaneDims, lanes, kLaneDims) of each panel
  std::int32_t* starts;  // (lanes): minus what the bias of the token bytes adds
  float* best;           // (lanes)
};

struct Tile {
  const void* rows;               // f32, or token bytes
  std::size_t stride;             // values from one token to the next
  const float* scales = nullptr;  // of its tokens, or nullptr
  const char* coming = nullptr;   // what is read later, and for every kLineValues of a token
  std::size_t coming_step = 0;    // so many bytes of it
};

// ---- tiles

template <int kRows, int kWide>
TSL_INLINE void keep_best(const F32 (&products)[kRows][kWide], float* best) {
#pragma GCC unroll 4
  for (int v = 0; v < kWide; ++v) {
    F32 most = load_f32(best + v * kF32Lanes);
#pragma GCC unroll 16
    for (int t = 0; t < kRows; ++t) most = where_greater(products[t][v], most, products[t][v], most);
    store_f32(best + v * kF32Lanes, most);
  }
}

template <int kRows, int kWide>
void float_tile(const Tile& tile, const Query& query, std::size_t first) {
  RowWalk<float, kRows> tokens(static_cast<const float*>(tile.rows), tile.stride);
  const float* panel = query.panels + first * kF32Lanes * query.d;
  F32 sums[kRows][kWide];
#pragma GCC unroll 16
  for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) sums[t][v] = zero_f32();
  }
  const char* coming = tile.coming;
  for (std::size_t j = 0; j < query.d;) {
#pragma GCC unroll 16
    for (int t = 0; t < kRows; ++t, coming += tile.coming_step) prefetch(coming);
    const std::size_t end = j + kLineValues < query.d ? j + kLineValues : query.d;
#pragma GCC unroll 4
    for (; j < end; ++j, tokens.advance(1), panel += kWide * kF32Lanes) {
      F32 q[kWide];
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) q[v] = load_f32(panel + v * kF32Lanes);
#pragma GCC unroll 16
      for (int t = 0; t < kRows; ++t) {
        const F32 x = held(set_f32(*tokens.row(t)));
#pragma GCC unroll 4
        for (int v = 0; v < kWide; ++v) sums[t][v] = fma(x, q[v], sums[t][v]);
      }
    }
  }
  keep_best(sums, query.best + first * kF32Lanes);
}

template <int kRows, int kWide>
void byte_tile(const Tile& tile, const Query& query, std::size_t first) {
  RowWalk<TokenByte, kRows> tokens(static_cast<const TokenByte*>(tile.rows), tile.stride);
  const std::size_t groups = (query.d + kLaneDims - 1) / kLaneDims;
  const QueryByte* panel = query.bytes + first * kF32Lanes * kLaneDims * groups;
  S32 sums[kRows][kWide];
#pragma GCC unroll 16
  for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) sums[t][v] = load_s32(query.starts + (first + v) * kF32Lanes);
  }
#pragma GCC unroll 4
  for (std::size_t j = 0; j < groups; ++j, tokens.advance(kLaneDims), panel += kWide * kF32Lanes * kLaneDims) {
    Lanes q[kWide];
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) q[v] = load_lanes(panel + v * kF32Lanes * kLaneDims);
#pragma GCC unroll 16
    for (int t = 0; t < kRows; ++t) {
      const Lanes x = held(set_lanes(tokens.row(t)));
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) sums[t][v] = add_products(sums[t][v], q[v], x);
    }
  }
  F32 products[kRows][kWide];
#pragma GCC unroll 16
  for (int t = 0; t < kRows; ++t) {
    const F32 scale = set_f32(tile.scales == nullptr ? 1.0f : tile.scales[t]);
#pragma GCC unroll 4
    for (int v = 0; v < kWide; ++v) products[t][v] = mul(to_f32(sums[t][v]), scale);
  }
  keep_best(products, query.best + first * kF32Lanes);
}

// Tiles of every height and width, so that no token is multiplied in vain.
using TileFn = void (*)(const Tile&, const Query&, std::size_t first);

template <bool kWhole, int kRows, int kWide>
void tile_of(const Tile& tile, const Query& query, std::size_t first) {
  kWhole ? byte_tile<kRows, kWide>(tile, query, first) : float_tile<kRows, kWide>(tile, query, first);
}

struct Tiles { TileFn of[kTokens + 1][kVectors + 1]; };

template <bool kWhole, int kRows, int kWide>
constexpr void fill_tiles(Tiles& tiles) {
  tiles.of[kRows][kWide] = tile_of<kWhole, kRows, kWide>;
  if constexpr (kWide > 1) fill_tiles<kWhole, kRows, kWide - 1>(tiles);
  if constexpr (kWide == kVectors && kRows > 1) fill_tiles<kWhole, kRows - 1, kWide>(tiles);
}

template <bool kWhole>
constexpr Tiles made_tiles() {
  Tiles tiles{};
  fill_tiles<kWhole, kTokens, kVectors>(tiles);
  return tiles;
}

template <bool kWhole>
constexpr Tiles kTiles = made_tiles<kWhole>();

// ---- tokens as a tile reads them

constexpr std::size_t padded_bytes(std::size_t d) { return (d + kU8Lanes - 1) / kU8Lanes * kU8Lanes; }

template <TokenType kType>
TSL_INLINE void widen_halves(const std::uint16_t* from, std::size_t count, float* to) {
  std::size_t j = 0;
  for (; j + kF32Lanes <= count; j += kF32Lanes) {
    store_f32(to + j, kType == TokenType::kF16 ? load_f16(from + j) : load_bf16(from + j));
  }
  for (; j < count; ++j) to[j] = kType == TokenType::kF16 ? float_from_f16(from[j]) : float_from_bf16(from[j]);
}

TSL_INLINE void widen_bytes(const std::uint8_t* from, std::size_t d, TokenByte* to) {
  std::size_t j = 0;
  for (; j + kU8Lanes <= d; j += kU8Lanes) store_token_bytes(to + j, load_u8(from + j));
  if (j == d) return;
  std::uint8_t rest[kU8Lanes] = {};
  for (std::size_t i = 0; j + i < d; ++i) rest[i] = from[j + i];
  store_token_bytes(to + j, load_u8(rest));
}

TSL_INLINE U8 lloyd_values() {
  std::uint8_t values[kU8Lanes];
  for (std::size_t i = 0; i < kU8Lanes; ++i) values[i] = static_cast<std::uint8_t>(2 * kLloydLevels[i % 16] - 59);
  return load_u8(values);
}

TSL_INLINE void widen_nibbles(const std::uint8_t* from, U8 values, std::size_t d, TokenByte* to) {
  for (std::size_t j = 0; j < d; j += 64) {
    const Codes64 codes = load_nibbles(from + j / 2);
    for (std::size_t part = 0; part < 64 / kU8Lanes; ++part) {
      store_token_bytes(to + j + part * kU8Lanes, lookup16(values, codes.v[part]));
    }
  }
}

// `count` tokens, where they lie or in `room`.
template <TokenType kType>
TSL_INLINE Tile read_tile(const char* tokens, std::size_t count, std::size_t d, void* room) {
  if constexpr (kType == TokenType::kF32) return {tokens, d};
  if constexpr (kType == TokenType::kF16 || kType == TokenType::kBF16) {  // one after another: no gaps to mind
    widen_halves<kType>(reinterpret_cast<const std::uint16_t*>(tokens), count * d, static_cast<float*>(room));
    return {room, d};
  }
  const std::size_t stride = padded_bytes(d);
  [[maybe_unused]] const U8 values = lloyd_values();
  for (std::size_t t = 0; t < count; ++t) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(tokens) + t * token_bytes(kType, d);
    TokenByte* to = static_cast<TokenByte*>(room) + t * stride;
    kType == TokenType::kI8 ? widen_bytes(from, d, to) : widen_nibbles(from, values, d, to);
  }
  return {room, stride};
}

// ---- queries

void pack_floats(const float* tokens, Query& query) {
  for (std::size_t first = 0; first < query.vectors; first += kVectors) {
    const std::size_t lanes = (query.vectors - first < kVectors ? query.vectors - first : kVectors) * kF32Lanes;
    float* panel = query.panels + first * kF32Lanes * query.d;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::size_t i = first * kF32Lanes + lane;
      for (std::size_t j = 0; j < query.d; ++j) {
        panel[j * lanes + lane] = i < query.tokens ? tokens[i * query.d + j] : 0.0f;
      }
    }
  }
}

void pack_bytes(const std::int8_t* tokens, Query& query) {
  const std::size_t groups = (query.d + kLaneDims - 1) / kLaneDims, padded = groups * kLaneDims;
  for (std::size_t first = 0; first < query.vectors; first += kVectors) {
    const std::size_t lanes = (query.vectors - first < kVectors ? query.vectors - first : kVectors) * kF32Lanes;
    QueryByte* panel = query.bytes + first * kF32Lanes * padded;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const std::size_t i = first * kF32Lanes + lane;
      std::int32_t sum = 0;
      for (std::size_t j = 0; j < padded; ++j) {
        const std::int8_t x = i < query.tokens && j < query.d ? tokens[i * query.d + j] : std::int8_t{0};
        panel[(j / kLaneDims * lanes + lane) * kLaneDims + j % kLaneDims] = x;
        sum += x;
      }
      query.starts[i] = -kTokenBias * sum;
    }
  }
}

// ---- documents

struct Document {
  const char* tokens;
  std::size_t count;
  const float* scales;
};

Document document_at(const Maxsim& job, std::int64_t number) {
  if (number < 0) return {nullptr, 0, nullptr};
  const std::int64_t begin = job.begins[number], end = job.ends[number];
  return {static_cast<const char*>(job.tokens) + static_cast<std::size_t>(begin) * token_bytes(job.type, job.d),
          end > begin ? static_cast<std::size_t>(end - begin) : 0,
          job.scales == nullptr ? nullptr : job.scales + begin};
}

// Tiles of equal height, give or take one: a last tile of a row or two would wait for its own sums.
//
// A tile reads many tokens a line at a time, which no CPU takes for a stream: while it is multiplied, what is read
// later is fetched, of this document or of the next one. Bytes are widened token after token, and come by themselves
// unless the next document lies elsewhere.
template <TokenType kType>
void take_document(const Query& query, const Document& document, const Document& next, void* room) {
  const std::size_t bytes = token_bytes(kType, query.d), tiles = (document.count + kTokens - 1) / kTokens;
  const std::size_t height = document.count / tiles, higher = document.count % tiles;
  const char *tokens = document.tokens, *coming = next.tokens, *end = next.tokens + next.count * bytes;
  const bool scattered = next.count != 0 && next.tokens != document.tokens + document.count * bytes;
  const std::size_t ahead = scattered && is_whole(kType) ? next.count * bytes / tiles / 64 + 1 : 0;
  const float* scales = document.scales;
  for (std::size_t i = 0; i < tiles; ++i) {
    const std::size_t rows = height + (i < higher ? 1 : 0);
    for (std::size_t line = 0; line < ahead && coming < end; ++line, coming += 64) prefetch(coming);
    Tile tile = read_tile<kType>(tokens, rows, query.d, room);
    tile.scales = scales;
    tile.coming = scattered ? next.tokens + (tokens - document.tokens) : tokens + kAhead * bytes;
    tile.coming_step = bytes * kLineValues / query.d;
    for (std::size_t first = 0; first < query.vectors; first += kVectors) {
      const std::size_t wide = query.vectors - first < kVectors ? query.vectors - first : kVectors;
      kTiles<is_whole(kType)>.of[rows][wide](tile, query, first);
    }
    tokens += rows * bytes;
    if (scales != nullptr) scales += rows;
  }
}

template <TokenType kType>
void score_documents(const Maxsim& job, const Query& query, const std::int64_t* which, float* scores, void* room) {
  const auto number = [&](std::size_t i) { return which == nullptr ? static_cast<std::int64_t>(i) : which[i]; };
  Document next = job.count == 0 ? Document{} : document_at(job, number(0));
  for (std::size_t i = 0; i < job.count; ++i) {
    const Document document = next;
    next = i + 1 < job.count ? document_at(job, number(i + 1)) : Document{};
    scores[i] = -__builtin_inff();
    if (document.count == 0) continue;
    for (std::size_t lane = 0; lane < query.vectors * kF32Lanes; ++lane) query.best[lane] = -__builtin_inff();
    take_document<kType>(query, document, next, room);
    double total = 0.0;
    for (std::size_t q = 0; q < query.tokens; ++q) {
      total += query.scales == nullptr ? double{query.best[q]} : double{query.scales[q]} * query.best[q];
    }
    scores[i] = static_cast<float>(total);
  }
}

std::size_t vectors_of(std::size_t tokens) { return (tokens + kF32Lanes - 1) / kF32Lanes; }

}  // namespace

std::size_t maxsim_scratch(std::size_t most, std::size_t d, TokenType type) {
  const std::size_t lanes = vectors_of(most) * kF32Lanes, wide = padded_bytes(d);
  const std::size_t query =
      is_whole(type) ? round_up(lanes * wide * sizeof(QueryByte)) + round_up(lanes * 4) : round_up(lanes * d * 4);
  return query + round_up(lanes * 4) + round_up(kTokens * wide * (is_whole(type) ? sizeof(TokenByte) : 4));
}

void maxsim_score(const Maxsim& job) {
  using ScoreFn = void (*)(const Maxsim&, const Query&, const std::int64_t*, float*, void*);
  constexpr ScoreFn kScore[] = {score_documents<TokenType::kF32>, score_documents<TokenType::kF16>,
                                score_documents<TokenType::kBF16>, score_documents<TokenType::kI8>,
                                score_documents<TokenType::kN4>};
  const bool whole = is_whole(job.type);
  for (std::size_t i = 0; i < job.nq; ++i) {
    const auto first = static_cast<std::size_t>(job.query_offsets[i]);
    Query query{};
    query.tokens = static_cast<std::size_t>(job.query_offsets[i + 1]) - first;
    query.vectors = vectors_of(query.tokens);
    query.d = job.d;
    query.scales = whole && job.query_scales != nullptr ? job.query_scales + first : nullptr;
    Scratch scratch{static_cast<char*>(job.scratch)};
    const std::size_t lanes = query.vectors * kF32Lanes;
    if (whole) {
      query.bytes = scratch.take<QueryByte>(lanes * padded_bytes(job.d));
      query.starts = scratch.take<std::int32_t>(lanes);
      pack_bytes(static_cast<const std::int8_t*>(job.queries) + first * job.d, query);
    } else {
      query.panels = scratch.take<float>(lanes * job.d);
      pack_floats(static_cast<const float*>(job.queries) + first * job.d, query);
    }
    query.best = scratch.take<float>(lanes);
    void* room = scratch.take<char>(kTokens * padded_bytes(job.d) * (whole ? sizeof(TokenByte) : 4));
    const std::int64_t* which = job.which == nullptr ? nullptr : job.which + i * job.count;
    kScore[static_cast<int>(job.type)](job, query, which, job.scores + i * job.count, room);
  }
}

}  // namespace tessella::TSL_LEVEL

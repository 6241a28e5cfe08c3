// Sums over tiles of pairs of positions: similarities, and what rows retrieve by their weights.
#pragma once

#include <cstdint>

#include "axial_attention_tiles.cuh"

namespace deeplab2_d2 {
namespace {

template <typename T>
using Pairs = T[kLane][kLane];

template <typename T>
__device__ __forceinline__ void add_scaled(const Pairs<T>& products, T factor, Pairs<T>& sums) {
#pragma unroll
  for (int x = 0; x < kLane; ++x) {
#pragma unroll
    for (int y = 0; y < kLane; ++y) {
      sums[x][y] = fma(products[x][y], factor, sums[x][y]);
    }
  }
}

// Adds products of rows and columns over the channels that are staged.
template <typename T>
__device__ __forceinline__ void multiply(const T* rows, const T* columns, int num_channels,
                                         T factor, Pairs<T>& sums) {
  Pairs<T> products = {};
#pragma unroll 2
  for (int c = 0; c < num_channels; ++c) {
    const Four<T> a = load_four(rows + c * SharedTile<T>::kRows);
    const Four<T> b = load_four(columns + c * kColumns);
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
#pragma unroll
      for (int y = 0; y < kLane; ++y) {
        products[x][y] = fma(a.of[x], b.of[y], products[x][y]);
      }
    }
  }
  add_scaled(products, factor, sums);
}

// The same of rows, or of columns, and diagonals. diagonals: of row 3 and column 0 of the lane.
template <bool kIsOfRows, typename T>
__device__ __forceinline__ void multiply_diagonals(const T* lines, const T* diagonals,
                                                   int num_channels, T factor, Pairs<T>& sums) {
  constexpr int kLineStride = kIsOfRows ? SharedTile<T>::kRows : kColumns;
  Pairs<T> products = {};
#pragma unroll 2
  for (int c = 0; c < num_channels; ++c) {
    const Four<T> a = load_four(lines + c * kLineStride);
    const Four<T> low = load_four(diagonals + c * SharedTile<T>::kWindow);
    const Four<T> high = load_four(diagonals + c * SharedTile<T>::kWindow + kLane);
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
#pragma unroll
      for (int y = 0; y < kLane; ++y) {
        const int z = y - x + kLane - 1;
        const T b = z < kLane ? low.of[z % kLane] : high.of[z % kLane];
        products[x][y] = fma(a.of[kIsOfRows ? x : y], b, products[x][y]);
      }
    }
  }
  add_scaled(products, factor, sums);
}

// The three products of a similarity; of one both sources exist or it is left out.
template <typename x_t, typename y_t, typename z_t, typename T>
struct Similarity {
  int32_t depth;
  Source<x_t, T> x_with_y;
  Source<y_t, T> y_with_x;
  T xy;  // factor
  Source<x_t, T> x_with_z;
  Source<z_t, T> z_with_x;
  T xz;
  Source<y_t, T> y_with_z;
  Source<z_t, T> z_with_y;
  T yz;
};

// Adds a tile's similarities. All threads of the block call it; without is_active one only loads.
template <typename x_t, typename y_t, typename z_t, typename T>
__device__ __forceinline__ void add_similarities(const Similarity<x_t, y_t, z_t, T>& of,
                                                 const Corner& corner, bool is_active,
                                                 SharedTile<T>& shared, Pairs<T>& sums) {
  using Tile = SharedTile<T>;
  const Lane lane{};
  const bool has_xy = of.x_with_y.exists() && of.y_with_x.exists();
  const bool has_xz = of.x_with_z.exists() && of.z_with_x.exists();
  const bool has_yz = of.y_with_z.exists() && of.z_with_y.exists();
  // What is multiplied twice is staged once.
  const int x = has_xy && of.x_with_z.values == of.x_with_y.values ? 0 : 1;
  const int y = has_xy && of.y_with_z.values == of.y_with_x.values ? 0 : 1;
  const int z = has_xz && of.z_with_y.values == of.z_with_x.values ? 0 : 1;
  auto& factors = shared.factors;
  for (int32_t first = 0; first < of.depth; first += Tile::kDepth) {
    const int n = min(Tile::kDepth, of.depth - first);
    __syncthreads();
    if (has_xy) {
      stage_rows<Tile::kRows>(of.x_with_y, first, n, corner.x, factors.x[0]);
      stage_rows<kColumns>(of.y_with_x, first, n, corner.y, factors.y[0]);
    }
    if (has_xz) {
      stage_rows<Tile::kWindow>(of.z_with_x, first, n, corner.z, factors.z[0]);
    }
    if (has_xz && x == 1) {
      stage_rows<Tile::kRows>(of.x_with_z, first, n, corner.x, factors.x[1]);
    }
    if (has_yz && y == 1) {
      stage_rows<kColumns>(of.y_with_z, first, n, corner.y, factors.y[1]);
    }
    if (has_yz && z == 1) {
      stage_rows<Tile::kWindow>(of.z_with_y, first, n, corner.z, factors.z[1]);
    }
    __syncthreads();
    if (!is_active) {
      continue;
    }
    const int diagonal = Tile::kRows - kLane + lane.column - lane.row;
    if (has_xy) {
      multiply(factors.x[0] + lane.row, factors.y[0] + lane.column, n, of.xy, sums);
    }
    if (has_xz) {
      multiply_diagonals<true>(factors.x[x] + lane.row, factors.z[0] + diagonal, n, of.xz, sums);
    }
    if (has_yz) {
      multiply_diagonals<false>(factors.y[y] + lane.column, factors.z[z] + diagonal, n, of.yz,
                                sums);
    }
  }
}

template <typename T>
__device__ __forceinline__ void store_weights(const Pairs<T>& weights, SharedTile<T>& shared) {
  const Lane lane{};
#pragma unroll
  for (int x = 0; x < kLane; ++x) {
    Four<T> row;
    for (int y = 0; y < kLane; ++y) {
      row.of[y] = weights[x][y];
    }
    store_four(row, shared.weights + (lane.row + x) * kStride + lane.column);
  }
}

// Adds to what 4 rows retrieve in 4 channels, by the warp's own stored weights, of num_columns
// columns (of_y) and of their diagonals (of_z), from the channel first_channel on. A source that
// does not exist is left out. All threads of the block call it.
template <typename y_t, typename z_t, typename T>
__device__ __forceinline__ void retrieve(const Source<y_t, T>& y_source,
                                         const Source<z_t, T>& z_source, int32_t first_channel,
                                         int32_t depth, const Corner& corner, int num_columns,
                                         bool is_active, SharedTile<T>& shared, Pairs<T>& of_y,
                                         Pairs<T>& of_z) {
  using Tile = SharedTile<T>;
  const Lane lane{};
  __syncthreads();
  if (y_source.exists()) {
    stage_columns<kColumns>(y_source, first_channel, depth, corner.y, shared.retrieved.y);
  }
  if (z_source.exists()) {
    stage_columns<Tile::kWindow>(z_source, first_channel, depth, corner.z, shared.retrieved.z);
  }
  __syncthreads();
#pragma unroll 1
  for (int first = 0; is_active && first < num_columns; first += kLane) {
    Four<T> weights[kLane];
#pragma unroll
    for (int x = 0; x < kLane; ++x) {
      weights[x] = load_four(shared.weights + (lane.row + x) * kStride + first);
    }
    if (y_source.exists()) {
#pragma unroll
      for (int y = 0; y < kLane; ++y) {
        const Four<T> values = load_four(shared.retrieved.y + (first + y) * kStride + lane.column);
#pragma unroll
        for (int x = 0; x < kLane; ++x) {
#pragma unroll
          for (int c = 0; c < kLane; ++c) {
            of_y[x][c] = fma(weights[x].of[y], values.of[c], of_y[x][c]);
          }
        }
      }
    }
    if (z_source.exists()) {
      const int diagonal = Tile::kRows - kLane + first - lane.row;
#pragma unroll
      for (int z = 0; z < 2 * kLane - 1; ++z) {
        const Four<T> values =
            load_four(shared.retrieved.z + (diagonal + z) * kStride + lane.column);
#pragma unroll
        for (int x = 0; x < kLane; ++x) {
          const int y = z + x - kLane + 1;
          if (y >= 0 && y < kLane) {
#pragma unroll
            for (int c = 0; c < kLane; ++c) {
              of_z[x][c] = fma(weights[x].of[y], values.of[c], of_z[x][c]);
            }
          }
        }
      }
    }
  }
}

// What 4 rows have in 4 channels, to (channels, rows).
template <typename T>
__device__ __forceinline__ void store_results(const Pairs<T>& values, T* results) {
  const Lane lane{};
#pragma unroll
  for (int c = 0; c < kLane; ++c) {
    Four<T> column;
    for (int x = 0; x < kLane; ++x) {
      column.of[x] = values[x][c];
    }
    store_four(column, results + (lane.column + c) * SharedTile<T>::kResultStride + lane.row);
  }
}

// Over the lanes that have the same rows.
template <typename T>
__device__ __forceinline__ T sum_across(T value) {
  for (int distance = kLanesOfRow / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

template <typename T>
__device__ __forceinline__ T largest_across(T value) {
  for (int distance = kLanesOfRow / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

}  // namespace
}  // namespace deeplab2_d2

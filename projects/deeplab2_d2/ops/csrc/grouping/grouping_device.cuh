// The nearest center of each pixel of a block, in a CUDA kernel.
#pragma once

#include <cstdint>

#include "../warp.cuh"

namespace deeplab2_d2 {

// A block works on a tile of the output: its pixels point to few places, so that few centers can be
// nearest to any of them.
constexpr int32_t kTileWidth = 32;
constexpr int32_t kTileHeight = 8;
constexpr int32_t kTileThreads = kTileWidth * kTileHeight;

// The pixel of a thread; blockIdx.x counts the tiles in raster order.
struct TilePixel {
  int32_t y, x;
  bool is_inside;
};

inline int64_t count_tiles(int64_t height, int64_t width) {
  return ((height + kTileHeight - 1) / kTileHeight) * ((width + kTileWidth - 1) / kTileWidth);
}

__device__ __forceinline__ TilePixel tile_pixel(int32_t height, int32_t width) {
  const int32_t tiles_in_row = static_cast<int32_t>((int64_t(width) + kTileWidth - 1) / kTileWidth);
  const int32_t tile_y = static_cast<int32_t>(blockIdx.x) / tiles_in_row;
  const int32_t tile_x = static_cast<int32_t>(blockIdx.x) % tiles_in_row;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int64_t y = int64_t(tile_y) * kTileHeight + thread / kTileWidth;
  const int64_t x = int64_t(tile_x) * kTileWidth + thread % kTileWidth;
  return {static_cast<int32_t>(y), static_cast<int32_t>(x), y < height && x < width};
}

// Integers in the order of the floats (NaN left out), and back.
__device__ __forceinline__ int32_t ordered_bits(float value) {
  const int32_t bits = __float_as_int(value);
  return bits >= 0 ? bits : bits ^ 0x7FFFFFFF;
}

__device__ __forceinline__ float from_ordered_bits(int32_t bits) {
  return __int_as_float(bits >= 0 ? bits : bits ^ 0x7FFFFFFF);
}

// Shared memory of a block that groups its pixels.
struct GroupingTile {
  int32_t min_y, max_y, min_x, max_x;  // ordered bits of the rectangle that the targets span
  int32_t upper_bound;                 // ordered bits, a squared distance
  int32_t num_candidates;
  int32_t candidates[kTileThreads];
  float center_y[kTileThreads], center_x[kTileThreads];
};

struct Rectangle {
  float min_y, max_y, min_x, max_x;
};

// Squared distance from a center to the nearest point of the rectangle.
__device__ __forceinline__ float distance_to_nearest(const Rectangle& r, float y, float x) {
  const float delta_y = fmaxf(fmaxf(r.min_y - y, y - r.max_y), 0.0f);
  const float delta_x = fmaxf(fmaxf(r.min_x - x, x - r.max_x), 0.0f);
  return delta_y * delta_y + delta_x * delta_x;
}

// Squared distance from a center to its farthest point.
__device__ __forceinline__ float distance_to_farthest(const Rectangle& r, float y, float x) {
  const float delta_y = fminf(r.min_y - y, y - r.max_y);
  const float delta_x = fminf(r.min_x - x, x - r.max_x);
  return delta_y * delta_y + delta_x * delta_x;
}

// The rectangle of the wanted targets; upper_bound is set to infinity.
__device__ __forceinline__ Rectangle bound_targets(GroupingTile& tile, bool is_wanted,
                                                   float target_y, float target_x) {
  constexpr int32_t kLowest = -0x7FFFFFFF - 1, kHighest = 0x7FFFFFFF;
  if (threadIdx.x == 0) {
    tile.min_y = tile.min_x = kHighest;
    tile.max_y = tile.max_x = kLowest;
    tile.upper_bound = ordered_bits(__int_as_float(0x7F800000));
  }
  __syncthreads();
  const int32_t y = ordered_bits(target_y), x = ordered_bits(target_x);
  const int32_t min_y = smallest_of_warp(is_wanted ? y : kHighest);
  const int32_t max_y = largest_of_warp(is_wanted ? y : kLowest);
  const int32_t min_x = smallest_of_warp(is_wanted ? x : kHighest);
  const int32_t max_x = largest_of_warp(is_wanted ? x : kLowest);
  if (lane_of_thread() == 0) {
    atomicMin(&tile.min_y, min_y);
    atomicMax(&tile.max_y, max_y);
    atomicMin(&tile.min_x, min_x);
    atomicMax(&tile.max_x, max_x);
  }
  __syncthreads();
  return {from_ordered_bits(tile.min_y), from_ordered_bits(tile.max_y),
          from_ordered_bits(tile.min_x), from_ordered_bits(tile.max_x)};
}

// k + 1 of the center nearest to each thread's target, the first of equal ones; 0 if none is at a
// finite distance.
//
// centers: (count, 2) `(y, x)` of one image. Called by all threads of a block of kTileThreads;
// those that want nothing get 0. A center is left out if even its nearest point of the targets'
// rectangle is farther than another center's farthest point.
__device__ __forceinline__ int32_t nearest_center(GroupingTile& tile, const float* centers,
                                                  int32_t count, bool is_wanted, float target_y,
                                                  float target_x) {
  // Bounds are as exact as distances: a few roundings of 2**-24 each.
  constexpr float kSlack = 1.0f + 1e-5f;
  if (!__syncthreads_or(is_wanted)) {
    return 0;
  }
  const bool is_finite = target_y * 0.0f + target_x * 0.0f == 0.0f;
  const bool can_bound = __syncthreads_and(!is_wanted || is_finite);
  const Rectangle targets = bound_targets(tile, is_wanted, target_y, target_x);
  int32_t bound = ordered_bits(__int_as_float(0x7F800000));
  for (int32_t k = static_cast<int32_t>(threadIdx.x); k < count; k += kTileThreads) {
    const float farthest = distance_to_farthest(targets, centers[2 * k], centers[2 * k + 1]);
    bound = min(bound, ordered_bits(farthest));
  }
  bound = smallest_of_warp(bound);
  if (lane_of_thread() == 0) {
    atomicMin(&tile.upper_bound, bound);
  }
  __syncthreads();
  const float upper_bound = from_ordered_bits(tile.upper_bound);
  float distance = __int_as_float(0x7F800000);  // infinity
  int32_t nearest = 0;
  for (int32_t first = 0; first < count; first += kTileThreads) {
    if (threadIdx.x == 0) {
      tile.num_candidates = 0;
    }
    __syncthreads();
    const int32_t k = first + static_cast<int32_t>(threadIdx.x);
    if (k < count) {
      const float y = centers[2 * k], x = centers[2 * k + 1];
      if (!can_bound || !(distance_to_nearest(targets, y, x) > upper_bound * kSlack)) {
        const int32_t place = atomicAdd(&tile.num_candidates, 1);
        tile.candidates[place] = k + 1;
        tile.center_y[place] = y;
        tile.center_x[place] = x;
      }
    }
    __syncthreads();
    const int32_t num_candidates = is_wanted ? tile.num_candidates : 0;
    for (int32_t i = 0; i < num_candidates; ++i) {
      const float delta_y = tile.center_y[i] - target_y;
      const float delta_x = tile.center_x[i] - target_x;
      const float squared = delta_y * delta_y + delta_x * delta_x;
      // Candidates are in any order.
      if (squared < distance || (squared == distance && tile.candidates[i] < nearest)) {
        distance = squared;
        nearest = tile.candidates[i];
      }
    }
    __syncthreads();
  }
  return nearest;
}

}  // namespace deeplab2_d2

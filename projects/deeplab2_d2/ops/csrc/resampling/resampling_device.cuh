// Bilinear resampling with aligned corners in a CUDA kernel; operation by operation that of
// ops/reference/resampling.py. Compiled with -fmad=false, so that nothing is contracted.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// One output coordinate's place in the source.
struct Position {
  int32_t lower, upper;
  float weight;
};

__device__ __forceinline__ Position position_of(int32_t i, float scale, int32_t source_length) {
  const float position = static_cast<float>(i) * scale;
  Position result;
  result.lower = min(static_cast<int32_t>(position), source_length - 1);
  result.upper = min(result.lower + 1, source_length - 1);
  result.weight = position - static_cast<float>(result.lower);
  return result;
}

__device__ __forceinline__ float lerp(float a, float b, float weight) {
  return a + (b - a) * weight;
}

// The map (width columns) times a factor at (y, x): first along y, then along x.
template <typename scalar_t>
__device__ __forceinline__ float sample(const scalar_t* map, int32_t width, const Position& y,
                                        const Position& x, float factor) {
  const scalar_t* above = map + static_cast<int64_t>(y.lower) * width;
  const scalar_t* below = map + static_cast<int64_t>(y.upper) * width;
  const float left = lerp(static_cast<float>(above[x.lower]) * factor,
                          static_cast<float>(below[x.lower]) * factor, y.weight);
  const float right = lerp(static_cast<float>(above[x.upper]) * factor,
                           static_cast<float>(below[x.upper]) * factor, y.weight);
  return lerp(left, right, x.weight);
}

}  // namespace deeplab2_d2

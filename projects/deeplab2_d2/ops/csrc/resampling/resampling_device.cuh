// Bilinear resampling with aligned corners in a CUDA kernel; operation by operation that of
// ops/reference/resampling.py. Compiled with -fmad=false, so that nothing is contracted.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// One output coordinate's place in the source.
template <typename scalar_t>
struct AxisPosition {
  int32_t lower, upper;
  scalar_t weight;  // of the source pixel `upper`
};

using Position = AxisPosition<float>;

template <typename scalar_t>
__device__ __forceinline__ AxisPosition<scalar_t> position_of(int32_t i, scalar_t scale,
                                                              int32_t source_length) {
  const scalar_t position = static_cast<scalar_t>(i) * scale;
  AxisPosition<scalar_t> result;
  result.lower = min(static_cast<int32_t>(position), source_length - 1);
  result.upper = min(result.lower + 1, source_length - 1);
  result.weight = position - static_cast<scalar_t>(result.lower);
  return result;
}

template <typename scalar_t>
__device__ __forceinline__ scalar_t lerp(scalar_t a, scalar_t b, scalar_t weight) {
  return a + (b - a) * weight;
}

// The map (width columns) times a factor at (y, x): first along y, then along x.
template <typename value_t, typename scalar_t>
__device__ __forceinline__ scalar_t sample(const value_t* map, int32_t width,
                                           const AxisPosition<scalar_t>& y,
                                           const AxisPosition<scalar_t>& x, scalar_t factor) {
  const value_t* above = map + static_cast<int64_t>(y.lower) * width;
  const value_t* below = map + static_cast<int64_t>(y.upper) * width;
  const scalar_t left = lerp(static_cast<scalar_t>(above[x.lower]) * factor,
                             static_cast<scalar_t>(below[x.lower]) * factor, y.weight);
  const scalar_t right = lerp(static_cast<scalar_t>(above[x.upper]) * factor,
                              static_cast<scalar_t>(below[x.upper]) * factor, y.weight);
  return lerp(left, right, x.weight);
}

// The same; if the map has the output's size already, its own value, without neighbours of weight
// 0, which might not be finite.
template <typename value_t, typename scalar_t>
__device__ __forceinline__ scalar_t sample_or_copy(const value_t* map, int32_t width,
                                                   const AxisPosition<scalar_t>& y,
                                                   const AxisPosition<scalar_t>& x, scalar_t factor,
                                                   bool is_identity) {
  if (is_identity) {
    return static_cast<scalar_t>(map[static_cast<int64_t>(y.lower) * width + x.lower]) * factor;
  }
  return sample(map, width, y, x, factor);
}

// Whether the output's pixels are the map's.
inline bool is_identity(int64_t map_height, int64_t map_width, const int64_t* size,
                        const double* scale) {
  return map_height == size[0] && map_width == size[1] && scale[0] == 1.0 && scale[1] == 1.0;
}

}  // namespace deeplab2_d2

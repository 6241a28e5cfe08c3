// The threads of a warp, and what they find together. All lanes call these functions.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ __forceinline__ int32_t lane_of_thread() {
  return static_cast<int32_t>(threadIdx.x) % kWarp;
}

__device__ __forceinline__ unsigned sum_of_warp(unsigned value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

__device__ __forceinline__ int32_t smallest_of_warp(int32_t value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = min(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

__device__ __forceinline__ int32_t largest_of_warp(int32_t value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Sum over the lanes before this one; `total`: over the whole warp.
__device__ __forceinline__ int32_t sum_of_lanes_before(int32_t value, int32_t& total) {
  int32_t sum = value;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int32_t other = __shfl_up_sync(kAllLanes, sum, distance);
    sum += lane_of_thread() >= distance ? other : 0;
  }
  total = __shfl_sync(kAllLanes, sum, kWarp - 1);
  return sum - value;
}

}  // namespace deeplab2_d2

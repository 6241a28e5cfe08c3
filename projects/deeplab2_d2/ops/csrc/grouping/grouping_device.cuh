// The nearest center of one pixel, in a CUDA kernel.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// centers: (count, 2) `(y, x)` of one image. k + 1 of the nearest, the first of equal ones.
__device__ __forceinline__ int32_t nearest_center(const float* centers, int32_t count,
                                                  float target_y, float target_x) {
  float distance = __int_as_float(0x7F800000);  // infinity
  int32_t nearest = 0;
  for (int32_t k = 0; k < count; ++k) {
    const float delta_y = centers[2 * k] - target_y;
    const float delta_x = centers[2 * k + 1] - target_x;
    const float squared = delta_y * delta_y + delta_x * delta_x;
    if (squared < distance) {
      distance = squared;
      nearest = k + 1;
    }
  }
  return nearest;
}

}  // namespace deeplab2_d2

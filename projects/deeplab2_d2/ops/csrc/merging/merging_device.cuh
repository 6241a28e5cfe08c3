// The row of the segment table of a pixel, and its rectangle, in a CUDA kernel.
#pragma once

#include "merging_device.h"

namespace deeplab2_d2 {

__device__ __forceinline__ bool is_thing(const ThingFlags& flags, int32_t class_id) {
  return (flags.bits[class_id / 32] >> (class_id % 32)) & 1;
}

// Center k is row k, stuff class c row K + c; -1 for void and for things without a center.
__device__ __forceinline__ int32_t segment_row(const ThingFlags& flags, int32_t class_id,
                                               int32_t instance, int32_t num_classes,
                                               int32_t num_centers) {
  if (class_id < 0 || class_id >= num_classes) {
    return -1;
  }
  if (!is_thing(flags, class_id)) {
    return num_centers + class_id;
  }
  return instance > 0 && instance <= num_centers ? instance - 1 : -1;
}

// Most calls change nothing: a plain look spares the atomic, whose order does not reach the result.
__device__ __forceinline__ void lower_to(int32_t* smallest, int32_t value) {
  if (value < *static_cast<volatile int32_t*>(smallest)) {
    atomicMin(smallest, value);
  }
}

__device__ __forceinline__ void raise_to(int32_t* largest, int32_t value) {
  if (value > *static_cast<volatile int32_t*>(largest)) {
    atomicMax(largest, value);
  }
}

}  // namespace deeplab2_d2

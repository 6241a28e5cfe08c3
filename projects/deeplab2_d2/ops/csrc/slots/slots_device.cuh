// Upsampling, arg-max and softmax over the slots of a thread's pixels, in a CUDA kernel; float by
// float that of ops/reference/slots.py.
#pragma once

#include <cstdint>

#include "../exponential.h"
#include "../merging/merging_device.cuh"
#include "../ordering.h"
#include "../resampling/resampling_device.cuh"
#include "../warp.cuh"
#include "slots.h"

namespace deeplab2_d2 {

// A warp works on a tile of kLanesAcross x kLanesDown threads, each on a few pixels of a row.
constexpr int kLanesAcross = 8;
constexpr int kLanesDown = kWarp / kLanesAcross;
constexpr int kSlotWarps = 2;

// The map of all slots, and the part of the output that is computed from it.
struct SlotFrame {
  int32_t num_slots, map_height, map_width, height, width;
  float scale_y, scale_x;
};

// Options of a call, by value.
struct SlotLimits {
  bool is_mask_wise;
  float thing_threshold, stuff_threshold, mask_threshold, overlap_threshold;
  double class_weight, mask_weight;
  int64_t label_divisor, thing_area_limit, stuff_area_limit;
};

// Whether a slot of this class and probability is confident.
__device__ __forceinline__ bool is_confident(const SlotLimits& limits, const ThingFlags& flags,
                                             int32_t category, float confidence) {
  return confidence >=
         (is_thing(flags, category) ? limits.thing_threshold : limits.stuff_threshold);
}

// exp_nonpositive() bit by bit, without its slow conversions: adding 1.5 * 2**23, rounded up, to
// a number of at most 0 leaves it, truncated, in the lowest bits. NaN stays NaN.
__device__ __forceinline__ float exp_on_device(float x) {
  constexpr float kShift = 12582912.0f;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = __fadd_ru(x * 1.44269504f - 0.5f, kShift);
  const unsigned power = (__float_as_uint(shifted) << 23) + (127u << 23);
  return exp_reduced(x, shifted - kShift) * __uint_as_float(power);
}

// The slots that a softmax is over, ascending; in shared memory.
struct SlotList {
  int32_t size;
  bool has_any;  // else confidences are 0; mask-wise, any slot above the lower threshold counts
  int16_t slots[kMaxSlots];
};

// Called by all threads of a block. Mask-wise all slots count, pixel-wise the confident ones.
__device__ __forceinline__ void list_slots(int32_t num_slots, const SlotLimits& limits,
                                           const ThingFlags& flags, const int32_t* category,
                                           const float* confidence, SlotList& list) {
  if (threadIdx.x < kWarp) {
    const int32_t lane = lane_of_thread();
    const float lowest = fminf(limits.thing_threshold, limits.stuff_threshold);
    int32_t size = 0;
    unsigned passing = 0;
    for (int32_t first = 0; first < num_slots; first += kWarp) {
      const int32_t s = first + lane;
      const bool exists = s < num_slots;
      const bool is_listed = exists && (limits.is_mask_wise ||
                                        is_confident(limits, flags, category[s], confidence[s]));
      const unsigned listed = __ballot_sync(kAllLanes, is_listed);
      passing |= __ballot_sync(kAllLanes, exists && confidence[s] >= lowest);
      if (is_listed) {
        list.slots[size + __popc(listed & ((1u << lane) - 1))] = static_cast<int16_t>(s);
      }
      size += __popc(listed);
    }
    if (lane == 0) {
      list.size = size;
      list.has_any = limits.is_mask_wise ? passing != 0 : size > 0;
    }
  }
  __syncthreads();
}

// Where a thread's kPixels pixels of a row lie in the map. They are between kColumns columns: two
// if all have the same; three if some are between the first two and the others between the last.
// One column: the pixel, a single one, is the map's own.
template <int kPixels, int kColumns>
struct TilePixels {
  int32_t y, x;  // of the first pixel; y or x may be beyond the output
  float y_weight, x_weight[kPixels];
  bool is_later[kPixels];                    // between the last two columns
  int32_t above[kColumns], below[kColumns];  // in a slot's map

  __device__ TilePixels(const SlotFrame& frame, int64_t tile) {
    constexpr int64_t kPixelsAcross = kLanesAcross * kPixels;
    const int64_t tiles_in_row = (frame.width + kPixelsAcross - 1) / kPixelsAcross;
    const int64_t lane = lane_of_thread();
    // Beyond the output, places are those of its last pixel.
    const int64_t own_y = tile / tiles_in_row * kLanesDown + lane / kLanesAcross;
    const int64_t own_x = tile % tiles_in_row * kPixelsAcross + lane % kLanesAcross * kPixels;
    y = static_cast<int32_t>(min(own_y, static_cast<int64_t>(frame.height)));
    x = static_cast<int32_t>(min(own_x, static_cast<int64_t>(frame.width)));
    const Position row = position_of(min(y, frame.height - 1), frame.scale_y, frame.map_height);
    int32_t column[kColumns];
    for (int k = 0; k < kPixels; ++k) {
      const int32_t own = min(x, frame.width - 1 - k) + k;
      const Position place = position_of(own, frame.scale_x, frame.map_width);
      if (k == 0) {
        column[0] = place.lower;
      }
      is_later[k] = place.lower > column[0];
      x_weight[k] = place.weight;
    }
    for (int c = 0; c < kColumns; ++c) {
      column[c] = min(column[0] + c, frame.map_width - 1);
      above[c] = row.lower * frame.map_width + column[c];
      below[c] = row.upper * frame.map_width + column[c];
    }
    y_weight = row.weight;
  }

  __device__ __forceinline__ bool is_inside(const SlotFrame& frame, int k) const {
    return y < frame.height && x < frame.width - k;
  }

  // The logits of a slot.
  template <typename value_t>
  __device__ __forceinline__ void upsample(const value_t* map, float (&values)[kPixels]) const {
    if constexpr (kColumns == 1) {
      // Neighbours of weight 0 might not be finite.
      values[0] = static_cast<float>(map[above[0]]);
    } else {
      float column[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        column[c] =
            lerp(static_cast<float>(map[above[c]]), static_cast<float>(map[below[c]]), y_weight);
      }
      for (int k = 0; k < kPixels; ++k) {
        const bool later = kColumns > 2 && is_later[k];
        const float left = later ? column[kColumns - 2] : column[0];
        const float right = later ? column[kColumns - 1] : column[1];
        values[k] = lerp(left, right, x_weight[k]);
      }
    }
  }
};

// What the slots' logits say of a thread's pixels.
template <int kPixels>
struct PixelSlots {
  int32_t slot[kPixels];    // of the largest logit
  int32_t listed[kPixels];  // of the largest logit among the listed slots; -1 if none is
  bool is_same[kPixels];    // these logits are equal
  float total[kPixels];     // softmax over the listed slots is exp(logit - their largest) / total
  float second[kPixels];    // the largest of these exponentials but that of `listed`
  int32_t second_slot[kPixels];  // -1 if it is no more than a half: its probability under a third
};

// The first of the largest logits among num_slots slots, which slot_at(i) gives in ascending order;
// NaN is larger than numbers. Slot 0 if all are -infinity.
template <typename value_t, int kPixels, int kColumns, typename slot_at_t>
__device__ __forceinline__ void find_largest(const TilePixels<kPixels, kColumns>& pixels,
                                             const value_t* logits, int64_t map_area,
                                             int32_t num_slots, const slot_at_t& slot_at,
                                             float (&best)[kPixels], int32_t (&slot)[kPixels]) {
  for (int k = 0; k < kPixels; ++k) {
    best[k] = -__int_as_float(0x7F800000);  // infinity
    slot[k] = 0;
  }
#pragma unroll 4
  for (int32_t i = 0; i < num_slots; ++i) {
    const int32_t s = slot_at(i);
    float values[kPixels];
    pixels.upsample(logits + s * map_area, values);
    for (int k = 0; k < kPixels; ++k) {
      const bool is_larger = is_new_largest(values[k], best[k]);
      slot[k] = is_larger ? s : slot[k];
      best[k] = is_larger ? values[k] : best[k];
    }
  }
}

// logits: (S, h, w). Sums are in the order of the slots.
template <typename value_t, int kPixels, int kColumns>
__device__ __forceinline__ PixelSlots<kPixels> compare_slots(
    const SlotFrame& frame, const TilePixels<kPixels, kColumns>& pixels, const value_t* logits,
    const SlotList& list) {
  const int64_t map_area = static_cast<int64_t>(frame.map_height) * frame.map_width;
  PixelSlots<kPixels> result;
  float best[kPixels], largest[kPixels];
  find_largest(
      pixels, logits, map_area, frame.num_slots, [](int32_t i) { return i; }, best, result.slot);
  const auto listed_at = [&](int32_t i) { return static_cast<int32_t>(list.slots[i]); };
  const bool are_all = list.size == frame.num_slots, is_any = list.size > 0;
  for (int k = 0; k < kPixels; ++k) {
    largest[k] = best[k];
    result.listed[k] = is_any ? result.slot[k] : -1;
  }
  if (is_any && !are_all) {
    find_largest(pixels, logits, map_area, list.size, listed_at, largest, result.listed);
  }
  for (int k = 0; k < kPixels; ++k) {
    result.is_same[k] = largest[k] == best[k];
    result.total[k] = 0.0f;
    // Two probabilities above a third, of 1 and e over at least 1 + e, need an e above a half.
    result.second[k] = 0.5f;
    result.second_slot[k] = -1;
  }
#pragma unroll 2
  for (int32_t i = 0; i < list.size; ++i) {
    const int32_t s = listed_at(i);
    float values[kPixels];
    pixels.upsample(logits + s * map_area, values);
    for (int k = 0; k < kPixels; ++k) {
      const float term = exp_on_device(values[k] - largest[k]);
      result.total[k] += term;
      if (term > result.second[k] && s != result.listed[k]) {
        result.second[k] = term;
        result.second_slot[k] = s;
      }
    }
  }
  return result;
}

// Calls visit(value, lanes) for each distinct value of a warp's threads, -1 left out: lanes[k] are
// the bits of those whose k-th value it is. All threads of the warp call it, and are told of all.
template <int kCount, typename visit_t>
__device__ __forceinline__ void for_each_value(const int32_t (&values)[kCount],
                                               const visit_t& visit) {
  unsigned left[kCount], lanes[kCount];
  for (int k = 0; k < kCount; ++k) {
    left[k] = __ballot_sync(kAllLanes, values[k] != -1);
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    while (left[k] != 0) {
      const int32_t value = __shfl_sync(kAllLanes, values[k], __ffs(left[k]) - 1);
      for (int j = 0; j < kCount; ++j) {
        lanes[j] = __ballot_sync(kAllLanes, values[j] == value);
        left[j] &= ~lanes[j];
      }
      visit(value, lanes);
    }
  }
}

}  // namespace deeplab2_d2

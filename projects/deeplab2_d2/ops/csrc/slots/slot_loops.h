// Loops over the pixels of a row of mask logits, compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace deeplab2_d2 {

// Output pixels whose logits of all slots are in the cache at a time: 16 map pixels at stride 4.
constexpr int64_t kPixelsAtOnce = 64;
// What a row of the map is padded with, so that no loop needs to stop early.
constexpr int64_t kRowPadding = kPixelsAtOnce;

// A row of the map, blended along y, of each slot: `stride` apart, padded with its last value.
struct SlotRows {
  const float* values;
  int64_t stride, num_slots;
};

// The largest logit of each of kPixelsAtOnce pixels and its slot, and if `second` is given those of
// the second largest (-1 if there is none); ties go to the smaller slot. NaN is larger than
// numbers; there the second means nothing.
struct LargestSlots {
  float* best;
  int32_t* slot;
  float* second;
  int32_t* second_slot;
};

// Upsamples the map columns `rows.values` .. + 15 by 4; pixel x stands at (x % 4) * 16 + x / 4.
//
// values: (S, kPixelsAtOnce), the upsampled logits.
void upsample_by_4(const SlotRows& rows, float* values, const LargestSlots& largest);

// The same for any places of the pixels, which stand in their order.
//
// lower, weight: (kPixelsAtOnce) map column at or left of the pixel, and the weight of the next.
void upsample_at(const SlotRows& rows, const int32_t* lower, const float* weight, float* values,
                 const LargestSlots& largest);

// The same for pixels that are the map's own, without neighbours of weight 0, which might not be
// finite.
void copy_columns(const SlotRows& rows, float* values, const LargestSlots& largest);

// The largest of the logits of some slots; ties go to the smaller slot, NaN is larger than numbers.
void largest_of_slots(const float* values, const int32_t* slots, int64_t num_slots, float* best,
                      int32_t* slot);

// total[x] = sum of exp(value - best[x]) over some slots, in their order.
void sum_exponentials(const float* values, const int32_t* slots, int64_t num_slots,
                      const float* best, float* total);

// ratio[x] = exp(value[x] - best[x]) / total[x]
void softmax_of(const float* value, const float* best, const float* total, float* ratio);

}  // namespace deeplab2_d2

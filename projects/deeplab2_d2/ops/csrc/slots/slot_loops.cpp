#include "slot_loops.h"

#include <limits>

#include "../dispatch.h"
#include "../exponential.h"
#include "../ordering.h"

namespace deeplab2_d2 {
namespace {

constexpr int64_t kColumnsAtOnce = kPixelsAtOnce / 4;

inline __attribute__((always_inline)) void start(const LargestSlots& largest) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
    largest.best[x] = kNothing;
    largest.slot[x] = 0;
  }
  for (int64_t x = 0; largest.second != nullptr && x < kPixelsAtOnce; ++x) {
    largest.second[x] = kNothing;
    largest.second_slot[x] = -1;
  }
}

inline __attribute__((always_inline)) void update(const float* __restrict__ value, int32_t s,
                                                  float* __restrict__ best,
                                                  int32_t* __restrict__ slot) {
  for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
    const bool is_larger = is_new_largest(value[x], best[x]);
    slot[x] = is_larger ? s : slot[x];
    best[x] = is_larger ? value[x] : best[x];
  }
}

inline __attribute__((always_inline)) void update_two(const float* __restrict__ value, int32_t s,
                                                      float* __restrict__ best,
                                                      int32_t* __restrict__ slot,
                                                      float* __restrict__ second,
                                                      int32_t* __restrict__ second_slot) {
  for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
    const bool is_larger = is_new_largest(value[x], best[x]);
    const bool is_second = value[x] > second[x];
    second_slot[x] = is_larger ? slot[x] : (is_second ? s : second_slot[x]);
    second[x] = is_larger ? best[x] : (is_second ? value[x] : second[x]);
    slot[x] = is_larger ? s : slot[x];
    best[x] = is_larger ? value[x] : best[x];
  }
}

inline __attribute__((always_inline)) void update_largest(const float* value, int64_t s,
                                                          const LargestSlots& largest) {
  if (largest.second == nullptr) {
    update(value, static_cast<int32_t>(s), largest.best, largest.slot);
  } else {
    update_two(value, static_cast<int32_t>(s), largest.best, largest.slot, largest.second,
               largest.second_slot);
  }
}

}  // namespace

DEEPLAB2_D2_CLONES
void upsample_by_4(const SlotRows& rows, float* values, const LargestSlots& largest) {
  start(largest);
  for (int64_t s = 0; s < rows.num_slots; ++s) {
    const float* __restrict__ row = rows.values + s * rows.stride;
    float* __restrict__ value = values + s * kPixelsAtOnce;
    for (int64_t k = 0; k < kColumnsAtOnce; ++k) {
      const float left = row[k];
      const float step = row[k + 1] - left;
      value[k] = left + step * 0.0f;  // NaN where the step is not finite
      value[k + kColumnsAtOnce] = left + step * 0.25f;
      value[k + 2 * kColumnsAtOnce] = left + step * 0.5f;
      value[k + 3 * kColumnsAtOnce] = left + step * 0.75f;
    }
    update_largest(value, s, largest);
  }
}

DEEPLAB2_D2_CLONES
void upsample_at(const SlotRows& rows, const int32_t* lower, const float* weight, float* values,
                 const LargestSlots& largest) {
  start(largest);
  for (int64_t s = 0; s < rows.num_slots; ++s) {
    const float* __restrict__ row = rows.values + s * rows.stride;
    float* __restrict__ value = values + s * kPixelsAtOnce;
    for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
      const float left = row[lower[x]];
      value[x] = left + (row[lower[x] + 1] - left) * weight[x];
    }
    update_largest(value, s, largest);
  }
}

DEEPLAB2_D2_CLONES
void copy_columns(const SlotRows& rows, float* values, const LargestSlots& largest) {
  start(largest);
  for (int64_t s = 0; s < rows.num_slots; ++s) {
    const float* __restrict__ row = rows.values + s * rows.stride;
    float* __restrict__ value = values + s * kPixelsAtOnce;
    for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
      value[x] = row[x];
    }
    update_largest(value, s, largest);
  }
}

DEEPLAB2_D2_CLONES
void largest_of_slots(const float* values, const int32_t* slots, int64_t num_slots, float* best,
                      int32_t* slot) {
  start({best, slot, nullptr, nullptr});
  for (int64_t i = 0; i < num_slots; ++i) {
    update(values + slots[i] * kPixelsAtOnce, slots[i], best, slot);
  }
}

DEEPLAB2_D2_CLONES
void sum_exponentials(const float* values, const int32_t* slots, int64_t num_slots,
                      const float* __restrict__ best, float* __restrict__ total) {
  for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
    total[x] = 0.0f;
  }
  for (int64_t i = 0; i < num_slots; ++i) {
    const float* value = values + slots[i] * kPixelsAtOnce;
    for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
      total[x] += exp_nonpositive(value[x] - best[x]);
    }
  }
}

DEEPLAB2_D2_CLONES
void softmax_of(const float* __restrict__ value, const float* __restrict__ best,
                const float* __restrict__ total, float* __restrict__ ratio) {
  for (int64_t x = 0; x < kPixelsAtOnce; ++x) {
    ratio[x] = exp_nonpositive(value[x] - best[x]) / total[x];
  }
}

}  // namespace deeplab2_d2

#include "slot_loops.h"

#include <limits>

#include "../dispatch.h"
#include "../exponential_lanes.h"
#include "../ordering.h"

namespace deeplab2_d2 {
namespace {

constexpr int64_t kColumnsAtOnce = kPixelsAtOnce / 4;

constexpr int kLanes = 8;
using Floats = typename Lanes<float, kLanes>::type;
using Integers = typename Lanes<int32_t, kLanes>::type;
static_assert(kPixelsAtOnce % (4 * kLanes) == 0, "whole vectors");

// The largest values so far of pixels in registers, and perhaps the second ones: see update().
template <bool kHasSecond>
struct Leaders {
  Floats best = Floats{} - std::numeric_limits<float>::infinity();
  Floats second = best;
  Integers slot = Integers{};
  Integers second_slot = Integers{} - 1;

  DEEPLAB2_D2_INLINE void update(const Floats& value, const Integers& s) {
    const Integers is_larger = ~(value <= best) & (best == best);
    if (kHasSecond) {
      const Integers is_second = value > second;
      second_slot = is_larger ? slot : (is_second ? s : second_slot);
      second = is_larger ? best : (is_second ? value : second);
    }
    slot = is_larger ? s : slot;
    best = is_larger ? value : best;
  }

  DEEPLAB2_D2_INLINE void write(const LargestSlots& largest, int64_t x) const {
    store(best, largest.best + x);
    store(slot, largest.slot + x);
    if (kHasSecond) {
      store(second, largest.second + x);
      store(second_slot, largest.second_slot + x);
    }
  }
};

// Of kLanes columns of the map four quarters of a step each.
template <bool kHasSecond>
DEEPLAB2_D2_INLINE void upsample_columns_by_4(const SlotRows& rows, int64_t column, float* values,
                                              const LargestSlots& largest) {
  constexpr float kSteps[4] = {0.0f, 0.25f, 0.5f, 0.75f};  // NaN at 0 where a step is not finite
  Leaders<kHasSecond> leaders[4];
  for (int64_t s = 0; s < rows.num_slots; ++s) {
    const float* row = rows.values + s * rows.stride + column;
    const Integers slot = Integers{} + static_cast<int32_t>(s);
    Floats left, right;
    load(row, left);
    load(row + 1, right);
    const Floats step = right - left;
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) {
      const Floats value = left + step * kSteps[quarter];
      store(value, values + s * kPixelsAtOnce + quarter * kColumnsAtOnce + column);
      leaders[quarter].update(value, slot);
    }
  }
#pragma GCC unroll 4
  for (int quarter = 0; quarter < 4; ++quarter) {
    leaders[quarter].write(largest, quarter * kColumnsAtOnce + column);
  }
}

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
  for (int64_t column = 0; column < kColumnsAtOnce; column += kLanes) {
    if (largest.second == nullptr) {
      upsample_columns_by_4<false>(rows, column, values, largest);
    } else {
      upsample_columns_by_4<true>(rows, column, values, largest);
    }
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
  for (int64_t x = 0; x < kPixelsAtOnce; x += 2 * kLanes) {
    Leaders<false> leaders[2];
    for (int64_t i = 0; i < num_slots; ++i) {
      const float* from = values + slots[i] * kPixelsAtOnce + x;
      for (int v = 0; v < 2; ++v) {
        Floats value;
        load(from + v * kLanes, value);
        leaders[v].update(value, Integers{} + slots[i]);
      }
    }
    for (int v = 0; v < 2; ++v) {
      leaders[v].write({best, slot, nullptr, nullptr}, x + v * kLanes);
    }
  }
}

DEEPLAB2_D2_CLONES
void sum_exponentials(const float* values, const int32_t* slots, int64_t num_slots,
                      const float* best, float* total) {
  // Two vectors at a time, so that the processor has something to do while it waits for one.
  for (int64_t x = 0; x < kPixelsAtOnce; x += 2 * kLanes) {
    Floats largest[2], sums[2];
    for (int v = 0; v < 2; ++v) {
      load(best + x + v * kLanes, largest[v]);
      sums[v] = Floats{};
    }
    for (int64_t i = 0; i < num_slots; ++i) {
      const float* value = values + slots[i] * kPixelsAtOnce + x;
      for (int v = 0; v < 2; ++v) {
        Floats terms;
        load(value + v * kLanes, terms);
        terms = terms - largest[v];
        exp_nonpositive_lanes<kLanes>(terms);
        sums[v] = sums[v] + terms;
      }
    }
    for (int v = 0; v < 2; ++v) {
      store(sums[v], total + x + v * kLanes);
    }
  }
}

DEEPLAB2_D2_CLONES
void softmax_of(const float* value, const float* best, const float* total, float* ratio) {
  for (int64_t x = 0; x < kPixelsAtOnce; x += kLanes) {
    Floats terms, largest, sums;
    load(value + x, terms);
    load(best + x, largest);
    load(total + x, sums);
    terms = terms - largest;
    exp_nonpositive_lanes<kLanes>(terms);
    store(terms / sums, ratio + x);
  }
}

}  // namespace deeplab2_d2

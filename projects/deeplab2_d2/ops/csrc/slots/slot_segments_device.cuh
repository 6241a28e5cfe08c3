// Classes, order, pasting and the segment table of the slots, in CUDA kernels: what
// slot_table.cpp is on the CPU.
#pragma once

#include <cstdint>
#include <limits>

#include "slots_device.cuh"

namespace deeplab2_d2 {
namespace {

// Memory of a call, (N, ...) each; the counts start at 0.
struct SlotWorkspace {
  unsigned long long* mask_unit;  // (S) sums of probabilities above the mask threshold
  unsigned long long* row_unit;   // (S + C) sums of confidences of the segments
  int32_t* mask_count;            // (S) pixels of the map above the mask threshold
  int32_t* area;                  // (S) output pixels that may belong to the slot
  int32_t* pair;                  // (S, S) those that may belong to both, symmetric; mask-wise only
  int32_t* category;              // (S)
  int32_t* priority;              // (S) the smaller wins a pixel; kNever if the slot has none
  int32_t* row;                   // (S) of the segment table, -1 if the segment is absent
};

constexpr int32_t kNever = std::numeric_limits<int32_t>::max();

// Outputs of a call, (N, ...) each.
struct SlotColumns {
  float* confidence;                                      // (S)
  int32_t* rank;                                          // (S)
  int32_t *label, *category, *area, *box, *segment_slot;  // (S + C), the box (S + C, 4)
  float *objectness, *probability;                        // (S + C)
};

// The larger value, NaN before all; among equal ones the smaller channel.
struct LargestLogit {
  double value;
  int32_t channel;

  __device__ void keep_larger(double other, int32_t other_channel) {
    const bool is_equal = other == value || (other != other && value != value);
    if (is_new_largest(other, value) || (is_equal && other_channel < channel)) {
      value = other;
      channel = other_channel;
    }
  }
};

// A warp a slot: its most probable channel but void, and the probability of that.
//
// class_logits: (N, S, C + 1), void last.
__global__ void classify_kernel(const double* class_logits, int32_t num_slots, int32_t num_channels,
                                const __grid_constant__ ChannelClasses classes, int32_t* category,
                                float* confidence) {
  const int32_t lane = lane_of_thread();
  const int32_t s = static_cast<int32_t>((blockIdx.x * blockDim.x + threadIdx.x) / kWarp);
  if (s >= num_slots) {
    return;
  }
  const int64_t slot = blockIdx.y * static_cast<int64_t>(num_slots) + s;
  const double* logits = class_logits + slot * (num_channels + 1);
  LargestLogit largest{-std::numeric_limits<double>::infinity(), 0};
  for (int32_t c = lane; c < num_channels; c += kWarp) {
    largest.keep_larger(logits[c], c);
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, largest.value, distance);
    const int32_t other_channel = __shfl_xor_sync(kAllLanes, largest.channel, distance);
    largest.keep_larger(other, other_channel);
  }
  const double of_void = logits[num_channels];
  const double highest = of_void > largest.value ? of_void : largest.value;
  // Each lane takes the exponential of a channel; all add them up in the order of the channels.
  double total = 0.0;
  for (int32_t first = 0; first <= num_channels; first += kWarp) {
    const int32_t c = first + lane;
    const double term = c <= num_channels ? exp_nonpositive_double(logits[c] - highest) : 0.0;
    for (int32_t i = 0; i < min(kWarp, num_channels + 1 - first); ++i) {
      total += __shfl_sync(kAllLanes, term, i);
    }
  }
  if (lane == 0) {
    const double chosen = exp_nonpositive_double(logits[largest.channel] - highest);
    category[slot] = classes.class_id[largest.channel];
    confidence[slot] = static_cast<float>(chosen / total);
  }
}

// What the threads of an image's block share: of each slot.
struct SlotDecision {
  double score[kMaxSlots];
  int32_t category[kMaxSlots];
  int32_t rank[kMaxSlots];
  int32_t order[kMaxSlots];  // the confident slots, best first
  int32_t taken[kMaxSlots];  // pixels of the mask that belong to masks pasted before
  int32_t area[kMaxSlots];   // pixels of the mask; then those that the slot is given
};

// The logarithm of class probability ** weight * mean mask probability ** weight.
__device__ __forceinline__ double score_slot(const SlotLimits& limits, float confidence,
                                             unsigned long long unit, int32_t count) {
  constexpr double kNothing = -std::numeric_limits<double>::infinity();
  double score = 0.0;
  if (limits.class_weight > 0.0) {
    const double probability = static_cast<double>(confidence);
    score += probability > 0.0 ? log_positive(probability) * limits.class_weight : kNothing;
  }
  if (limits.mask_weight > 0.0) {
    const double number = static_cast<double>(max(count, 1));
    const double mean = static_cast<double>(unit) / (number * kProbabilityScale);
    score += mean > 0.0 ? log_positive(mean) * limits.mask_weight : kNothing;
  }
  return score;
}

// Thread s finds the place of slot s among all, and of a confident slot among those.
//
// Returns how many are confident. All threads of the block call it.
__device__ __forceinline__ int32_t rank_slots(SlotDecision& shared, int32_t num_slots, bool exists,
                                              bool has_confidence) {
  const int32_t s = static_cast<int32_t>(threadIdx.x);
  int32_t rank = 0;
  for (int32_t other = 0; exists && other < num_slots; ++other) {
    rank += shared.score[other] > shared.score[s] ||
            (shared.score[other] == shared.score[s] && other < s);
  }
  if (exists) {
    shared.rank[s] = has_confidence ? rank : num_slots;
  }
  const int32_t num_confident = __syncthreads_count(has_confidence);
  int32_t place = 0;
  for (int32_t other = 0; has_confidence && other < num_slots; ++other) {
    place += shared.rank[other] < rank;
  }
  if (has_confidence) {
    shared.order[place] = s;
  }
  __syncthreads();
  if (exists) {
    shared.rank[s] = rank;
  }
  return num_confident;
}

// Pastes the masks in their order. Thread s keeps count of the pixels that slot s loses.
__device__ __forceinline__ void paste_masks(SlotDecision& shared, const int32_t* pair,
                                            int32_t num_slots, int32_t num_confident,
                                            float overlap_threshold) {
  // Rows that are read at a time, so that their latencies overlap.
  constexpr int32_t kRows = 8;
  const int32_t own = static_cast<int32_t>(threadIdx.x);
  const int32_t column = min(own, num_slots - 1);
  int32_t given = 0;
  for (int32_t first = 0; first < num_confident; first += kRows) {
    int32_t both[kRows];
    for (int32_t i = 0; i < kRows; ++i) {
      const int64_t s = shared.order[min(first + i, num_confident - 1)];
      both[i] = pair[s * num_slots + column];
    }
#pragma unroll
    for (int32_t i = 0; i < kRows; ++i) {
      if (first + i >= num_confident) {
        break;
      }
      const int32_t s = shared.order[first + i];
      const int32_t all = shared.area[s], free = all - shared.taken[s];
      // The same for all threads.
      if (static_cast<float>(free) > static_cast<float>(all) * overlap_threshold) {
        given = own == s ? free : given;
        if (own < num_slots && own != s) {
          shared.taken[own] += both[i];
        }
      }
      // Also after a mask that is left out: others may still read what the next one changes.
      __syncthreads();
    }
  }
  if (own < num_slots) {
    shared.area[own] = given;
  }
}

// Row s of the segment table is the thing of slot s, row S + c the stuff class c.
__device__ __forceinline__ void write_row(const SlotDecision& shared, const SlotLimits& limits,
                                          const ThingFlags& flags, int32_t num_slots, int32_t row,
                                          const float* confidence, const SlotColumns& columns,
                                          int64_t index) {
  const bool is_own = row < num_slots;
  const int32_t category = is_own ? shared.category[row] : row - num_slots;
  int64_t class_unit = 0;
  int32_t area = 0, most = -1, most_slot = -1;
  for (int32_t s = is_own ? row : 0; s < (is_own ? row + 1 : num_slots); ++s) {
    if (shared.category[s] != category || is_thing(flags, category) != is_own) {
      continue;
    }
    const int32_t slot_area = shared.area[s];
    area += slot_area;
    class_unit += static_cast<int64_t>(slot_area) * probability_units(confidence[s]);
    most_slot = slot_area > most ? s : most_slot;
    most = max(slot_area, most);
  }
  const int64_t limit = is_own ? limits.thing_area_limit : limits.stuff_area_limit;
  const bool is_absent = area == 0 || area < limit;
  const int64_t number = is_own ? shared.rank[row] + 1 : 0;
  const double unit = static_cast<double>(area) * kProbabilityScale;
  columns.label[index] =
      is_absent ? kVoid : static_cast<int32_t>(category * limits.label_divisor + number);
  columns.category[index] = is_absent ? kVoid : category;
  columns.area[index] = is_absent ? 0 : area;
  columns.segment_slot[index] = is_absent ? -1 : most_slot;
  columns.probability[index] =
      is_absent ? 0.0f : static_cast<float>(static_cast<double>(class_unit) / unit);
  for (int i = 0; i < 4; ++i) {
    columns.box[4 * index + i] = i < 2 ? std::numeric_limits<int32_t>::max() : -1;
  }
}

// A block an image, of at least S threads. Decides which slot has which segment, which masks are
// pasted, and writes the segment table but for boxes (which it makes empty) and objectness.
__global__ void __launch_bounds__(kMaxSlots, 1)
    decide_kernel(int32_t num_slots, int32_t num_classes, const __grid_constant__ SlotLimits limits,
                  const __grid_constant__ ThingFlags flags, SlotWorkspace work,
                  SlotColumns columns) {
  __shared__ SlotDecision shared;
  const int64_t image = blockIdx.x, first_slot = image * num_slots;
  const int64_t first_row = image * (num_slots + num_classes);
  const int32_t s = static_cast<int32_t>(threadIdx.x);
  const bool exists = s < num_slots;
  const int64_t slot = first_slot + min(s, num_slots - 1);
  if (exists) {
    shared.category[s] = work.category[slot];
    shared.area[s] = work.area[slot];
    shared.taken[s] = 0;
    shared.rank[s] = s;
    shared.score[s] =
        score_slot(limits, columns.confidence[slot], work.mask_unit[slot], work.mask_count[slot]);
  }
  __syncthreads();
  if (limits.is_mask_wise) {
    const bool has_confidence =
        exists && is_confident(limits, flags, shared.category[s], columns.confidence[slot]);
    const int32_t num_confident = rank_slots(shared, num_slots, exists, has_confidence);
    paste_masks(shared, work.pair + first_slot * num_slots, num_slots, num_confident,
                limits.overlap_threshold);
    __syncthreads();
  }
  for (int32_t row = s; row < num_slots + num_classes; row += blockDim.x) {
    write_row(shared, limits, flags, num_slots, row, columns.confidence + first_slot, columns,
              first_row + row);
  }
  __syncthreads();
  if (exists) {
    const int32_t category = shared.category[s];
    const int32_t row = is_thing(flags, category) ? s : num_slots + category;
    columns.rank[slot] = shared.rank[s];
    work.priority[slot] = shared.area[s] > 0 ? shared.rank[s] : kNever;
    work.row[slot] = columns.area[first_row + row] > 0 ? row : -1;
  }
}

// A thread a row: what was added up of its pixels.
__global__ void finish_kernel(int64_t num_rows, const unsigned long long* units,
                              SlotColumns columns) {
  const int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (row >= num_rows) {
    return;
  }
  const int32_t area = columns.area[row];
  const double unit = static_cast<double>(max(area, 1)) * kProbabilityScale;
  columns.objectness[row] = static_cast<float>(static_cast<double>(units[row]) / unit);
  for (int i = 0; i < 4; ++i) {
    int32_t& side = columns.box[4 * row + i];
    side = area == 0 ? 0 : side + (i >= 2);
  }
}

}  // namespace
}  // namespace deeplab2_d2
